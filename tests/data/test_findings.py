"""What is measured in single frames."""

import math

import pytest
import torch

from hvs.data import find_sequences
from hvs.data.findings import Findings, median, placed

EVERYTHING = {"images", "masks", "2D", "3D"}


@pytest.fixture
def sequence(capture):
    return find_sequences(capture.root, "all")[0]


def test_a_frame_is_measured(sequence):
    view = sequence.views[0]
    frame = sequence.available(sequence.layout.points)[0]
    found, camera = Findings(), sequence.camera(view)
    assert found.look_at(sequence, view, camera, frame, EVERYTHING) == []
    keypoints, seen = sequence.keypoints(view, frame)
    points, valid = sequence.points(frame)
    seen[list(sequence.layout.not_projected)] = False
    wanted = (camera.project(points) - keypoints).norm(dim=-1)[seen & valid]
    torch.testing.assert_close(found.distances, [wanted])
    torch.testing.assert_close(found.covered, [sequence.mask(view, frame)[0].float().mean()[None]])
    low, high = points[valid].aminmax(dim=0)
    torch.testing.assert_close(found.extents, [(high - low).norm()[None]])
    assert found.complete == {frame}


def test_only_what_is_there_is_read(sequence):
    found, view = Findings(), sequence.views[0]
    assert found.look_at(sequence, view, sequence.camera(view), 10**6, set()) == []
    assert found == Findings()


def test_what_cannot_be_read_is_told(sequence):
    found, view = Findings(), sequence.views[0]
    faults = found.look_at(sequence, view, sequence.camera(view), 10**6, EVERYTHING)
    assert len(faults) == 3 and all("1000000" in fault for fault in faults)
    assert found == Findings()


def test_joints_with_a_place_are_counted(sequence):
    parts = placed(sequence)
    assert len(parts) == len(sequence.available(sequence.layout.points))
    assert median(parts) > 0.9


def test_the_median_of_nothing_exceeds_no_bound():
    assert math.isnan(median([])) and math.isnan(median([torch.empty(0)]))
    assert median([torch.tensor([1.0, 9.0]), torch.tensor([2.0])]) == 2.0
