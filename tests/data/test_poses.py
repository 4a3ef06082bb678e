"""Poses of single views: what they hold, one by one and all at once."""

import weakref
from functools import partial

import pytest
import torch

from hvs.data import PoseDataset, collate, poses
from hvs.data.stores import DataError, Store, write_store


@pytest.mark.parametrize("layout", ["capture", "human36m"])
def test_poses(request, layout):
    written = request.getfixturevalue(layout)
    dataset = PoseDataset(written.root)
    assert len(dataset) == 4 * 3
    pose = dataset[2 * 3 + 1]
    sequence, root = dataset.sequences[0], dataset.layout.skeleton.root
    points, _ = sequence.points(2)
    wanted = sequence.camera("01").to_camera(points)
    assert torch.allclose(pose["relative"], wanted - wanted[root], atol=1e-5)
    assert torch.equal(pose["keypoints"], sequence.keypoints("01", 2)[0])
    assert pose["confidence"].all() and pose["valid"].all()
    assert pose["resolution"].tolist() == list(written.size)


def test_relative_pose_needs_its_root(capture):
    """Frame 1 lacks a shoulder, and with it the root; frame 2 only an ankle."""

    def with_confidence(coordinates):
        frame = next(f for f in range(8) if torch.equal(coordinates, capture.world[f]))
        label = torch.cat((coordinates, torch.ones(135, 1)), 1)[..., None]
        label[{1: 5, 2: 16}.get(frame, 134), 3] = 0.0
        return label

    capture.with_confidence = with_confidence
    capture.write_points(capture.names[0])
    dataset = PoseDataset(capture.root)
    assert not dataset[3]["valid"].any() and not dataset[3]["relative"].any()
    valid = dataset[6]["valid"]
    assert not valid[16] and valid.sum() == 116 and not dataset[6]["relative"][16].any()


def begin(folder, worker):
    (folder / str(worker)).touch()


@pytest.mark.parametrize("workers", [0, 2])
def test_tensors_are_all_items(capture, workers, tmp_path, monkeypatch):
    monkeypatch.setattr(poses, "FRAMES_AT_ONCE", 3)
    capture.write_view(capture.names[0], 1, frames=[0, 2, 3])
    dataset, told = PoseDataset(capture.root, "test", "all"), []
    before = torch.get_rng_state()
    tensors, world, faults = dataset.tensors(workers, partial(begin, tmp_path), told.append)
    assert torch.equal(torch.get_rng_state(), before)
    items = collate(list(dataset))
    assert len(dataset) == 30 and faults == [] and tensors.keys() == items.keys()
    assert all(torch.equal(tensors[key], items[key]) for key in items)
    assert told == [3, 3, 3, 1]
    index = dataset.index
    assert torch.equal(world["owner"], torch.from_numpy(index.owners)) and len(world["owner"]) == 10
    for i, (owner, frame) in enumerate(zip(index.owners, index.frames, strict=True)):
        points, valid = dataset.sequences[owner].points(int(frame))
        assert torch.equal(world["points"][i], points) and torch.equal(world["valid"][i], valid)
    assert all((tmp_path / str(worker)).exists() for worker in range(workers))


def test_no_pose_is_kept_beside_the_tensors(capture, monkeypatch):
    """There may be millions."""
    monkeypatch.setattr(poses, "FRAMES_AT_ONCE", 1)
    made, alive = [], []
    make = PoseDataset._pose

    def counted(self, *labels):
        alive.append(sum(reference() is not None for reference in made))
        pose = make(self, *labels)
        made.append(weakref.ref(pose["relative"]))
        return pose

    monkeypatch.setattr(PoseDataset, "_pose", counted)
    PoseDataset(capture.root).tensors()
    # Those of one frame's three views.
    assert len(alive) == 12 and max(alive) <= 3


@pytest.mark.parametrize("frames", [1, 3, 32])
def test_poses_that_cannot_be_read_are_left_out_and_told(capture, frames, monkeypatch):
    folder = capture.databases()
    points = contents(folder / capture.layout.points)
    write_store(folder / capture.layout.points, (points | {2: b"no pickle"}).items())
    labels = contents(folder / capture.layout.keypoints / "01.lmdb")
    write_store(folder / capture.layout.keypoints / "01.lmdb", (labels | {0: b""}).items())
    monkeypatch.setattr(poses, "FRAMES_AT_ONCE", frames)
    tensors, world, faults = PoseDataset(capture.root).tensors()
    assert len(tensors["valid"]) == 12 - 3 - 1 and len(world["valid"]) == 4 - 1
    assert [fault.split(": ")[1] for fault in faults] == ["frame 0", "frame 2"]
    write_store(folder / capture.layout.points, [(frame, b"") for frame in capture.frames])
    with pytest.raises(DataError, match="no pose can be read: .*Reconstructed.lmdb: frame 3: unreadable pickle"):
        PoseDataset(capture.root).tensors()


def contents(path):
    store = Store(path)
    return {frame: store[frame] for frame in store.frames}
