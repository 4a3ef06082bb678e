"""The sample written raw and prepared is the sample written prepared."""

import json

import numpy as np
import pytest
import torch

from hvs.data import PairDataset, find_sequences

RAW = ["panoptic-raw", "panoptic-raw-openpose", "human36m-raw"]
# What H.264 and a second JPEG of quality 95 take: either errs by about one step in 255, which is 48 dB.
LEAST_PSNR = 42.0
# In the official reconstructions nobody has marked the crown.
ABSENT = {"panoptic-raw": [18]}


@pytest.fixture(params=RAW)
def pair(request, sample, prepared):
    """Layout, and the sequences of it prepared from raw beside those that were written prepared."""
    found = find_sequences(prepared(request.param), "all")
    wanted = find_sequences(sample(request.param.partition("-")[0]), "all")
    assert len(found) == len(wanted) == 2
    return request.param, list(zip(found, wanted, strict=True))


def each(sequences):
    for found, wanted in sequences:
        assert found.views == wanted.views and len(found.views) == 3
        for view in found.views:
            for frame in range(6):
                yield found, wanted, view, frame


def test_cameras(pair):
    for found, wanted in pair[1]:
        for view in wanted.views:
            a, b = found.camera(view), wanted.camera(view)
            assert (a.height, a.width) == (b.height, b.width)
            for name in ("K", "R", "t", "distortion"):
                torch.testing.assert_close(getattr(a, name), getattr(b, name), rtol=1e-6, atol=1e-6)


def test_points(pair):
    for found, wanted in pair[1]:
        for frame in range(6):
            (a, a_valid), (b, b_valid) = found.points(frame), wanted.points(frame)
            assert torch.equal(a_valid, b_valid)
            assert (a - b)[b_valid].norm(dim=-1).max() < 1e-4


def test_keypoints(pair):
    layout, sequences = pair
    for found, wanted, view, frame in each(sequences):
        (a, a_seen), (b, b_seen) = found.keypoints(view, frame), wanted.keypoints(view, frame)
        b_seen[ABSENT.get(layout, [])] = False
        assert torch.equal(a_seen, b_seen)
        assert (a - b)[b_seen].norm(dim=-1).max() < 0.05


def test_images_and_masks(pair):
    for found, wanted, view, frame in each(pair[1]):
        a, b = (np.asarray(sequence.image(view, frame), float) for sequence in (found, wanted))
        assert 10 * np.log10(255**2 / ((a - b) ** 2).mean()) > LEAST_PSNR
        assert np.array_equal(*(np.asarray(sequence.mask(view, frame)) for sequence in (found, wanted)))


def test_data_sets_read_it(pair):
    _, sequences = pair
    root = sequences[0][0].folder.parents[2]
    dataset = PairDataset(root, "train", input_resolution=32, target_resolution=48)
    assert len(dataset) == 4 * 9 and dataset[0]["image_b"].shape == (3, 48, 48)


def test_labels_are_stored_as_the_original_has_them(pair):
    for found, wanted in pair[1]:
        layout, view = found.layout, found.views[0]
        for place, args in ((layout.keypoints, (view,)), (layout.points, ())):
            a, b = found.store(place, *args), wanted.store(place, *args)
            assert a.frames == b.frames == list(range(6)) and a.protocol == 4
            assert len(a[3]) == len(b[3])


def test_how_it_was_made_is_noted(prepared):
    for layout, poses in (("panoptic-raw", "official"), ("panoptic-raw-openpose", "OpenPose"), ("human36m-raw", "CPN")):
        file = next(prepared(layout).rglob("Preparation/settings.json"))
        assert poses in json.loads(file.read_text())["poses"]
