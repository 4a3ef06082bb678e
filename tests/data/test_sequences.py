"""Prepared sequences of both layouts: what is read from them, and faults that name their file."""

import pickle

import numpy as np
import pytest
import torch

from hvs.data.captures import find_sequences
from hvs.data.stores import DataError, Store, pack_label, write_store
from hvs.geometry import skeletons

BOTH = pytest.mark.parametrize("layout", ["panoptic", "human36m"])


@pytest.fixture
def written(request, layout):
    return request.getfixturevalue({"panoptic": "capture", "human36m": "human36m"}[layout])


@BOTH
def test_camera(written, layout):
    sequence = find_sequences(written.root)[0]
    for view, wanted in zip(written.views, written.cameras, strict=True):
        camera = sequence.camera(view)
        assert (camera.width, camera.height) == written.size
        for name in ("K", "R", "t", "distortion"):
            value = getattr(camera, name)
            assert value.dtype == torch.float32 and torch.equal(value, getattr(wanted, name))


@BOTH
def test_pictures(written, layout):
    sequence = find_sequences(written.root)[0]
    image, mask = sequence.image("02", 5), sequence.mask("02", 5)
    assert np.abs(image.movedim(0, -1).numpy().astype(int) - written.image(2, 5)).max() <= 6
    assert mask.dtype == torch.bool and (mask[0].numpy() == (written.mask()[..., 0] > 0)).mean() > 0.98


def test_human36m_poses(human36m):
    sequence = find_sequences(human36m.root)[0]
    keypoints, confidence = sequence.keypoints("01", 3)
    points, valid = sequence.points(3)
    assert torch.equal(keypoints, human36m.cameras[1].project(human36m.world[3]))
    assert torch.equal(points, human36m.world[3])
    assert confidence.all() and valid.all() and valid.shape == (17,)


def test_panoptic_poses(capture):
    """Body, hands and part of the face; in 3D alone, root and head are means of other joints."""
    sequence = find_sequences(capture.root)[0]
    keypoints, confidence = sequence.keypoints("01", 3)
    points, valid = sequence.points(3)
    pixels, world = capture.cameras[1].project(capture.world[3]), capture.world[3]
    names = list(skeletons.PANOPTIC.joints)
    assert confidence.all() and valid.all() and valid.shape == (117,)
    rows = {"Nose": 0, "RAnkle": 16, "LThumb1CMC": 25, "RPinky4FingerTip": 64, "FaceContour5": 70, "FaceContour11": 76}
    rows |= {"REyeBrow0": 82, "IMouth7": 132}
    for name, row in rows.items():
        assert torch.equal(keypoints[names.index(name)], pixels[row])
        assert torch.equal(points[names.index(name)], world[row])
    assert torch.equal(keypoints[17:19], pixels[17:19])
    assert torch.allclose(points[names.index("Sternum")], world[5:7].mean(0))
    assert torch.allclose(points[names.index("Head")], world[1:5].mean(0))


@BOTH
def test_a_copy_in_another_process_reads_the_same(written, layout):
    sequence = find_sequences(written.root)[0]
    copy = pickle.loads(pickle.dumps(sequence))
    assert all(torch.equal(one, other) for one, other in zip(copy.points(3), sequence.points(3), strict=True))


def test_confidence_decides(capture):
    """Valid above 0.25, also above 1; a mean is as good as the worst of its parts; NaN never counts."""
    label = capture.with_confidence(capture.world[0])
    label[:5, 3, 0] = torch.tensor([0.25, 0.26, 1.7, 0.0, torch.nan])
    label[5, 0, 0] = torch.nan
    write_store(capture.databases() / capture.layout.points, [(0, pack_label(label))])
    points, valid = find_sequences(capture.root)[0].points(0)
    assert valid[:5].tolist() == [False, True, True, False, False]
    assert not valid[[5, 17, 18]].any() and valid[6:17].all() and valid[19:].all()
    assert points.isfinite().all()


def test_images_tell_whether_a_resolution_is_swapped(human36m):
    """The lifter's keypoints are scaled as those of the original, which took the resolution as it was."""
    human36m.write_cameras(swapped=True)
    store = human36m.databases() / "Images/00.lmdb"
    write_store(store, [(frame, b"" if frame < 2 else Store(store)[frame]) for frame in human36m.frames])
    sequence = find_sequences(human36m.root)[0]
    assert (sequence.camera("00").width, sequence.camera("00").height) == human36m.size
    assert sequence.resolution("00") == human36m.size[::-1]
    assert sequence.image("00", 2).shape == (3, *human36m.size[::-1])
    write_store(store, [(0, b"")])
    (sequence,) = find_sequences(human36m.root)
    assert (sequence.camera("00").width, sequence.camera("00").height) == human36m.size[::-1]


FAULTS = {
    "missing": (lambda e: e.pop("01"), "view 01 is missing"),
    "no K": (lambda e: e["01"].pop("K"), "view 01: K is missing"),
    "null": (lambda e: e.update({"01": None}), "view 01: K is missing"),
    "ragged K": (lambda e: e["01"].update(K=[[1, 2], [3]]), "view 01: K is missing or not a table"),
    "NaN": (lambda e: e["01"].update(t=[[0], [float("nan")], [1]]), "view 01: t holds a number"),
    "text": (lambda e: e["01"].update(R="R"), "view 01: R is missing or not"),
    "short R": (lambda e: e["01"].update(R=[[1, 0, 0]]), r"view 01: R has shape \[1, 3\], wanted \[3, 3\]"),
    "no focal length": (lambda e: e["01"].update(K=[[0, 0, 1], [0, 1, 1], [0, 0, 1]]), "view 01: K has a focal"),
    "tiny focal length": (
        lambda e: e["01"].update(K=[[1e-300, 0, 1], [0, 1, 1], [0, 0, 1]]),
        "view 01: K has a focal",
    ),
    "four coefficients": (lambda e: e["01"].update(dist_coef=[0, 0, 0, 0]), "view 01: dist_coef has shape"),
    "half pixels": (lambda e: e["01"].update(resolution=[96.5, 64]), "view 01: resolution is"),
    "no pixels": (lambda e: e["01"].update(resolution=[0, 64]), "view 01: resolution is"),
    "infinite": (
        lambda e: e["01"].update(resolution=[float("inf"), 64]),
        "view 01: resolution holds a number",
    ),
    "enormous": (lambda e: e["01"].update(resolution=[10**30, 64]), "view 01: resolution is 1e.30x64, wanted whole"),
    "truth": (lambda e: e["01"].update(t=[[True], [0], [1]]), "view 01: t is missing or not a table"),
    "beyond float32": (lambda e: e["01"].update(t=[[1e39], [0], [1]]), "view 01: t holds a number"),
    "no rotation": (lambda e: e["01"].update(R=[[2, 0, 0], [0, 1, 0], [0, 0, 1]]), "view 01: R is not a rotation"),
    "transposed K": (lambda e: e["01"].update(K=[[120, 0, 0], [0, 115, 0], [48, 32, 1]]), "view 01: K is not an intri"),
}


@pytest.mark.parametrize(("fault", "message"), FAULTS.values(), ids=FAULTS.keys())
def test_faulty_camera_names_file_and_view(capture, fault, message):
    capture.write_cameras(change=fault)
    with pytest.raises(DataError, match=f"cameras.json: {message}") as caught:
        find_sequences(capture.root)[0].camera("01")
    assert "\n" not in str(caught.value)


def test_picture_of_another_size(capture):
    capture.size = (80, 64)
    capture.write_view(capture.names[0], 1)
    with pytest.raises(DataError, match="01.lmdb: frame 2 is 80x64, its camera 96x64"):
        find_sequences(capture.root)[0].image("01", 2)


@pytest.mark.parametrize("data", [b"text", b""])
def test_broken_picture_names_file_and_frame(capture, data):
    for place in ("Images", "Masks/SOLO"):
        write_store(capture.databases() / place / "01.lmdb", [(2, data)])
    sequence = find_sequences(capture.root)[0]
    for read in (sequence.image, sequence.mask):
        with pytest.raises(DataError, match="01.lmdb: frame 2: not a readable JPEG or PNG"):
            read("01", 2)
        with pytest.raises(DataError, match="01.lmdb: no frame 3"):
            read("01", 3)


@pytest.mark.parametrize("shape", [(135, 3), (135, 2, 1), (117, 3, 1), (3, 135, 1), ()])
def test_label_of_another_shape(capture, shape):
    capture.write_keypoints(capture.names[0], 1, lambda view, frame: torch.zeros(shape))
    with pytest.raises(DataError, match=r"01.lmdb: frame 2: label has shape .*, wanted \[135, 3, 1\]"):
        find_sequences(capture.root)[0].keypoints("01", 2)
