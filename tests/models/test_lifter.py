import pytest
import torch

from hvs.models import Lifter


def test_input_is_scaled_by_the_width_of_the_frame():
    lifter = Lifter(joints=2, width=96).eval()
    seen = []
    lifter.stem.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    keypoints = torch.tensor([[[0.0, 0.0], [1920.0, 1080.0]]])
    out = lifter(keypoints, torch.tensor([[True, False]]), torch.tensor([[1920, 1080]]))
    torch.testing.assert_close(seen[0], torch.tensor([[-1, -0.5625, 1, 1, 0.5625, 0]]))
    assert out.shape == (1, 2, 3)


def test_groups_of_two_keep_their_digits():
    # The first linear map brings the two values of every group close together.
    torch.manual_seed(0)
    lifter = Lifter(joints=3, width=64).eval()
    with torch.no_grad():
        weight = lifter.stem[0].weight
        weight[1::2] = weight[::2] + 1e-4 * weight[1::2]
    inputs = (torch.rand(4, 3, 2) * 1000, torch.ones(4, 3, dtype=torch.bool), torch.full((4, 2), 1000))
    found = lifter(*inputs)
    wanted = lifter.double()(inputs[0].double(), *inputs[1:])
    assert found.dtype == torch.float32
    assert (found - wanted).norm() < 1e-6 * wanted.norm()


def test_whole_pixels_are_keypoints_too():
    torch.manual_seed(0)
    lifter = Lifter(joints=3, width=64).eval()
    keypoints = torch.randint(0, 1000, (2, 3, 2))
    known, resolution = torch.ones(2, 3, dtype=torch.bool), torch.full((2, 2), 1000)
    found = lifter(keypoints, known, resolution)
    assert found.dtype == torch.float32 and torch.equal(found, lifter(keypoints.float(), known, resolution))


def test_gradients_reach_every_parameter_and_dropout_is_off_in_evaluation():
    lifter = Lifter(joints=5, width=128)
    inputs = (torch.rand(4, 5, 2) * 100, torch.rand(4, 5) > 0.5, torch.full((4, 2), 100))
    lifter(*inputs).square().sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in lifter.parameters())
    assert not torch.equal(lifter(*inputs), lifter(*inputs))
    lifter.eval()
    torch.testing.assert_close(lifter(*inputs), lifter(*inputs), rtol=0, atol=0)


def test_width_must_fit_the_groups():
    with pytest.raises(ValueError):
        Lifter(joints=5, width=40)


def test_joints_that_were_not_found_may_be_nan():
    torch.manual_seed(0)
    lifter = Lifter(joints=3, width=96).eval()
    keypoints, known = torch.rand(2, 3, 2) * 1000, torch.tensor([[True, False, True], [True, True, True]])
    resolution = torch.full((2, 2), 1000)
    keypoints[0, 1] = 0
    wanted = lifter(keypoints, known, resolution)
    keypoints[0, 1] = torch.nan
    assert torch.equal(lifter(keypoints, known, resolution), wanted)
    # One that was found has no excuse.
    keypoints[1, 2] = torch.nan
    assert lifter(keypoints, known, resolution)[1].isnan().all()


def test_scores_of_a_detector_are_found_or_not():
    lifter = Lifter(17, 64).eval()
    keypoints, size = torch.rand(2, 17, 2) * 100, torch.full((2, 2), 100)
    found = torch.rand(2, 17) > 0.5
    wanted = lifter(keypoints, found, size)
    assert torch.equal(lifter(keypoints, found * 0.7, size), wanted)
    assert torch.equal(lifter(keypoints, found.int() * 100, size), wanted)
