import pytest
import torch

from hvs.data.layouts import LAYOUTS
from hvs.geometry.skeletons import HUMAN36M, PANOPTIC

MIRROR = torch.tensor((-1.0, 1.0, 1.0))


@pytest.fixture(scope="module")
def body(model):
    from hvs.data.sample.keypoints import body_135

    return body_135(model, model.rest)[0]


@pytest.fixture(scope="module")
def human(model):
    from hvs.data.sample.keypoints import human36m_17

    return human36m_17(model, model.rest)[0]


def swapped(name):
    return {"L": "R", "R": "L"}[name[0]] + name[1:]


def test_left_and_right_joints_mirror_each_other(body):
    joints = dict(zip(PANOPTIC.joints, body[list(LAYOUTS["panoptic"].joints)], strict=True))
    # The eyes' outlines run from the person's right to the left in both eyes, so their numbers do not mirror.
    sided = [name for name in joints if name[0] in "LR" and not name[1:].startswith("Eye") or "Brow" in name]
    assert len(sided) == 2 * (8 + 20 + 5 - 1 + 1) - 2
    for name in sided:
        torch.testing.assert_close(joints[swapped(name)] * MIRROR, joints[name], rtol=0, atol=0.01, msg=name)
        assert joints[name][0] * (1 if name[0] == "L" else -1) > 0, name


def test_human36m_joints_mirror_each_other_and_stand_upright(human):
    joints = dict(zip(HUMAN36M.joints, human, strict=True))
    for name in [name for name in joints if name[0] == "L"]:
        torch.testing.assert_close(joints[swapped(name)] * MIRROR, joints[name], rtol=0, atol=0.01, msg=name)
        assert joints[name][0] > 0, name
    ladder = ("LFoot", "LKnee", "HipCenter", "Spine", "Thorax", "Neck/Nose", "Head")
    heights = [float(joints[name][2]) for name in ladder]
    assert heights == sorted(heights)
    assert heights[-1] - heights[0] > 1.2


def test_the_face_runs_as_ibug_numbers_it(body):
    face = body[65:133]
    assert (face[:17, 0].diff() > 0).all(), "contour from the right ear to the left"
    assert int(face[:17, 2].argmin()) == 8, "over the chin"
    assert (face[17:27, 0].diff() > 0).all(), "brows from right to left"
    assert (face[27:31, 2].diff() < 0).all(), "down the nose"
    assert int(face[:, 1].argmin()) == 30, "whose tip is in front of all"
    assert (face[31:36, 0].diff() > 0).all(), "nostrils"
    for start in (36, 42):
        eye = face[start : start + 6]
        assert (eye[:4, 0].diff() > 0).all() and (eye[3:, 0].diff() < 0).all()
        assert (eye[[1, 2], 2] > eye[[5, 4], 2]).all(), "upper lid over the lower"
    for start, corner, stop in ((48, 54, 60), (60, 64, 68)):
        assert (face[start : corner + 1, 0].diff() > 0).all() and (face[corner:stop, 0].diff() < 0).all()
    assert face[51, 2] > face[62, 2] > face[66, 2] > face[57, 2], "lips from above"
    for pupil, eye in ((133, face[36:42]), (134, face[42:48])):
        assert (body[pupil, [0, 2]] - eye.mean(0)[[0, 2]]).norm() < 0.005


def test_fingers_are_chains_of_short_bones_out_of_the_wrist(body):
    for wrist, start in ((9, 25), (10, 45)):
        fingers = body[start : start + 20].reshape(5, 4, 3)
        lengths = fingers.diff(dim=1).norm(dim=-1)
        assert lengths.min() > 0.008 and lengths.max() < 0.06
        away = (fingers - body[wrist]).norm(dim=-1)
        assert (away.diff(dim=1) > 0).all()
        # The thumb's knuckle is nearest to the wrist, and the middle finger reaches farthest.
        assert int(away[:, 0].argmin()) == 0 and int(away[:, 3].argmax()) == 2


def test_all_135_are_there_and_on_the_body(model, body):
    assert body.shape == (135, 3)
    assert torch.cdist(body, model.rest.vertices[0]).amin(1).max() < 0.12
    torch.testing.assert_close(body[18], model.rest.vertices[0, model.rest.vertices[0, :, 2].argmax()])


def test_keypoints_follow_the_pose(model, body):
    from hvs.data.sample.keypoints import body_135

    # The left forearm up by a right angle moves that hand and leaves the other.
    turn = torch.tensor([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]]).expand(1, 3, 3)
    moved = (body_135(model, model.pose({}, {"lowerarm01.L": turn}, 1))[0] - body).norm(dim=1)
    assert moved[25:45].min() > 0.1
    assert moved[45:65].max() < 1e-4
