from dataclasses import replace

import pytest
import torch

from hvs import skeletons
from hvs.losses import pose_loss

PANOPTIC, HUMAN36M = skeletons.PANOPTIC, skeletons.HUMAN36M


def poses(skeleton, batch=2):
    torch.manual_seed(0)
    target = torch.randn(batch, len(skeleton.joints), 3, dtype=torch.float64)
    return target - target[:, None, skeleton.root], target, torch.ones(target.shape[:2], dtype=torch.bool)


@pytest.mark.parametrize("skeleton", [PANOPTIC, HUMAN36M], ids=lambda s: s.name)
def test_the_target_itself_costs_nothing_wherever_its_root_is(skeleton):
    predicted, target, valid = poses(skeleton)
    predicted.requires_grad_()
    loss = pose_loss(predicted, target + 5, valid, skeleton)
    assert loss < 1e-12
    loss.backward()
    assert predicted.grad.isfinite().all()


def test_human36m_is_plain_mpjpe():
    predicted, target, valid = poses(HUMAN36M)
    predicted[0, 3] += torch.tensor([0.3, 0.0, 0.4], dtype=torch.float64)
    assert pose_loss(predicted, target, valid, HUMAN36M).item() == pytest.approx(0.5 / 34, abs=1e-12)


@pytest.mark.parametrize(
    ("joint", "wanted"),
    [
        ("RKnee", 1 * 0.5 / 38),
        ("LIndex2PIP", 10 * 0.5 / 40),
        ("RThumb1CMC", 10 * 0.5 / 40),
        ("OMouth3", 5 * 0.5 / 116),
        # A wrist moves itself among the body's joints, and its whole hand relative to it.
        ("LWrist", 0.5 / 38 + 10 * 20 * 0.5 / 40),
        ("Nose", 0.5 / 38 + 5 * 58 * 0.5 / 116),
    ],
)
def test_panoptic_weighs_its_parts(joint, wanted):
    predicted, target, valid = poses(PANOPTIC)
    predicted[0, PANOPTIC.joints.index(joint)] += torch.tensor([0.0, 0.3, 0.4], dtype=torch.float64)
    assert pose_loss(predicted, target, valid, PANOPTIC).item() == pytest.approx(wanted, rel=1e-9)


def test_parts_of_other_names_are_body():
    predicted, target, valid = poses(HUMAN36M)
    halves = replace(HUMAN36M, parts={"legs": (0, 7), "rest": (7, 17)})
    predicted[0, 3] += torch.tensor([0.3, 0.0, 0.4], dtype=torch.float64)
    assert pose_loss(predicted, target, valid, halves).item() == pytest.approx(0.5 / 14, abs=1e-12)


def test_unknown_joints_do_not_count_even_if_they_are_nan():
    predicted, target, valid = poses(PANOPTIC)
    knee, wrist, finger = (PANOPTIC.joints.index(name) for name in ("LKnee", "RWrist", "RIndex2PIP"))
    predicted[0, 8] += 1
    wanted = pose_loss(predicted, target, valid, PANOPTIC) * 38 / 36
    target[1, knee], valid[1, knee] = torch.nan, False
    target[0, wrist], valid[0, wrist] = torch.nan, False
    # The whole right hand of sample 0 goes with its wrist.
    predicted[0, finger] += 7
    predicted.requires_grad_()
    loss = pose_loss(predicted, target, valid, PANOPTIC)
    torch.testing.assert_close(loss, wanted)
    loss.backward()
    assert predicted.grad.isfinite().all()
    assert predicted.grad[1, knee].abs().sum() == predicted.grad[0, finger].abs().sum() == 0


@pytest.mark.parametrize("skeleton", [PANOPTIC, HUMAN36M], ids=lambda s: s.name)
def test_parts_of_a_batch_have_the_mean_of_the_whole(skeleton):
    """Given the numbers of joints that count, averaged over the parts, one of which has hardly any."""
    predicted, target, valid = poses(skeleton, batch=4)
    predicted = predicted + 0.1 * torch.randn_like(predicted)
    valid[2:, 3:] = False
    numbers = []
    for part in (slice(0, 2), slice(2, 4)):
        pose_loss(predicted[part], target[part], valid[part], skeleton, lambda n: numbers.append(n) or n)
    mean = torch.stack(numbers).mean(0)
    losses = [
        pose_loss(predicted[part], target[part], valid[part], skeleton, lambda _: mean)
        for part in (slice(0, 2), slice(2, 4))
    ]
    torch.testing.assert_close(torch.stack(losses).mean(), pose_loss(predicted, target, valid, skeleton))


def test_nothing_valid_costs_nothing():
    predicted, target, valid = poses(PANOPTIC)
    predicted.requires_grad_()
    loss = pose_loss(predicted, target, torch.zeros_like(valid), PANOPTIC)
    loss.backward()
    assert loss == 0 and not predicted.grad.any()


def test_shapes_are_checked():
    predicted, target, valid = poses(HUMAN36M)
    with pytest.raises(ValueError, match=r"predicted, target, valid: got shapes .*wanted two of \[B, 117, 3\]"):
        pose_loss(predicted, target, valid, PANOPTIC)
    with pytest.raises(ValueError, match="got shapes"):
        pose_loss(predicted, target, valid[..., None], HUMAN36M)


def test_validity_that_is_not_bool_is_refused():
    poses = torch.zeros(1, 17, 3)
    with pytest.raises(ValueError, match="valid: got torch.float32, wanted torch.bool"):
        pose_loss(poses, poses, torch.ones(1, 17), HUMAN36M)
