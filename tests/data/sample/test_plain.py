"""The sample as plain files is the sample in the prepared layout."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from hvs.data import PairDataset, PoseDataset, find_sequences
from hvs.data.sample import make_sample


@pytest.fixture(scope="module")
def plain(model, small, tmp_path_factory):
    return make_sample(tmp_path_factory.mktemp("sample") / "plain", small, "plain")


def test_the_same_capture_as_in_the_prepared_layout(plain, panoptic):
    for subjects in ("known", "unknown"):
        (one,), (other,) = find_sequences(panoptic, subjects), find_sequences(plain, subjects)
        assert one.views == other.views and one.intervals == other.intervals
        for view in one.views:
            a, b = one.camera(view), other.camera(view)
            assert torch.equal(a.K, b.K) and torch.equal(a.t, b.t) and torch.equal(a.distortion, b.distortion[:5])
            assert torch.equal(a.R, b.R)
            assert torch.equal(one.image(view, 4), other.image(view, 4))
            assert torch.equal(one.mask(view, 4), other.mask(view, 4))
            (a, seen), (b, found) = one.keypoints(view, 4), other.keypoints(view, 4)
            assert torch.equal(seen, found) and (a - b).abs().max() < 0.05
        for frame in range(6):
            (a, _), (b, found) = one.points(frame), other.points(frame)
            assert found.all() and (a - b).norm(dim=-1).max() < 1e-4
        assert np.allclose(other.layout.up, (0, -1, 0), atol=1e-3)


def test_readers_read_it(plain):
    pairs = PairDataset(plain, "test", "unknown", input_resolution=32, target_resolution=48)
    assert len(pairs) == 3 * 9
    pair = pairs[5]
    # Crops follow the person, who is tall.
    assert 0.1 < pair["mask_b"].mean() < 0.6 and pair["valid"].all()
    assert len(PoseDataset(plain)) == 4 * 3


def test_files_are_those_of_other_programs(plain):
    folder = plain / "subject1_take1"
    assert sorted(path.name for path in folder.iterdir()) == ["cameras.json", "images", "keypoints", "masks"]
    with Image.open(folder / "masks/02/000003.png") as mask:
        assert mask.mode == "L" and set(np.unique(mask)) == {0, 255}
    value = json.loads((folder / "keypoints/02/000000000003_keypoints.json").read_text())
    assert len(value["people"][0]["pose_keypoints_2d"]) == 405
