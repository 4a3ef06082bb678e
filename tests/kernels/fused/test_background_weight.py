"""The background's weight, and the deepest response on which it depends."""

import math

import pytest
import torch
import triton.language as tl

from hvs.kernels import reference
from hvs.kernels.fused import background_weight, launch, programs
from hvs.kernels.fused.background_weight import DEPTH
from hvs.kernels.rasterize import _background_weight


def found(inputs, device, **options):
    inputs = {name: value.to(device) for name, value in inputs.items()}
    values = dict(alpha=0.025, beta=2.0, eps=1e-8, near=1e-2, tolerance=1e-6) | options
    return launch.forward(*inputs.values(), **values)


def expected(inputs):
    means, rotations, scales, *_, rays = (value.double() for value in inputs.values())
    return _background_weight(means, rotations, scales, rays, means[..., 2] >= 1e-2, 0.025, 2.0, reference)


@pytest.fixture(params=[programs.SMALL_PAIRS, 0], ids=["small", "large"])
def size(request, monkeypatch):
    monkeypatch.setattr(programs, "SMALL_PAIRS", request.param)


@pytest.mark.parametrize("scale", [1e-4, 5e-4, 1e-3, 0.0316, 0.0317, 0.1, 0.3, 1.0, 3.0, 1e4, 1e9])
def test_weight_and_kappa(scene, device, scale):
    inputs = scene(5, 20, 20, dtype=torch.float32)
    inputs["scales"] = torch.full((1, 5, 3), scale)
    assert found(inputs, device).image_values[0, 0].item() == pytest.approx(expected(inputs).item(), rel=1e-5)


def test_each_image_has_its_own(scene, device, size, monkeypatch):
    """Also with more blocks of Gaussians than are looked at a time, and the smallest in the last of them."""
    if device == "cpu":
        monkeypatch.setattr(background_weight, "FEW", tl.constexpr(1))
    inputs = scene(130, 20, 20, batch=(3,), dtype=torch.float32, smallest=0.1, largest=0.2)
    inputs["scales"][1, 129, 1] = 0.002
    inputs["means"][2] *= 2
    weights = found(inputs, device).image_values[:, 0].cpu().double()
    torch.testing.assert_close(weights, expected(inputs), rtol=1e-5, atol=0)
    assert weights.unique().numel() == 3


def test_the_slope_is_the_derivative_by_the_largest_depth(scene, device):
    """Spheres on one ray: the depth is the mean's, and so is the derivative."""
    inputs = scene(1, 1, 1, dtype=torch.float32)
    inputs |= dict(scales=torch.full((1, 1, 3), 0.1), rays=torch.tensor([0.0, 0.0, 1.0]).view(1, 1, 1, 3))
    weights = []
    for depth in (1.999, 2.0, 2.001):
        inputs["means"] = torch.tensor([[[0.0, 0.0, depth]]])
        weights.append(found(inputs, device).image_values[0])
    assert weights[1][1].item() == pytest.approx((weights[2][0] - weights[0][0]).item() / 0.002, rel=1e-2)
    assert weights[1][0].item() == pytest.approx(0.5 * math.sqrt(math.pi * 0.025 * 0.01) / (1 + 4**4), rel=1e-5)


def test_responses_behind_the_camera_count(scene, device, size):
    """Of negative depths, as those of spheres in front are, the deepest is the one nearest to zero."""
    inputs = scene(7, 20, 37, batch=(2,), dtype=torch.float32)
    inputs["scales"] = inputs["scales"][..., :1].expand(-1, -1, 3).clone()
    inputs["means"][..., :2] *= 0.1
    inputs["rays"] = -inputs["rays"]
    values = found(inputs, device).image_values.cpu().double()
    means, rotations, scales, *_, rays = (value.double() for value in inputs.values())
    depths = reference.response(means, rotations, scales, rays.flatten(1, 2))[0]
    deepest = depths.where(means[:, None, :, 2] >= 1e-2, -torch.inf).flatten(1).amax(1)
    assert (deepest < 0).all()
    torch.testing.assert_close(values[:, DEPTH.value], deepest, rtol=1e-5, atol=0)
    torch.testing.assert_close(values[:, 0], expected(inputs), rtol=1e-5, atol=0)


def test_if_nothing_is_visible_it_is_at_depth_zero(scene, device, size):
    inputs = scene(4, 20, 20, dtype=torch.float32)
    inputs["means"][..., 2] = -1
    result = found(inputs, device)
    assert result.image_values[0, DEPTH.value] == -math.inf and result.farthest.tolist() == [-1]
    weight, slope = result.image_values[0, :2].tolist()
    assert weight == pytest.approx(expected(inputs).item(), rel=1e-5) and slope == 0


def test_the_place_is_found_among_many(scene, device, size):
    """More programs have searched than are looked at a time, and the deepest response is in the last tile."""
    inputs = scene(3, 16 * 18 + 1, 16 * 17 + 1, dtype=torch.float32, smallest=0.05, largest=0.1)
    inputs["rays"] = torch.nn.functional.normalize(torch.tensor([0.5, 0.5, 1.0]), dim=0).expand(1, 289, 273, 3).clone()
    inputs["rays"][0, -1, -1] = torch.tensor([0.0, 0.0, 1.0])
    inputs["means"] = torch.tensor([[[0.0, 0.0, 2.0], [0.0, 0.0, 3.0], [0.0, 0.0, 2.5]]])
    inputs["scales"] = torch.full((1, 3, 3), 0.1)
    inputs["rotations"] = torch.eye(3).expand(1, 3, 3, 3).clone()
    result = found(inputs, device)
    assert result.farthest.tolist() == [(289 * 273 - 1) * 3 + 1]
    assert result.image_values[0, DEPTH.value].item() == pytest.approx(3, rel=1e-6)
