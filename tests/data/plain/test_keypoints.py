"""Every format of keypoints, as the programs write them, joint by joint."""

import json
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvs.data.plain.keypoints import read_frame, read_frames
from hvs.data.stores import DataError

BODY_25 = re.findall(
    r"\w+",
    "Nose Neck RShoulder RElbow RWrist LShoulder LElbow LWrist MidHip RHip RKnee RAnkle LHip LKnee LAnkle REye LEye "
    "REar LEar LBigToe LSmallToe LHeel RBigToe RSmallToe RHeel",
)
COCO = re.findall(
    r"\w+",
    "Nose LEye REye LEar REar LShoulder RShoulder LElbow RElbow LWrist RWrist LHip RHip LKnee RKnee LAnkle RAnkle",
)
FEET = ["LBigToe", "LSmallToe", "LHeel", "RBigToe", "RSmallToe", "RHeel"]
LHAND, RHAND = ([f"{side}Hand{i}" for i in range(20)] for side in "LR")
FACE = [f"Face{i}" for i in range(68)]
BODY_135 = [*COCO, "UpperNeck", "HeadTop", *FEET, *LHAND, *RHAND, *FACE, "RPupil", "LPupil"]
WHOLE_BODY = [*COCO, *FEET, *FACE, "LWrist", *LHAND, "RWrist", *RHAND]
# Every joint has a place of its own.
PLACES = {name: (10.0 + i, 500.0 - 2 * i, 0.5 + i / 1000) for i, name in enumerate({*BODY_135, "Neck", "MidHip"})}


def triples(names):
    return [number for name in names for number in PLACES[name]]


def check(found, names):
    """Each joint is where it was written, and those that were not are missing."""
    assert found.shape == (135, 3) and found.dtype == np.float32
    for row, name in zip(found, BODY_135, strict=True):
        assert np.allclose(row, PLACES[name] if name in names else 0), name


def openpose(**parts):
    empty = dict.fromkeys(("face", "hand_left", "hand_right"), [])
    return {"person_id": [-1], **{f"{name}_keypoints_2d": value for name, value in {**empty, **parts}.items()}}


def test_openpose_body_135():
    value = {"version": 1.3, "people": [openpose(pose=triples(BODY_135))]}
    check(read_frame(value, "file"), BODY_135)


def test_openpose_body_25_with_face_and_hands():
    hands = dict(hand_left=triples(["LWrist", *LHAND]), hand_right=triples(["RWrist", *RHAND]))
    person = openpose(pose=triples(BODY_25), face=triples([*FACE, "RPupil", "LPupil"]), **hands)
    check(read_frame({"people": [person]}, "file"), set(BODY_135) - {"UpperNeck", "HeadTop"})
    person = openpose(pose=triples(BODY_25), hand_left=hands["hand_left"])
    check(read_frame({"people": [person]}, "file"), {*COCO, *FEET, *LHAND})


def test_the_surest_person_is_taken():
    people = [openpose(pose=[1.0, 1.0, c] * 135) for c in (0.2, 0.7, float("nan"), 0.6)]
    assert read_frame({"people": people}, "file")[0, 2] == np.float32(0.7)
    assert read_frame({"people": []}, "file") is None


def instance(names):
    return {
        "keypoints": [PLACES[name][:2] for name in names],
        "keypoint_scores": [PLACES[name][2] for name in names],
        "bbox": [[1.0, 2.0, 3.0, 4.0]],
        "bbox_score": 0.9,
    }


def test_mmpose():
    """What the inferencer writes of an image and of a video, and the demo of either."""
    whole, present = [instance(WHOLE_BODY)], set(WHOLE_BODY)
    check(read_frame(whole, "file"), present)
    check(read_frame({"meta_info": {}, "instance_info": whole}, "file"), present)
    video = [{"frame_id": 3, "instances": whole}, {"frame_id": 5, "instances": []}]
    for value in (video, {"meta_info": {}, "instance_info": video}):
        frames = read_frames(value, "file")
        assert list(frames) == [3, 5] and frames[5] is None
        check(frames[3], present)


def test_coco_body_alone():
    check(read_frame([instance(COCO)], "file"), COCO)
    check(read_frame({"keypoints": triples(COCO)}, "file"), COCO)


def annotation(image, **more):
    parts = dict(keypoints=COCO, foot_kpts=FEET, face_kpts=FACE)
    parts |= dict(lefthand_kpts=["LWrist", *LHAND], righthand_kpts=["RWrist", *RHAND])
    return {"image_id": image, "category_id": 1, **{name: triples(names) for name, names in parts.items()}, **more}


def test_coco_wholebody_results():
    frames = read_frames([annotation(12), annotation("cam2/000013.jpg"), annotation(12, keypoints=[0] * 51)], "file")
    assert set(frames) == {12, 13}
    check(frames[12], WHOLE_BODY)
    check(frames[13], WHOLE_BODY)
    whole = {"image_id": 4, "keypoints": triples(WHOLE_BODY)}
    check(read_frames([whole], "file")[4], WHOLE_BODY)
    check(read_frame([annotation(12, righthand_kpts=None)], "file"), set(WHOLE_BODY) - set(RHAND))


def test_coco_wholebody_annotations():
    images = [{"id": 785, "file_name": "train/00000021.jpg"}]
    frames = read_frames({"images": images, "annotations": [annotation(785)]}, "file")
    assert list(frames) == [21]
    check(frames[21], WHOLE_BODY)


def test_rows():
    rows = [PLACES[name] for name in BODY_135]
    check(read_frame(rows, "file"), BODY_135)
    assert read_frame([[3, 4]] * 17, "file").tolist() == [[3, 4, 1]] * 17
    frames = read_frames({"7": rows, "000008": [[3, 4, 0.5]] * 17}, "file")
    check(frames[7], BODY_135)
    assert frames[8].shape == (17, 3)


WRONG = {
    "a number": 3,
    "a text": "keypoints",
    "nothing": None,
    "no joints": {},
    "other joints": [{"joints": []}],
    "COCO model": {"people": [openpose(pose=[0] * 54)]},
    "short hand": {"people": [openpose(pose=[0] * 75, hand_left=[0] * 60)]},
    "no pose": {"people": [{"face_keypoints_2d": []}]},
    "no people": {"people": {"a": 1}},
    "no person": {"people": [3]},
    "not threes": {"people": [openpose(pose=[0] * 134)]},
    "texts": {"people": [openpose(pose=["a"] * 405)]},
    "huge": {"people": [openpose(pose=[10**400] * 405)]},
    "ragged": [[1, 2, 3], [1, 2]],
    "too deep": [[[1, 2, 3]] * 17],
    "wrong rows": [[1, 2, 3]] * 18,
    "scores missing": [{"keypoints": [[1, 2]] * 133, "keypoint_scores": [1] * 132}],
    "a table of scores": [{"keypoints": [[1, 2]] * 133, "keypoint_scores": [[1]] * 133}],
    "Halpe": [{"keypoints": [[1, 2]] * 136, "keypoint_scores": [1] * 136}],
    "short face": [annotation(1, face_kpts=[0] * 9)],
    "mixed": [annotation(1), 3],
}


@pytest.mark.parametrize("value", WRONG.values(), ids=WRONG.keys())
def test_what_is_in_no_known_format_is_refused(value):
    with pytest.raises(DataError, match="^where: ") as caught:
        read_frame(value, "where")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 200


VIEWS = {
    "an image": [instance(WHOLE_BODY)],
    "no number": {"first": [[1, 2]] * 17},
    "fraction": [{"frame_id": 1.5, "instances": []}],
    "true": [{"frame_id": True, "instances": []}],
    "huge": [{"frame_id": 10**30, "instances": []}],
    "unlisted": {"images": [], "annotations": [annotation(3)]},
    "list of images": {"images": 3, "annotations": []},
    "a list for a name": {"images": [{"id": [], "file_name": [1]}], "annotations": [annotation(3)]},
    "a number": 3,
}


@pytest.mark.parametrize("value", VIEWS.values(), ids=VIEWS.keys())
def test_a_view_of_unknown_format_is_refused(value):
    with pytest.raises(DataError, match="^where: ") as caught:
        read_frames(value, "where")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 250


NAMES = ("people", "pose_keypoints_2d", "instance_info", "instances", "frame_id", "keypoints", "keypoint_scores")
NAMES += ("image_id", "images", "annotations", "id", "file_name", "face_kpts", "12")
JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(NAMES),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(JSON)
def test_whatever_json_holds_is_read_or_refused(value):
    value = json.loads(json.dumps(value))
    for read in (read_frame, read_frames):
        try:
            read(value, "where")
        except DataError as error:
            assert "\n" not in str(error)


def of(image_id, joint):
    """A result of a detector, told from others by where it has all joints."""
    return {"image_id": image_id, "keypoints": [joint, joint, 0.9] * 17}


@pytest.mark.parametrize(
    ("value", "image", "place"),
    [
        ([of(3, 30.0), of(4, 40.0)], "000004.jpg", 40.0),
        ([of("a.png", 30.0), of("b.png", 40.0)], "b.png", 40.0),
        ([of("a", 30.0), of("b", 40.0)], "a.png", 30.0),
        ([of(3, 30.0), of(4, 40.0)], "cam3_000004.jpg", 40.0),
        ([of("x/cam3_000004.png", 40.0), of("x/cam3_000005.png", 50.0)], "4.jpg", 40.0),
        ([of(0, 40.0)], "IMG_0013.jpg", 40.0),
        (
            {
                "images": [{"id": 1, "file_name": "x/a.png"}, {"id": 2, "file_name": "x/b.png"}],
                "annotations": [of(1, 30.0), of(2, 40.0)],
            },
            "b.png",
            40.0,
        ),
    ],
    ids=["numbers", "names", "stems", "last numbers", "numbers in names", "one picture", "annotations"],
)
def test_a_file_of_many_pictures_gives_the_keypoints_of_one(value, image, place):
    assert read_frame(value, "file", image)[0, 0] == place


@pytest.mark.parametrize(
    ("value", "pictures"),
    [
        ([of(3, 30.0), of(4, 40.0)], "3, 4"),
        ([of("other", 30.0)], "other"),
        ({"images": [{"id": 5, "file_name": "other.jpg"}], "annotations": [of(5, 30.0)]}, "other.jpg"),
        ([of("a5.jpg", 30.0), of("b5.jpg", 40.0)], "a5.jpg, b5.jpg"),
    ],
    ids=["two", "a name", "annotations", "two of a name"],
)
def test_a_file_of_other_pictures_is_refused(value, pictures):
    for image in ("me.jpg", "me5.jpg"):
        with pytest.raises(DataError) as caught:
            read_frame(value, "file", image)
        assert str(caught.value) == f"file: keypoints of {pictures}, wanted those of {image}"


def test_nobody_is_in_a_picture_without_annotations():
    images = [{"id": 1, "file_name": "a.png"}, {"id": 2, "file_name": "b.png"}]
    assert read_frame({"images": images, "annotations": [of(1, 30.0)]}, "file", "b.png") is None
    assert read_frame([], "file", "b.png") is None


@pytest.mark.parametrize("wrong", ["0.5", True])
def test_what_only_looks_like_a_number_is_refused(wrong):
    for value in ({"people": [openpose(pose=[1.0, 2.0, wrong] * 135)]}, [[1.0, 2.0, wrong]] * 135):
        with pytest.raises(DataError, match="^file: keypoints are not a table of numbers"):
            read_frame(value, "file")


@pytest.mark.filterwarnings("error")
def test_numbers_too_large_for_a_float_do_not_count_and_warn_nobody():
    found = read_frame([[1e300, 2.0, 1.0]] + [[1.0, 2.0, 1.0]] * 134, "file")
    assert np.isinf(found[0, 0]) and np.isfinite(found[1:]).all()
