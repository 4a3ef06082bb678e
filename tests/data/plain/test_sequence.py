"""Plain files hold the same as the prepared layout, whichever programs wrote them, and faults name their file."""

import json
import pickle

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from hvs.data import PairDataset, PoseDataset, collate, find_sequences
from hvs.data.layouts import IMAGES, MASKS
from hvs.data.plain import PlainSequence
from hvs.data.plain.people import People
from hvs.data.stores import DataError
from hvs.geometry import skeletons

CAMERAS = pytest.mark.parametrize("cameras", ["json", "colmap", "opencv"])


@CAMERAS
def test_cameras_are_those_of_the_prepared_layout(write_plain, cameras):
    capture = write_plain(camera_kind=cameras)
    prepared, sequence = find_sequences(capture.source.write().root)[0], capture.sequence()
    assert sequence.views == prepared.views
    for view in sequence.views:
        one, other = prepared.camera(view), sequence.camera(view)
        assert (one.width, one.height) == (other.width, other.height) == sequence.resolution(view)
        for name in ("K", "R", "t"):
            torch.testing.assert_close(getattr(other, name), getattr(one, name), rtol=0, atol=1e-5)
        torch.testing.assert_close(other.distortion, torch.nn.functional.pad(one.distortion, (0, 7)))


@CAMERAS
@pytest.mark.parametrize("keypoints", ["openpose", "body_25", "mmpose", "coco", "rows"])
def test_poses_are_those_of_the_prepared_layout(write_plain, cameras, keypoints):
    capture = write_plain(camera_kind=cameras, keypoint_kind=keypoints, size=(192, 128))
    prepared, sequence = find_sequences(capture.source.write().root)[0], capture.sequence()
    assert sequence.layout.skeleton is skeletons.PANOPTIC
    for frame in (0, 7):
        count = torch.zeros(117)
        for view in sequence.views:
            (found, valid), (wanted, _) = sequence.keypoints(view, frame), prepared.keypoints(view, frame)
            assert valid.sum() > 80
            assert (found - wanted)[valid].abs().max() < 0.05
            count += valid
            # Joints 17 and 18 are written by OpenPose's BODY_135 alone.
            assert keypoints in ("openpose", "rows") or not valid[17:19].any()
        (found, valid), (wanted, _) = sequence.points(frame), prepared.points(frame)
        assert (found - wanted)[valid].norm(dim=-1).max() < 1e-4
        count[17:19] = count[[5, 6, 1, 2, 3, 4]].amin()
        assert torch.equal(valid, count >= 2) and valid.sum() > 80


def test_pictures_are_those_of_the_prepared_layout(plain):
    prepared, sequence = find_sequences(plain.source.write().root)[0], plain.sequence()
    for view in sequence.views:
        for read in ("image", "mask"):
            one, other = (getattr(kind, read)(view, 5) for kind in (prepared, sequence))
            assert torch.equal(one, other)


def test_human36m_rows(write_plain):
    capture = write_plain(keypoint_kind="rows", layout="human36m", size=(96, 96))
    sequence = capture.sequence()
    assert sequence.layout.skeleton is skeletons.HUMAN36M
    points, valid = sequence.points(3)
    assert (points - capture.source.world[3])[valid].norm(dim=-1).max() < 1e-4 and valid.sum() > 10


@pytest.mark.parametrize("context", [None, "fork", "spawn"])
def test_pairs_and_poses(plain, context):
    pairs = PairDataset(plain.root, input_resolution=24, target_resolution=32, same_view=False)
    assert {sequence.name for sequence in pairs.sequences} == {"ann", "bob"}
    # Six of eight frames are for training.
    assert len(pairs) == 2 * 6 * 3 * 2
    loader = DataLoader(pairs, 6, collate_fn=collate, num_workers=bool(context), multiprocessing_context=context)
    # All of them: a process that is stopped in the middle may end in a way of its own.
    batch, *rest = loader
    assert len(rest) == 11
    assert batch["image_b"].shape == (6, 3, 32, 32) and batch["valid"].any()
    assert torch.equal(batch["points"][3], pairs[3]["points"])
    poses = PoseDataset(plain.root)
    assert len(poses) == 2 * 6 * 3
    tensors, _, faults = poses.tensors()
    assert torch.equal(tensors["relative"], collate(list(poses))["relative"]) and not faults


def test_a_crop_follows_the_person(plain):
    """The crop's camera sees each joint where the frame's camera does."""
    item = PairDataset(plain.root, input_resolution=48, target_resolution=48)[4]
    camera, seen = item["camera_a"], item["confidence_a"] & item["valid"]
    assert camera.K[0, 0] != 120
    seen[17:19] = False
    full = PairDataset(plain.root).sequences[0].camera("01")
    scale = camera.K[0, 0] / full.K[0, 0]
    shift = camera.K[:2, 2] - scale * full.K[:2, 2]
    expected = item["keypoints_a"][seen] * scale + shift
    torch.testing.assert_close(camera.project(item["points"])[seen], expected, rtol=0, atol=0.05)


def test_copies_are_small_and_read_for_themselves(plain):
    sequence = plain.sequence()
    wanted = sequence.points(3)
    data = pickle.dumps(sequence)
    assert len(data) < 20_000
    found = pickle.loads(data).points(3)
    assert all(torch.equal(one, other) for one, other in zip(found, wanted, strict=True))


def test_views_of_every_place(write_plain):
    for kind in ("openpose", "mmpose"):
        sequence = write_plain(keypoint_kind=kind).sequence()
        for place in (IMAGES, MASKS, "keypoints"):
            assert sequence.views_of(place) == {"00", "01", "02"}
        remove(sequence.folder / "keypoints")
        assert sequence.views_of("keypoints") == set()


def test_frames_are_named_by_the_last_number(plain):
    file = plain.file("images")
    file.rename(file.with_name("cam7_take_0002.JPG"))
    sequence = plain.sequence()
    assert sequence.available(IMAGES, "01") == list(range(8))
    assert sequence.image("01", 2).shape == (3, 64, 96)


def test_a_frame_needs_pictures_and_keypoints_of_its_views(plain):
    plain.file("images", "00", 1).unlink()
    plain.file("masks", "01", 1).unlink()
    for view in ("00", "01"):
        plain.file("keypoints", view, 0).unlink()
    sequence = plain.sequence()
    assert sequence.available("poses") == list(range(1, 8))
    assert 1 not in sequence.available(MASKS, "01") and 1 in sequence.available(IMAGES, "01")
    names = {PairDataset(plain.root)[i]["name"] for i in range(2)}
    assert names == {"ann/1/02-02", "ann/2/00-00"}


def test_triangulating_lists_no_frames(plain, monkeypatch):
    """A long sequence has thousands of blocks to triangulate, and hundreds of thousands of frames."""
    plain.file("keypoints", "01", 3).unlink()
    sequence = plain.sequence()
    assert sequence.available("poses") == list(range(8))
    monkeypatch.delattr(People, "frames")
    assert sequence.points(3)[1].any()


def test_given_poses_are_taken_as_they_are(plain):
    world = plain.source.world
    label = torch.cat((world, torch.ones(8, 135, 1)), -1)
    label[:, 3, 3] = 0.1
    np.savez(plain.folder / "poses.npz", frames=np.arange(8)[::-1], points=world.flip(0), confidence=label[..., 3])
    points, valid = plain.sequence().points(2)
    assert torch.equal(points[0], world[2, 0])
    # The head is as good as the worst of eyes and ears.
    assert (~valid).nonzero()[:, 0].tolist() == [3, 18]
    (plain.folder / "poses.npz").unlink()
    (plain.folder / "poses.json").write_text(json.dumps({f: world[f].tolist() for f in (1, 2)}))
    sequence = plain.sequence()
    assert sequence.available("poses") == [1, 2] and torch.equal(sequence.points(2)[0][0], world[2, 0])
    with pytest.raises(DataError, match="no frame 3 in the poses"):
        sequence.points(3)


def test_scale_is_of_cameras_and_given_poses(plain):
    centimetres = plain.sequence().points(4)[0]
    (plain.folder / "capture.json").write_text('{"scale": 0.01}')
    sequence = plain.sequence()
    torch.testing.assert_close(sequence.points(4)[0], centimetres / 100, rtol=0, atol=1e-6)
    np.savez(plain.folder / "poses.npz", frames=np.arange(8), points=plain.source.world)
    torch.testing.assert_close(plain.sequence().points(4)[0][0], plain.source.world[4, 0] / 100)


def test_up_is_told_from_the_cameras_or_by_hand(plain):
    # The cameras look at the origin from all around, and were put up with y pointing down.
    assert np.allclose(plain.sequence().layout.up, (0, -1, 0), atol=1e-3)
    assert np.allclose(plain.sequence(views=["02"]).layout.up, -plain.source.cameras[2].R[1], atol=1e-3)
    (plain.folder / "capture.json").write_text('{"up": [0, 0, 2]}')
    assert plain.sequence().layout.up == (0, 0, 1)


def roll(plain, *views):
    """Turn cameras by a quarter around their axes."""
    entries = json.loads((plain.folder / "cameras.json").read_text())
    for view in views:
        x, y, z = entries[view]["R"]
        entries[view]["R"] = [y, [-value for value in x], z]
    (plain.folder / "cameras.json").write_text(json.dumps(entries))


def test_a_camera_on_its_side_does_not_tilt_the_world(write_plain):
    plain = write_plain(views=5)
    roll(plain, "01")
    assert np.allclose(plain.sequence().layout.up, (0, -1, 0), atol=0.05)
    # Now upside down, and nobody knows which of the two is.
    roll(plain, "01")
    with pytest.raises(DataError, match="cameras do not agree which way is up, wanted an up in capture.json"):
        plain.sequence(views=["00", "01"])


def fails(message, plain, use=lambda sequence: None):
    with pytest.raises(DataError, match=message) as caught:
        use(plain.sequence())
    assert "\n" not in str(caught.value)


def test_no_images(plain):
    remove(plain.folder / "images")
    fails("ann/images: no such folder", plain)
    assert [sequence.name for sequence in find_sequences(plain.root)] == ["bob"]
    with pytest.raises(DataError, match="images: no folder of the views 7, 8"):
        PlainSequence(plain.root / "bob", "bob", views=["7", "8"])


def test_colmap_needs_a_scale(write_plain):
    plain = write_plain(camera_kind="colmap")
    (plain.folder / "capture.json").unlink()
    fails('cameras.txt: COLMAP\'s world has no unit of length, wanted {"scale": <metres per unit>}', plain)


def test_one_view_needs_given_poses(plain):
    sequence = plain.sequence(views=["01"])
    with pytest.raises(DataError, match="one view and no 3D poses, wanted two views or more .* or poses.npz"):
        sequence.available("poses")
    np.savez(plain.folder / "poses.npz", frames=np.arange(8), points=plain.source.world)
    assert plain.sequence(views=["01"]).available("poses") == list(range(8))


def remove(folder):
    for file in sorted(folder.rglob("*"), reverse=True):
        file.rmdir() if file.is_dir() else file.unlink()
    folder.rmdir()


FAULTS = {
    "no keypoints": (lambda p: remove(p.folder / "keypoints"), "keypoints/00: no such folder"),
    "no masks": (lambda p: remove(p.folder / "masks"), "masks/00: no such folder"),
    "no cameras": (lambda p: (p.folder / "cameras.json").unlink(), "ann: no cameras here, wanted one of cameras.json"),
    "two cameras": (lambda p: (p.folder / "cameras.txt").touch(), "ann: cameras.json and cameras.txt here"),
    "two poses": (
        lambda p: [(p.folder / name).touch() for name in ("poses.json", "poses.npz")],
        "both poses.npz and poses.json here",
    ),
    "two files of a frame": (
        lambda p: p.file("images").with_name("2.png").touch(),
        "images/01: two files of frame 2, 000002.jpg and 2.png",
    ),
    "a file without a number": (lambda p: (p.folder / "masks/01/mask.png").touch(), "mask.png: no frame number"),
    "a huge number": (lambda p: (p.folder / f"masks/01/{'9' * 30}.png").touch(), "no frame number in the name"),
    "keypoints twice": (lambda p: (p.folder / "keypoints/00.json").touch(), "both 00 and 00.json"),
    "mask of ones": (
        lambda p: [p.picture(lambda mask: mask.point(lambda v: v // 255), "masks", frame=frame) for frame in range(8)],
        "masks/01/000000.png: no value of the mask is above 1, wanted 0 and 255",
    ),
    "a view without camera": (lambda p: (p.folder / "images/03").mkdir(), "cameras.json: view 03 is missing"),
}


@pytest.mark.parametrize(("fault", "message"), FAULTS.values(), ids=FAULTS.keys())
def test_faults_name_their_file(plain, fault, message):
    fault(plain)
    with pytest.raises(DataError, match=message) as caught:
        PairDataset(plain.root)
    assert "\n" not in str(caught.value)


def entry(change):
    def fault(plain):
        file = plain.folder / "cameras.json"
        entries = json.loads(file.read_text())
        change(entries["01"])
        file.write_text(json.dumps(entries))

    return fault


CAMERA_FAULTS = {
    "mirrored": (lambda e: e.update(R=[[-1, 0, 0], [0, 1, 0], [0, 0, 1]]), "view 01: R is not a rotation"),
    "scaled": (lambda e: e.update(R=[[2, 0, 0], [0, 2, 0], [0, 0, 2]]), "view 01: R is not a rotation"),
    "three coefficients": (lambda e: e.update(dist_coef=[0, 0, 0]), "view 01: 3 distortion coefficients, wanted 0, 4,"),
    "tilted": (lambda e: e.update(dist_coef=[0] * 13 + [0.1]), "view 01: 14 distortion coefficients"),
    "infinite": (lambda e: e.update(t=[0, 1e999, 0]), "view 01: t .* finite"),
    "transposed": (
        lambda e: e.update(K=[[120, 0, 0], [0, 115, 0], [48, 32, 1]]),
        "view 01: K is not an intrinsic matrix",
    ),
    "huge": (lambda e: e.update(K=[10**400] * 9), "view 01: K is missing or not a table of numbers"),
    "nothing": (lambda e: e.clear(), "view 01: K is missing"),
}


@pytest.mark.parametrize(("fault", "message"), CAMERA_FAULTS.values(), ids=CAMERA_FAULTS.keys())
def test_faulty_cameras_name_file_and_view(plain, fault, message):
    entry(fault)(plain)
    fails(f"cameras.json: {message}", plain, lambda sequence: sequence.camera("01"))


@pytest.mark.parametrize("count", [None, 0, 4, 5, 8, 12, 14])
def test_coefficients_may_be_as_many_as_opencv_knows(plain, count):
    values = None if count is None else [0.01 * (i + 1) * (i < 12) for i in range(count)]
    entry(lambda e: e.pop("dist_coef") if values is None else e.update(dist_coef=values))(plain)
    found = plain.sequence().camera("01").distortion
    torch.testing.assert_close(found, torch.tensor([*(values or [])[:12], *[0.0] * (12 - min(count or 0, 12))]))


@pytest.mark.parametrize("change", [lambda e: e.pop("resolution"), lambda e: e.update(resolution=None)])
def test_a_missing_resolution_is_that_of_the_images(plain, change):
    entry(change)(plain)
    plain.file("images", frame=0).write_bytes(b"")
    assert plain.sequence().resolution("01") == (96, 64)
    for frame in range(1, 8):
        plain.file("images", frame=frame).write_bytes(b"")
    fails("images/01: no picture that can be read shows the resolution", plain)


def test_pictures_that_cannot_be_read_are_soon_given_up_on(plain, monkeypatch):
    """All poses to triangulate ask for the camera."""
    monkeypatch.setattr("hvs.data.sequences.LOOKED_AT", 3)
    # Otherwise the sequence could not be opened.
    (plain.folder / "capture.json").write_text('{"up": [0, -1, 0]}')
    entry(lambda e: e.pop("resolution"))(plain)
    for frame in range(8):
        plain.file("images", frame=frame).write_bytes(b"")
    sequence, looked, read = plain.sequence(), [], PlainSequence.encoded
    monkeypatch.setattr(PlainSequence, "encoded", lambda *asked: looked.append(asked[-1]) or read(*asked))
    monkeypatch.setattr(People, "person", lambda *_: pytest.fail("read keypoints that no camera has seen"))
    for frame in (0, 1):
        with pytest.raises(DataError, match="images/01: no picture that can be read shows the resolution"):
            sequence.points(frame)
    assert looked == [0, 3, 6]


def test_other_names_of_the_distortion(plain):
    wanted = plain.sequence().camera("01").distortion
    entry(lambda e: e.update(distCoef=e.pop("dist_coef")))(plain)
    assert torch.equal(plain.sequence().camera("01").distortion, wanted) and wanted.any()


def test_rounding_in_the_intrinsics_is_no_fault(plain):
    wanted = plain.sequence().camera("01").K
    entry(lambda e: e["K"][1].__setitem__(0, 1e-17))(plain)
    assert torch.equal(plain.sequence().camera("01").K, wanted)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(distortion_model="equidistant"), "view 01: distortion_model equidistant is another lens"),
        (dict(fisheye_model=1), "view 01: fisheye_model 1 is another lens, wanted one with radial and tangential"),
        (
            dict(dist_coef=None, distortion_params=[0.1]),
            "view 01: distortion_params is not a known name, wanted dist_coef",
        ),
    ],
)
def test_another_lens_is_refused(plain, change, message):
    def other(e):
        e.update(change)
        if e["dist_coef"] is None:
            del e["dist_coef"]

    entry(other)(plain)
    fails(f"cameras.json: {message}", plain)


def test_a_broken_first_file_is_one_of_many(plain):
    """Whoever reads its frame hears of it."""
    plain.file("images", "00", 0).write_bytes(b"")
    plain.file("keypoints", "00", 0).write_text("{")
    sequence = plain.sequence()
    assert sequence.image("00", 1).shape == (3, 64, 96) and sequence.points(1)[1].any()
    with pytest.raises(DataError, match="000000_keypoints.json: not a readable JSON file"):
        sequence.keypoints("00", 0)
    with pytest.raises(DataError, match="000000.jpg"):
        sequence.image("00", 0)


def test_a_picture_of_another_size(plain):
    plain.picture(lambda image: image.rotate(90, expand=True))
    fails(r"000002.jpg is 64x96, its camera 96x64", plain, lambda sequence: sequence.image("01", 2))


def test_other_joints_than_the_rest(write_plain):
    plain = write_plain(keypoint_kind="rows")
    plain.file("keypoints").write_text(json.dumps([[1, 2, 1]] * 17))
    wanted = "000002.json: 17 joints, but others of the sequence have 135"
    fails(wanted, plain, lambda sequence: sequence.keypoints("01", 2))


def test_broken_keypoints_of_one_view_leave_the_others(plain):
    plain.file("keypoints", "01", 2).write_text("{")
    sequence = plain.sequence()
    assert all(sequence.points(frame)[1].sum() > 20 for frame in range(8))
    with pytest.raises(DataError, match="000002_keypoints.json: not a readable JSON file"):
        sequence.keypoints("01", 2)


def test_nobody_in_a_frame_and_in_none(plain):
    empty = json.dumps({"version": 1.3, "people": []})
    plain.file("keypoints", "00", 0).write_text(empty)
    keypoints, valid = plain.sequence().keypoints("00", 0)
    assert not valid.any() and not keypoints.any() and plain.sequence().points(0)[1].sum() > 20
    for file in (plain.folder / "keypoints").rglob("*.json"):
        file.write_text(empty)
    fails("keypoints: no person in any of the keypoints", plain)
