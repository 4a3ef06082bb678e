"""A whole capture looked through: counts, and every kind of fault found where it is."""

import io
import json
import math
import os
import pickle
import re
import shutil
import signal
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from hvs.data import checking
from hvs.data.checking import check
from hvs.data.plain import sequence as plain_sequence
from hvs.data.stores import DataError, Store, pack_label, write_store
from tests.captures import Capture, jpeg
from tests.data.plain.conftest import PlainCapture


def reports(root, **options):
    found = check(root, **{"workers": 1} | options)
    by_name = {(report.sequence, report.view): report for report in found}
    assert len(by_name) == len(found)
    return by_name


def faults(capture):
    return [fault for report in reports(capture.root).values() for fault in report.faults]


def rewrite(path, change):
    """Write a database again with some of its values changed, or left out where the change gives None."""
    store = Store(path)
    items = [(frame, change(frame, store[frame])) for frame in store.frames]
    write_store(path, [(frame, value) for frame, value in items if value is not None])


@pytest.mark.parametrize(("layout", "workers"), [("capture", 1), ("human36m", 1), ("human36m", 2)])
def test_a_good_capture_has_no_faults(request, layout, workers):
    capture = request.getfixturevalue(layout)
    found = reports(capture.root, workers=workers)
    assert list(found) == [(name, view) for name in capture.names for view in capture.views]
    for report in found.values():
        assert report.faults == [] and report.usable == 8
        assert report.counts == {"images": 8, "masks": 8, "2D": 8, "3D": 8}
        assert report.distance < 0.01


def test_views_that_are_checked_together_share_triangulated_poses(tmp_path, monkeypatch):
    """Of a long sequence, triangulating takes many times as long as reading a view."""

    class Copying(checking.Workers):
        """Hands on copies of the tasks, as other processes would get them."""

        def run(self, tasks, tick):
            return super().run([pickle.loads(pickle.dumps(task)) for task in tasks], tick)

    triangulated = []

    def triangulate(keypoints, confidence, cameras):
        triangulated.append(keypoints)
        return SimpleNamespace(points=torch.zeros(*keypoints.shape[1:-1], 3), confidence=torch.zeros(8, 135))

    monkeypatch.setattr(plain_sequence, "triangulate", triangulate)
    monkeypatch.setattr(checking, "Workers", Copying)
    capture = PlainCapture(tmp_path / "plain").write()
    # As many tasks as there are sequences.
    monkeypatch.setattr(checking, "TASKS", 2)
    assert len(reports(capture.root)) == 6 and len(triangulated) == 2


def test_a_swapped_resolution_is_no_fault(human36m):
    """A joint just beyond the right edge would be inside of a picture as wide as this one is high."""

    def label(view, frame):
        label = human36m.keypoint_label(view, frame)
        label[3, 0] = human36m.size[0]
        return label

    for name in human36m.names:
        human36m.write_cameras(name, swapped=True)
        human36m.write_keypoints(name, 1, label)
    assert faults(human36m) == []


def test_broken_pictures_are_found_each(capture):
    folder = capture.databases()
    rewrite(folder / "Images/01.lmdb", lambda frame, data: data[:-100] if frame in (2, 5) else data)
    rewrite(folder / "Masks/SOLO/02.lmdb", lambda frame, data: b"text" if frame == 7 else data)
    found = faults(capture)
    assert len(found) == 3
    assert "Images/01.lmdb: frame 2: a damaged picture" in found[0]
    assert "Images/01.lmdb: frame 5: a damaged picture" in found[1]
    assert "SOLO/02.lmdb: frame 7: not a readable JPEG or PNG" in found[2]


def test_missing_databases(capture):
    folder = capture.databases()
    shutil.rmtree(folder / "Masks/SOLO/01.lmdb")
    shutil.rmtree(folder / "Images/02.lmdb")
    found = reports(capture.root)
    name = capture.names[0]
    assert found[name, "01"].counts["masks"] is None and found[name, "01"].usable == 0
    assert "Masks/SOLO/01.lmdb: no LMDB database here" in found[name, "01"].faults[0]
    assert found[name, "02"].faults == [f"{capture.root / name}: view 02: no images, so it is not used"]
    assert found[name, "00"].faults == []


@pytest.mark.parametrize(("lost", "wrong"), [(2, False), (3, True)])
def test_many_missing_frames_are_a_fault_and_few_are_not(tmp_path, lost, wrong):
    """Frames with nobody in them are dropped when a capture is prepared."""
    capture = Capture(tmp_path / "capture", names=("ann",), views=1, frames=20).write()
    rewrite(capture.databases() / "Images/00.lmdb", lambda frame, data: None if frame < lost else data)
    (report,) = reports(capture.root).values()
    assert report.counts["images"] == report.usable == 20 - lost
    fault = f"view 00: the numbers of frames differ ({20 - lost} images, 20 masks, 20 2D)"
    assert [text.endswith(fault) for text in report.faults] == [True] * wrong


def test_sequences_that_cannot_be_opened(capture):
    (capture.root / capture.names[0] / "cameras.json").write_text("{")
    found = reports(capture.root)
    assert "cameras.json: not a readable JSON file" in found[capture.names[0], ""].faults[0]
    assert len(found) == 4 and all(not found[capture.names[1], view].faults for view in capture.views)


def test_missing_and_wrong_cameras(capture):
    def change(entries):
        del entries["00"]
        entries["01"]["t"], entries["02"]["R"] = [[0], [0], [9]], entries["01"]["R"]

    capture.write_cameras(change=change)
    found = faults(capture)
    assert len(found) == 3
    assert "cameras.json: view 00 is missing" in found[0]
    assert all("px away from the 2D ones" in fault for fault in found[1:])


def test_broken_and_hostile_labels(capture):
    folder = capture.databases()
    rewrite(folder / capture.layout.points, lambda frame, data: b"cos\nsystem\n(S'true'\ntR." if frame == 1 else data)
    nan = pack_label(torch.full((135, 3, 1), math.nan))
    rewrite(folder / capture.layout.keypoints / "00.lmdb", lambda frame, data: nan if frame == 4 else data)
    found = reports(capture.root)
    for view in capture.views:
        (fault,) = found[capture.names[0], view].faults
        assert "Reconstructed.lmdb: frame 1: unreadable pickle" in fault


def test_frames_that_no_split_lists(capture):
    capture.entry["known"][0] |= {"train": [[100, 200]], "val": [], "test": []}
    capture.write_splits()
    found = faults(capture)
    assert len(found) == 3 and all("no frame of any split is in all of images, masks, 2D, 3D" in f for f in found)


def test_frames_of_two_splits(capture):
    """Intervals hold both of their ends."""
    capture.entry["known"][0] |= {"train": [[0, 4]], "val": [[4, 6]], "test": [[0, 1], [7, 7]]}
    capture.write_splits()
    assert faults(capture) == [
        f"{capture.root / capture.names[0]}: frames in both train and val: 1, beginning with 4",
        f"{capture.root / capture.names[0]}: frames in both train and test: 2, beginning with 0",
    ]


def test_nobody_is_both_known_and_unknown(capture):
    """Scores of strangers would be those of people that were trained on."""
    capture.entry["unknown"] += capture.entry["known"]
    capture.write_splits()
    [fault] = [fault for report in check(capture.root, workers=1) for fault in report.faults]
    assert f"{capture.names[0]} is listed 2 times, wanted once" in fault


def test_a_split_of_frames_that_are_not_there(tmp_path):
    """Other sequences may have some, so that training goes on without this one; an inverted interval means none."""
    plain = PlainCapture(tmp_path / "plain").write()
    intervals = {"train": [[600, 900], [950, 999]], "val": [[4, 3]], "test": [[0, 7]]}
    splits = {"known": [{"sequence": "ann", **intervals}], "unknown": []}
    (plain.root / "splits.json").write_text(json.dumps(splits))
    (fault,) = plain_faults(plain)
    assert fault == f"{plain.folder}: no picture of any frame of train, which lists 600 to 900, 950 to 999"


def test_no_capture(tmp_path):
    with pytest.raises(DataError, match="nowhere: no such folder"):
        check(tmp_path / "nowhere")


def inverted(data):
    pixels = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    return jpeg(255 - pixels)


@pytest.mark.parametrize("change", [inverted, lambda data: jpeg(np.zeros((64, 96, 3)))], ids=["inverted", "black"])
def test_masks_of_something_else_than_the_person(capture, change):
    for view in capture.views:
        rewrite(capture.databases() / f"Masks/SOLO/{view}.lmdb", lambda frame, data: change(data))
    found = faults(capture)
    assert len(found) == 3
    assert all(re.search("view 0.: [0-9]+% of the 2D joints are inside the mask, wanted 50%", fault) for fault in found)


@pytest.mark.parametrize(("black", "told"), [(1, False), (3, True)])
def test_some_black_masks(tmp_path, black, told):
    capture = Capture(tmp_path / "capture", names=("ann",), views=1, frames=20).write()
    nobody = jpeg(np.zeros((64, 96, 3)))
    rewrite(capture.databases() / "Masks/SOLO/00.lmdb", lambda frame, data: nobody if frame < black else data)
    wanted = "view 00: in 15% of the frames no 2D joint is inside the mask, wanted at most 10%: black masks?"
    assert [fault.endswith(wanted) for fault in faults(capture)] == [True] * told


def test_masks_that_are_white_throughout(capture):
    for view in capture.views:
        white = jpeg(np.full((64, 96, 3), 255))
        rewrite(capture.databases() / f"Masks/SOLO/{view}.lmdb", lambda frame, data, white=white: white)
    found = faults(capture)
    wanted = "masks are white in 100% of the picture, wanted at most 90%: not masks of a person?"
    assert len(found) == 3 and all(fault.endswith(wanted) for fault in found)


def be_killed(sequence, view, tick):
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_worker_is_one_line(capture, monkeypatch):
    monkeypatch.setattr(checking, "_check_views", be_killed)
    with pytest.raises(DataError, match="^workers: one was killed, perhaps for lack of memory"):
        check(capture.root, workers=2)


def test_no_workers(capture):
    with pytest.raises(DataError, match="^workers: got 0, wanted at least 1$"):
        check(capture.root, workers=0)


def test_files_of_one_view_that_cannot_be_listed_do_not_hide_the_others(tmp_path):
    plain = PlainCapture(tmp_path / "plain").write()
    entries = [{"sequence": name, "train": [[0, 99]], "val": [], "test": []} for name in ("ann", "bob")]
    (plain.root / "splits.json").write_text(json.dumps({"known": entries, "unknown": []}))
    again = plain.folder / "images/01/again_000002.jpg"
    shutil.copy(plain.file("images"), again)
    (plain.folder / "images/02/000003.jpg").write_text("")
    found = reports(plain.root)
    fault = f"{plain.folder / 'images/01'}: two files of frame 2, 000002.jpg and again_000002.jpg"
    assert found["ann", "00"].faults == found["ann", "01"].faults == [fault]
    assert [text.partition(": ")[2] for text in found["ann", "02"].faults] == [
        "two files of frame 2, 000002.jpg and again_000002.jpg",
        "not a readable JPEG or PNG (0 bytes)",
    ]
    assert found["bob", "00"].faults == [] and found["bob", "00"].usable == 8


def test_another_unit_of_length(tmp_path):
    """Everything a thousand times as large looks the same from everywhere."""
    plain = PlainCapture(tmp_path / "plain").write()
    change_cameras(plain, lambda camera: camera | {"t": [1000 * x for x in np.ravel(camera["t"])]})
    (fault,) = plain_faults(plain)
    assert "people are" in fault and "m across, wanted 0.3 to 3.5 m: another unit of length?" in fault


def test_people_on_their_heads(tmp_path):
    """As they are if up points down, or if rows of COCO's 17 joints are taken for Human3.6M's."""
    plain = PlainCapture(tmp_path / "plain")
    # Shoulders and hips; the cameras' y axes point down.
    plain.source.world[:, [5, 6, 11, 12], 1] = torch.tensor([-0.5, -0.5, 0.5, 0.5])
    plain.write()
    assert plain_faults(plain) == []
    (plain.folder / "capture.json").write_text('{"up": [0, 1, 0]}')
    (fault,) = plain_faults(plain)
    assert "people stand on their heads: another direction that is up, or joints in another order?" in fault


def test_cameras_by_which_nothing_fits_together(tmp_path):
    plain = PlainCapture(tmp_path / "plain").write()

    def from_camera_to_world(camera):
        R = np.array(camera["R"])
        return camera | {"R": R.T.tolist(), "t": (-R.T @ np.ravel(camera["t"])).tolist()}

    change_cameras(plain, from_camera_to_world)
    (plain.folder / "capture.json").write_text('{"up": [0, -1, 0]}')
    (fault,) = plain_faults(plain)
    assert (
        "0% of the joints that two views see have a 3D position, wanted 30%: other cameras, or another unit of length?"
        in fault
    )


def test_a_camera_that_sees_little_of_somebody_is_no_fault(tmp_path):
    plain = PlainCapture(tmp_path / "plain").write()
    shutil.rmtree(plain.folder / "images/02")
    shutil.rmtree(plain.folder / "masks/02")
    shutil.rmtree(plain.folder / "keypoints/02")
    for file in (plain.folder / "keypoints/01").iterdir():
        content = json.loads(file.read_text())
        for person in content["people"]:
            pose = person["pose_keypoints_2d"]
            person["pose_keypoints_2d"] = pose[:60] + [0.0] * (len(pose) - 60)
        file.write_text(json.dumps(content))
    assert plain_faults(plain) == []


@pytest.mark.parametrize(
    "change",
    [lambda people: [], lambda people: [{**people[0], "pose_keypoints_2d": [0.2] * 405}]],
    ids=["nobody", "no confidence"],
)
def test_a_view_without_a_person_to_train_on(tmp_path, change):
    plain = PlainCapture(tmp_path / "plain").write()
    for file in (plain.folder / "keypoints/01").iterdir():
        content = json.loads(file.read_text())
        file.write_text(json.dumps(content | {"people": change(content["people"])}))
    (fault,) = plain_faults(plain)
    wanted = "view 01: no frame has keypoints that count inside the image and a root joint in 3D"
    assert fault == f"{plain.folder}: {wanted}"


def test_poses_without_a_root_joint(capture):
    """Training refuses them, whatever else is right."""
    root = capture.layout.skeleton.root

    def rootless(frame, data):
        points = capture.with_confidence(capture.world[frame])
        points[[5, 6, root], 3] = 0
        return pack_label(points)

    rewrite(capture.databases() / capture.layout.points, rootless)
    found = faults(capture)
    assert len(found) == 3 and all(fault.endswith("inside the image and a root joint in 3D") for fault in found)


def change_cameras(plain, change):
    file = plain.folder / "cameras.json"
    file.write_text(json.dumps({view: change(camera) for view, camera in json.loads(file.read_text()).items()}))


def plain_faults(plain):
    found = reports(plain.root)
    return [fault for (name, _), report in found.items() if name == "ann" for fault in report.faults]
