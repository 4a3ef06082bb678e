import json

import pytest
import torch

from hvs.data import DataError
from hvs.data.preparation import panoptic_raw as raw

EYE = [[1.0, 0, 0], [0, 1, 0], [0, 0, 1]]
# Orders as the Panoptic Studio's documentation lists them.
COCO19_NAMES = (
    *("Neck", "Nose", "BodyCenter", "LShoulder", "LElbow", "LWrist", "LHip", "LKnee", "LAnkle", "RShoulder", "RElbow"),
    *("RWrist", "RHip", "RKnee", "RAnkle", "LEye", "LEar", "REye", "REar"),
)


def camera(**changes):
    entry = dict(name="00_07", type="hd", resolution=[1920, 1080], K=[[1400, 0, 950], [0, 1390, 540], [0, 0, 1]])
    return {**entry, "distCoef": [0.1, 0.2, 0.3, 0.4, 0.5], "R": EYE, "t": [[100], [-20], [300]], **changes}


def calibration(folder, *cameras):
    (folder / f"calibration_{folder.name}.json").write_text(json.dumps({"cameras": cameras}))
    return folder


def test_hd_cameras_come_in_metres(tmp_path):
    entries = camera(), camera(name="01_01", type="vga"), camera(name="00_00", t=[1, 2, 3])
    found = raw.read_calibration(calibration(tmp_path, *entries))
    assert list(found) == ["00", "07"]
    torch.testing.assert_close(found["07"].t, torch.tensor((1.0, -0.2, 3.0)).double())
    assert found["07"].distortion.tolist() == [0.1, 0.2, 0.3, 0.4, 0.5]
    assert (found["07"].width, found["07"].height, found["07"].K[0, 0]) == (1920, 1080, 1400)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(name="../../etc/passwd"), "an HD camera is named '../../etc/passwd', wanted 00_NN"),
        (dict(name="00_07/../../x"), "an HD camera is named '00_07/../../x'"),
        (dict(name=7), "an HD camera is named 7"),
        (dict(K=[[1, 2], [3, 4]]), r"camera 00_07: K has shape \[2, 2\], wanted \[3, 3\] finite numbers"),
        (dict(K=None), "camera 00_07: K is missing or not a table of numbers"),
        (dict(K=[[0, 0, 1], [0, 1, 1], [0, 0, 1]]), "camera 00_07: K has a focal length that is not positive"),
        (dict(K=[[1400, 0, 0], [0, 1390, 0], [950, 540, 1]]), "camera 00_07: K is not an intrinsic matrix"),
        (dict(t=[["a"], ["b"], ["c"]]), "camera 00_07: t is missing or not a table of numbers"),
        (dict(t=[float("nan"), 0, 0]), r"camera 00_07: t has shape \[3\], wanted \[3\] finite numbers"),
        (dict(t=[1e39, 0, 0]), r"camera 00_07: t has shape \[3\], wanted \[3\] finite numbers"),
        (dict(t=[True, 0, 0]), "camera 00_07: t is missing or not a table of numbers"),
        (dict(t=[10**400, 0, 0]), "camera 00_07: t is missing or not a table of numbers"),
        (dict(R=[[2, 0, 0], [0, 1, 0], [0, 0, 1]]), "camera 00_07: R is not a rotation"),
        (dict(R=[[-1, 0, 0], [0, 1, 0], [0, 0, 1]]), "camera 00_07: R is not a rotation"),
        (dict(distCoef=[0, 0]), r"camera 00_07: distCoef has shape \[2\]"),
        (dict(resolution=[10**9, 5]), "camera 00_07: resolution is 1e.09x5, wanted whole pixels"),
        (dict(resolution=[19.5, 5]), "camera 00_07: resolution is 19.5x5"),
        (dict(type="vga"), "no camera of type hd"),
    ],
)
def test_broken_calibrations_are_named(changes, message, tmp_path):
    with pytest.raises(DataError, match=f"calibration_{tmp_path.name}.json: {message}"):
        raw.read_calibration(calibration(tmp_path, camera(**changes)))


def test_a_camera_that_is_there_twice_is_named(tmp_path):
    with pytest.raises(DataError, match="camera 00_07: is there twice"):
        raw.read_calibration(calibration(tmp_path, camera(), camera()))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not a readable JSON file"),
        ("{", "not a readable JSON file"),
        ("[" * 100_000, "not a readable JSON file"),
        ("\x00\xff", "not a readable JSON file"),
        ("[]", "holds a list, wanted an object"),
        ("{}", "people is missing or not a list of objects"),
        ('{"people": {}}', "people is missing or not a list of objects"),
        ('{"people": [1]}', "people is missing or not a list of objects"),
        ('{"people": [{}]}', "pose_keypoints_2d is missing or not a table"),
        ('{"people": [{"pose_keypoints_2d": [1, 2, 3]}]}', r"pose_keypoints_2d has shape \[3\], wanted \[135, 3\]"),
        ('{"people": [{"pose_keypoints_2d": [[1], [2, 3]]}]}', "pose_keypoints_2d is missing or not a table"),
    ],
)
def test_broken_detections_are_named(text, message, tmp_path):
    file = tmp_path / "a_keypoints.json"
    file.write_text(text, encoding="latin-1")
    with pytest.raises(DataError, match=f"a_keypoints.json: {message}") as caught:
        raw.read_openpose(file)
    assert "\n" not in str(caught.value)


def test_huge_files_are_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(raw, "MAX_JSON_BYTES", 10)
    (tmp_path / "a.json").write_text('{"people": []}')
    with pytest.raises(DataError, match="a.json: larger than 10 bytes, the most that is read"):
        raw.read_openpose(tmp_path / "a.json")


def test_openposes_own_names(tmp_path):
    file = raw.openpose_file(tmp_path, "07", 12)
    assert file == tmp_path / "openpose/hd_00_07/hd_00_07_000000000012_keypoints.json"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps({"people": [{"pose_keypoints_2d": list(range(405))}] * 2}))
    found = raw.read_openpose(file)
    assert found.shape == (2, 135, 3) and found[1, 2].tolist() == [6, 7, 8]
    file.write_text('{"people": []}')
    assert raw.read_openpose(file).shape == (0, 135, 3)


def write(file, content):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content))


def body(offset=0.0, confidence=0.9):
    """Joint i of COCO19 at (i, 10 i, 100 i) centimetres."""
    return [value for i in range(19) for value in (i + offset, 10 * i, 100 * i, confidence)]


def test_the_official_joints_take_their_places(tmp_path):
    write(raw.body_file(tmp_path, 5), {"bodies": [{"id": 3, "joints19": body()}]})
    hand = {"landmarks": [float(i) for i in range(63)]}
    right = {"landmarks": [-float(i) for i in range(63)], "averageScore": [0.5] * 20 + [0.0]}
    people = [{"id": 2, "left_hand": {"landmarks": [9.0] * 63}}, {"id": 3, "left_hand": hand, "right_hand": right}]
    write(raw.hand_file(tmp_path, 5), {"people": people})
    write(raw.face_file(tmp_path, 5), {"people": [{"id": 3, "face70": {"landmarks": [1.0] * 210}}]})
    label, count = raw.read_reconstruction(tmp_path, 5)
    assert count == 1 and label.shape == (135, 4)
    from hvs.geometry.skeletons import PANOPTIC

    for joint in range(17):
        official = COCO19_NAMES.index(PANOPTIC.joints[joint])
        torch.testing.assert_close(label[joint], torch.tensor((0.01, 0.1, 1.0, 0.9)).double() * torch.tensor(
            (official, official, official, 1)))  # fmt: skip
    assert label[17].tolist() == [0, 0, 0, 0.9]
    # No crown, no feet.
    assert not label[18:25].any()
    # The wrist is no joint of the hand.
    torch.testing.assert_close(label[25], torch.tensor((0.03, 0.04, 0.05, 1)).double())
    torch.testing.assert_close(label[44], torch.tensor((0.60, 0.61, 0.62, 1)).double())
    torch.testing.assert_close(label[45], torch.tensor((-0.03, -0.04, -0.05, 0.5)).double())
    assert not label[64].any()
    assert (label[65:, :3] == 0.01).all() and (label[65:, 3] == 1).all()


def test_the_surest_of_several_bodies_and_bodies_without_hands(tmp_path):
    bodies = [{"id": 0, "joints19": body(0, 0.2)}, {"id": 1, "joints19": body(7)}, {"id": 2, "joints19": body(9, -1)}]
    write(raw.body_file(tmp_path, 0), {"bodies": bodies})
    write(raw.hand_file(tmp_path, 0), {"people": [{"id": 0, "left_hand": {"landmarks": [1.0] * 63}}, {"id": 1}]})
    label, count = raw.read_reconstruction(tmp_path, 0)
    assert count == 3 and label[0, 0] == pytest.approx(0.08) and not label[25:].any()
    write(raw.body_file(tmp_path, 1), {"bodies": []})
    assert raw.read_reconstruction(tmp_path, 1) == (None, 0) == raw.read_reconstruction(tmp_path, 2)


def test_broken_reconstructions_are_named(tmp_path):
    write(raw.body_file(tmp_path, 0), {"bodies": [{"joints19": [1, 2]}]})
    with pytest.raises(DataError, match=r"body3DScene_00000000.json: joints19 has shape \[2\]"):
        raw.read_reconstruction(tmp_path, 0)
    write(raw.body_file(tmp_path, 0), {"bodies": [{"joints19": body()}]})
    write(raw.hand_file(tmp_path, 0), {"people": [{"left_hand": [1]}]})
    with pytest.raises(DataError, match="handRecon3D_hd00000000.json: left_hand is a list, wanted an object"):
        raw.read_reconstruction(tmp_path, 0)
