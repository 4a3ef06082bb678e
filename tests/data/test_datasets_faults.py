"""Data sets of captures in which something is missing or broken: passed over and told, or refused."""

import io
import pickle

import lmdb
import numpy as np
import pytest
import torch
from PIL import Image

from hvs.data import PairDataset, PoseDataset, collate
from hvs.data.stores import DataError, Store, write_store
from tests.captures import jpeg


def remove(capture, place, view, frame):
    """Take a frame out of a database, but leave it in the list of its frames."""
    path = capture.databases() / place / f"{view}.lmdb"
    with lmdb.open(str(path)) as environment, environment.begin(write=True) as transaction:
        assert transaction.delete(pickle.dumps(frame, 4))


def contents(path):
    store = Store(path)
    return {frame: store[frame] for frame in store.frames}


def names(dataset):
    return [f"{s.name}/{frame}/{'-'.join(views)}" for s, frame, views in map(dataset.index.locate, range(len(dataset)))]


def test_frames_without_keypoints_are_skipped_and_counted(capture):
    """View 01 sees nobody in frame 0: one joint is outside the image, the others are not sure."""

    def label(view, frame):
        label = capture.keypoint_label(view, frame)
        if frame == 0:
            label[:, 2] = 0.1
            label[7] = torch.tensor([[-30.0], [10.0], [1.0]])
        return label

    capture.write_keypoints(capture.names[0], 1, label)
    dataset = PairDataset(capture.root, input_resolution=8, target_resolution=8)
    for wanted, item in zip(names(dataset), dataset, strict=True):
        nobody = {"0/00-01", "0/01-00", "0/01-01", "0/01-02", "0/02-01"}
        places = [name.removeprefix(f"{capture.names[0]}/") for name in (wanted, item["name"])]
        assert places[1] not in nobody and item["faults"] == []
        assert (item["skipped"] > 0) == (places[0] in nobody) == (places[0] != places[1])


def test_an_empty_mask_is_nobody(capture):
    path = capture.databases() / "Masks/SOLO/01.lmdb"
    black = jpeg(np.zeros((64, 96, 3)))
    write_store(path, [(frame, black if frame == 0 else data) for frame, data in contents(path).items()])
    dataset = PairDataset(capture.root, input_resolution=8, target_resolution=8)
    for i, wanted in enumerate(names(dataset)):
        empty = wanted.startswith(f"{capture.names[0]}/0/") and "01" in wanted.rpartition("/")[2]
        assert (dataset.read(i)[0] is None) == empty and (dataset[i]["skipped"] > 0) == empty
        assert dataset[i]["mask_a"].any() and dataset[i]["mask_b"].any()


def test_a_replacement_comes_from_another_frame(capture):
    """Its neighbours are likely to have the same fault, and many in a row end a training."""
    for view in capture.views:
        remove(capture, "Images", view, 1)
    dataset = PairDataset(capture.root, input_resolution=8, target_resolution=8)
    for item in range(9, 18):
        pair = dataset[item]
        assert len(pair["faults"]) == 1 and pair["where"][1] != 1


def test_nobody_anywhere(capture):
    for view in range(3):
        capture.write_keypoints(capture.names[0], view, lambda view, frame: torch.zeros(135, 3, 1))
    with pytest.raises(DataError, match="no pair of views has enough of a person inside both images"):
        PairDataset(capture.root)[0]


def test_camera_missing_from_the_file(capture):
    capture.write_cameras(change=lambda entries: entries.pop("02"))
    with pytest.raises(DataError, match="ann/Subsequences/0/cameras.json: view 02 is missing"):
        PairDataset(capture.root)


def test_frame_without_image(capture):
    remove(capture, "Images", "01", 2)
    dataset = PairDataset(capture.root)
    pair = dataset[2 * 9 + 1]
    assert pair["faults"] == [f"{capture.databases()}/Images/01.lmdb: no frame 2"] and pair["skipped"] == 0
    assert pair["name"] != f"{capture.names[0]}/2/00-01"
    assert collate([dataset[0], pair])["faults"] == [[], pair["faults"]]


def test_every_broken_file_is_passed_over_and_told(capture):
    """Of a frame one image, of another the mask, of a third the 3D pose; what takes their place lies elsewhere."""
    folder = capture.databases()
    good = folder / "Images/02.lmdb"
    images = contents(good)
    write_store(good, (images | {0: images[0][:500]}).items())
    masks = contents(folder / "Masks/SOLO/01.lmdb")
    write_store(folder / "Masks/SOLO/01.lmdb", (masks | {1: b""}).items())
    points = contents(folder / capture.layout.points)
    write_store(folder / capture.layout.points, (points | {2: b"no pickle"}).items())
    dataset = PairDataset(capture.root, input_resolution=8, target_resolution=8)
    broken = {(0, "02"): "Images/02.lmdb: frame 0", (1, "01"): "SOLO/01.lmdb: frame 1"}
    broken |= {(2, view): "Reconstructed.lmdb: frame 2" for view in ("00", "01", "02")}
    every, told = names(dataset), set()
    for index, pair in enumerate(dataset):
        frame, views = int(every[index].split("/")[-2]), every[index].split("/")[-1].split("-")
        first = next((broken[frame, view] for view in views if (frame, view) in broken), None)
        assert (first is None) == (pair["name"] == every[index]) == (not pair["faults"])
        assert first is None or first in pair["faults"][0]
        told |= set(pair["faults"])
    assert len(told) == 3


@pytest.mark.parametrize(("limit", "message"), [(64, "no pair of views can be read"), (5, "5 unreadable pairs in")])
def test_nothing_that_can_be_read(capture, limit, message, monkeypatch):
    monkeypatch.setattr("hvs.data.datasets.MAX_FAULTS", limit)
    for view in capture.views:
        write_store(capture.databases() / f"Images/{view}.lmdb", [(frame, b"") for frame in capture.frames])
    with pytest.raises(DataError, match=f"{message}.*: not a readable JPEG"):
        PairDataset(capture.root)[3]


def test_mask_of_another_size_than_its_image(human36m):
    """Either order of the camera's resolution is taken, the one that the images have."""
    store = human36m.databases() / "Images/01.lmdb"
    image = Image.open(io.BytesIO(Store(store)[0])).transpose(Image.Transpose.ROTATE_90)
    file = io.BytesIO()
    image.save(file, "JPEG")
    write_store(store, [(frame, file.getvalue()) for frame in human36m.frames])
    pair = PairDataset(human36m.root, input_resolution=32, target_resolution=32)[1]
    assert "SOLO/01.lmdb: frame 0 is 50x51, its camera 51x50" in pair["faults"][0]


def test_database_missing(capture):
    path = capture.databases() / "Masks/SOLO/01.lmdb"
    path.rename(path.with_name("elsewhere"))
    with pytest.raises(DataError, match="SOLO/01.lmdb: no LMDB database here"):
        PairDataset(capture.root)
    assert len(PoseDataset(capture.root)) == 12


def test_database_truncated(capture):
    file = capture.databases() / "Images/01.lmdb/data.mdb"
    file.write_bytes(file.read_bytes()[:-5000])
    with pytest.raises(DataError, match="Images/01.lmdb: the LMDB database is truncated"):
        PairDataset(capture.root)
