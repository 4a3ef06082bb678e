"""Pairs and poses: which there are, what they hold, and samples that are even."""

import itertools
import pickle
from collections import Counter

import pytest
import torch
from torch.utils.data import DataLoader

from hvs.data import PairDataset, PoseDataset, collate, even_subset
from hvs.data.stores import DataError, write_store

BOTH = pytest.mark.parametrize("layout", ["panoptic", "human36m"])


@pytest.fixture
def written(request, layout):
    return request.getfixturevalue({"panoptic": "capture", "human36m": "human36m"}[layout])


def write_images(capture, view, frames):
    capture.write_view(capture.names[0], view, frames=frames)


def names(dataset):
    return [f"{s.name}/{frame}/{'-'.join(views)}" for s, frame, views in map(dataset.index.locate, range(len(dataset)))]


def test_every_pair_frame_by_frame(capture):
    dataset = PairDataset(capture.root)
    views = ["00", "01", "02"]
    wanted = [f"ann/Subsequences/0/{f}/{a}-{b}" for f in range(4) for a in views for b in views]
    assert names(dataset) == wanted and len(dataset) == 36
    small = PairDataset(capture.root, "test", "all", input_resolution=8, target_resolution=8)
    assert [item["name"] for item in small] == names(small)
    assert len(small) == (2 + 8) * 9


def test_a_pair_needs_its_own_views_only(capture):
    """Frame 1 lacks view 02, frame 2 lacks 00 and 02, frame 3 has no 3D pose."""
    write_images(capture, 2, [0, 3])
    write_images(capture, 0, [0, 1, 3])
    capture.frames.remove(3)
    capture.write_points(capture.names[0])
    wanted = {0: ["00", "01", "02"], 1: ["00", "01"], 2: ["01"]}
    pairs = [(f, a, b) for f, views in wanted.items() for a, b in itertools.product(views, views)]
    assert names(PairDataset(capture.root)) == [f"ann/Subsequences/0/{f}/{a}-{b}" for f, a, b in pairs]
    # The 2D poses are still there.
    assert len(PoseDataset(capture.root)) == 9


@BOTH
def test_pair(written, layout):
    dataset = PairDataset(written.root, input_resolution=24, target_resolution=40)
    pair = dataset[1 * 9 + 2 * 3 + 1]
    joints = len(dataset.layout.skeleton.joints)
    assert pair["name"] == f"{written.names[0]}/1/02-01" and pair["skipped"] == 0
    assert pair["where"] == (written.names[0], 1, "02", "01")
    shapes = {key: tuple(value.shape) for key, value in pair.items() if isinstance(value, torch.Tensor)}
    assert shapes == {
        "image_a": (3, 24, 24),
        "image_b": (3, 40, 40),
        "mask_a": (1, 24, 24),
        "mask_b": (1, 40, 40),
        "keypoints_a": (joints, 2),
        "confidence_a": (joints,),
        "resolution_a": (2,),
        "points": (joints, 3),
        "valid": (joints,),
        "skipped": (),
    }
    assert (pair["camera_a"].height, pair["camera_b"].width) == (24, 40)
    assert pair["confidence_a"].dtype == pair["valid"].dtype == torch.bool
    assert pair["resolution_a"].tolist() == list(written.size)
    keypoints, _ = dataset.sequences[0].keypoints("02", 1)
    assert torch.equal(pair["keypoints_a"], keypoints)


@BOTH
@pytest.mark.parametrize(("side", "view"), [("a", "02"), ("b", "01")])
def test_pixels_agree_with_the_camera(written, layout, side, view):
    """Red and green tell each pixel's place in the full frame: the crop's camera maps there what the frame's does."""
    dataset = PairDataset(written.root, input_resolution=30, target_resolution=30)
    pair = dataset[1 * 9 + 2 * 3 + 1]
    camera, full = pair[f"camera_{side}"], dataset.sequences[0].camera(view)
    inside = pair[f"mask_{side}"][0] > 0
    rays = camera.rays()[inside] * 3
    pixels = full.project(full.to_world(rays))
    seen = pair[f"image_{side}"][:2, inside].mT * 255 / 2
    assert inside.sum() > 100
    assert (seen - pixels).abs().mean() < 0.6
    background = torch.tensor(dataset.layout.skeleton.background)[:, None] / 255
    assert torch.allclose(pair[f"image_{side}"][:, ~inside], background, atol=1e-6)


def test_resize_convention_reaches_the_cameras(capture):
    centre, original = (
        PairDataset(capture.root, resize=resize, target_resolution=16)[0] for resize in ("centre", "original")
    )
    shift = centre["camera_b"].K - original["camera_b"].K
    # A crop of 64 pixels on 16: (16 / 64 - 1) / 2.
    assert torch.allclose(shift[:2, 2], torch.tensor(-0.375), atol=1e-5)
    assert torch.equal(centre["image_b"], original["image_b"])


def test_swapped_resolution_crops_the_image_that_is_there(human36m):
    wanted = PairDataset(human36m.root, input_resolution=16, target_resolution=16)[5]
    human36m.write_cameras(swapped=True)
    pair = PairDataset(human36m.root, input_resolution=16, target_resolution=16)[5]
    assert pair["resolution_a"].tolist() == list(human36m.size[::-1])
    assert torch.equal(pair["image_b"], wanted["image_b"])
    assert torch.equal(pair["camera_b"].K, wanted["camera_b"].K)


def test_index_bounds(capture):
    dataset = PairDataset(capture.root, input_resolution=8, target_resolution=8)
    assert dataset[-1]["name"] == dataset[35]["name"]
    for index in (36, -37):
        with pytest.raises(IndexError):
            dataset[index]


@BOTH
@pytest.mark.parametrize("context", [None, "fork"])
def test_batches(written, layout, context):
    dataset = PairDataset(written.root, input_resolution=8, target_resolution=16)
    loader = DataLoader(
        dataset, 12, collate_fn=collate, num_workers=2 if context else 0, multiprocessing_context=context
    )
    batches = list(loader)
    assert [len(batch["name"]) for batch in batches] == [12, 12, 12]
    batch, item = batches[1], dataset[15]
    assert batch["camera_b"].rays().shape == (12, 16, 16, 3)
    assert torch.equal(batch["camera_b"][3].K, item["camera_b"].K)
    for key, value in item.items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(batch[key][3], value), key


def test_dataset_is_pickled_small(capture):
    dataset = PairDataset(capture.root, input_resolution=8, target_resolution=8)
    first = dataset[0]
    data = pickle.dumps(dataset)
    assert len(data) < 50_000
    assert torch.equal(pickle.loads(data)[0]["image_b"], first["image_b"])


def test_even_subset_is_even(capture):
    dataset = PairDataset(capture.root, "test", "unknown")
    subset = even_subset(dataset, 24)
    assert len(subset) == len(set(subset.indices)) == 24
    chosen = [dataset.index.locate(index) for index in subset.indices]
    for what in (
        Counter(frame for _, frame, _ in chosen),
        Counter(views[0] for *_, views in chosen),
        Counter(views[1] for *_, views in chosen),
    ):
        # 24 items over 8 frames and 3 views; drawing again what came twice may unsettle it a little.
        fair = 24 / len(what)
        assert len(what) in (8, 3) and all(abs(count - fair) <= 2 for count in what.values())


def test_even_subset_spans_sequences(capture):
    dataset = PairDataset(capture.root, "test", "all")
    # Two test frames of one subject, eight of the other.
    chosen = [dataset.index.locate(index)[0].name for index in even_subset(dataset, 10).indices]
    assert Counter(chosen) == {capture.names[0]: 2, capture.names[1]: 8}


def test_even_subset_is_always_the_same_and_bounded(capture):
    dataset = PairDataset(capture.root)
    assert even_subset(dataset, 7).indices == even_subset(dataset, 7).indices
    assert even_subset(dataset, 35).indices != even_subset(dataset, 36).indices == list(range(36))
    assert even_subset(dataset, 1000).indices == list(range(36))
    assert len(even_subset(PoseDataset(capture.root), 5)) == 5


def test_split_without_frames(capture):
    with pytest.raises(DataError, match="no frame of split 'train' is in all of Images, Masks/SOLO, Poses/2D/BODY_135"):
        PairDataset(capture.root, "train", "unknown")
    write_store(capture.databases() / capture.layout.points, [])
    with pytest.raises(DataError, match="no frame of split 'val'"):
        PoseDataset(capture.root, "val")


def test_wrong_split(capture):
    with pytest.raises(ValueError, match="split: got 'validation', wanted one of train, val, test"):
        PairDataset(capture.root, "validation")


def test_a_small_capture_is_decoded_once(capture, monkeypatch):
    dataset = PairDataset(capture.root, "train", input_resolution=32, target_resolution=48)
    first = [dataset[i] for i in range(12)]
    monkeypatch.setattr("hvs.data.datasets.load_view", None)
    for one, other in zip(first, (dataset[i] for i in range(12)), strict=True):
        assert one["name"] == other["name"]
        for name in ("image_a", "image_b", "mask_a", "mask_b", "keypoints_a"):
            assert torch.equal(one[name], other[name])


def test_a_large_capture_is_not_kept(capture, monkeypatch):
    monkeypatch.setattr("hvs.data.datasets.KEPT_BYTES", 1000)
    dataset = PairDataset(capture.root, "train", input_resolution=32, target_resolution=32)
    assert torch.equal(dataset[0]["image_a"], dataset[0]["image_a"])
    monkeypatch.setattr("hvs.data.datasets.load_view", None)
    with pytest.raises(TypeError):
        dataset[0]
