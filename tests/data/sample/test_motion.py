import numpy as np
import pytest
import torch


@pytest.fixture(scope="module", params=[0, 1, 2])
def motion(model, request):
    from hvs.data.sample.motion import make_motion

    return make_motion(model, 140, np.random.default_rng(request.param))


def test_rotations_are_rotations(motion, model):
    for name, rotation in {**motion.rotations, "heading": motion.heading}.items():
        assert rotation.shape == (140, 3, 3)
        torch.testing.assert_close(rotation @ rotation.mT, torch.eye(3).expand(140, 3, 3), rtol=0, atol=1e-5, msg=name)
        assert (torch.linalg.det(rotation) > 0).all()
    assert set(motion.rotations) <= set(model.bones)


def test_moves_without_jumps(motion):
    for name, rotation in {**motion.rotations, "heading": motion.heading}.items():
        step = rotation[:-1].mT @ rotation[1:]
        angle = ((step.diagonal(dim1=1, dim2=2).sum(1) - 1) / 2).clamp(-1, 1).acos()
        # At twenty frames a second.
        assert angle.max() < 0.45, name
    assert motion.path.diff(dim=0).norm(dim=1).max() < 0.06


def test_stays_in_the_middle_and_on_the_floor(motion):
    assert motion.path[:, :2].norm(dim=1).max() < 1.2
    assert (motion.path[:, 2] == 0).all()
    torch.testing.assert_close(motion.path.amax(0), -motion.path.amin(0))


def test_walks_where_it_looks_and_stops_to_reach(motion):
    step = motion.path.diff(dim=0)
    ahead = motion.place(torch.tensor((0.0, -1.0, 0.0)).expand(140, 1, 3))[:, 0] - motion.path
    pace = (step * ahead[1:]).sum(1)
    torch.testing.assert_close(pace, step.norm(dim=1), rtol=0, atol=1e-5)
    assert pace.max() > 0.03 and pace.min() < 0.005


def test_knees_and_elbows_bend_only_one_way(motion, model):
    from hvs.data.sample.keypoints import body_135

    body = body_135(model, model.pose({}, motion.rotations, 140))
    for hip, knee, ankle in ((11, 13, 15), (12, 14, 16)):
        thigh, shin = body[:, knee] - body[:, hip], body[:, ankle] - body[:, knee]
        # The hinge points to the right of the person; a knee that bends backwards turns about it negatively.
        assert (torch.linalg.cross(shin, thigh)[:, 0] * -1).min() > -0.02


def test_fingers_curl_towards_the_palm(model):
    from hvs.data.sample.keypoints import body_135
    from hvs.data.sample.motion import _hand

    for side, wrist, start in (("L", 9, 25), ("R", 10, 45)):
        spread = []
        for curl in (0.0, 0.5, 1.0):
            rotations = {}
            _hand(rotations, model, side, np.array([curl]))
            body = body_135(model, model.pose({}, rotations, 1))[0]
            tips = body[start : start + 20].reshape(5, 4, 3)[1:, 3]
            spread.append((tips - body[wrist]).norm(dim=1))
        assert (spread[0] > spread[1]).all() and (spread[1] > spread[2]).all()


def test_same_numbers_same_motion_other_numbers_another(model):
    from hvs.data.sample.motion import make_motion

    first, again, other = (make_motion(model, 9, np.random.default_rng(seed)) for seed in (3, 3, 4))
    assert all(torch.equal(first.rotations[name], again.rotations[name]) for name in first.rotations)
    assert torch.equal(first.path, again.path)
    assert not torch.equal(first.path, other.path)
