"""The background's weight, and the boxes that cull."""

import math

import pytest
import torch

from hvs.kernels import reference
from hvs.kernels.fused import launch, values
from hvs.kernels.rasterize import _background_weight
from tests.kernels.fused.rendering import values_of


def found(inputs, device, **options):
    inputs = {name: value.to(device) for name, value in inputs.items()}
    values = dict(alpha=0.025, beta=2.0, eps=1e-8, near=1e-2, tolerance=1e-6) | options
    return launch.forward(*inputs.values(), **values)


@pytest.mark.parametrize("scale", [1e-4, 5e-4, 1e-3, 0.0316, 0.0317, 0.1, 0.3, 1.0, 3.0, 1e4])
def test_weight_and_kappa(scene, device, scale):
    inputs = scene(5, 20, 20, dtype=torch.float32)
    inputs["scales"] = torch.full((1, 5, 3), scale)
    means, rotations, scales, *_, rays = (value.double() for value in inputs.values())
    wanted = _background_weight(means, rotations, scales, rays, means[..., 2] >= 1e-2, 0.025, 2.0, reference)
    assert found(inputs, device).image_values[0, 0].item() == pytest.approx(wanted.item(), rel=1e-5)


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


def test_a_larger_tolerance_has_smaller_boxes(scene, device):
    inputs = scene(20, 33, 40, dtype=torch.float32)
    first = values.BOX.value
    both = [values_of(found(inputs, device, tolerance=t).gaussians, 20) for t in (1e-6, 1e-3)]
    boxes = [v[0, first : first + 4] for v in both]
    there = (boxes[1].isfinite() & boxes[0].isfinite()).all(0)
    assert there.sum() > 5
    assert (boxes[0][:2, there] < boxes[1][:2, there]).all() and (boxes[0][2:, there] > boxes[1][2:, there]).all()
