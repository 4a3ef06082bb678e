"""What is known of a Gaussian, and of a block of them."""

import pytest
import torch

from hvs.kernels import culling, reference
from hvs.kernels.fused import background_weight, prepare, programs, values
from tests.kernels.fused.rendering import values_of

ALPHA, EPS, TOLERANCE = 0.025, 1e-8, 1e-6


def prepared(inputs, device):
    means, rotations, scales, *_, rays = (value.to(device).contiguous() for value in inputs.values())
    (batch, count, _), (height, width) = means.shape, rays.shape[1:3]
    gaussians = rays.new_full((batch, *programs.gaussian_values(count)), torch.nan)
    blocks = gaussians.shape[1]
    nearest, depths = (rays.new_full((batch, blocks), torch.nan) for _ in range(2))
    image_values = rays.new_full((batch, background_weight.IMAGE_VALUES.value), torch.nan)
    geometry = means, rotations, scales, rays
    strides = [value.stride(0) for value in geometry]
    numbers = count, height, width, ALPHA, EPS, 0.01, TOLERANCE
    written = gaussians, image_values, nearest, depths
    prepare.prepare[blocks, batch](*written, *geometry, *strides, *numbers)
    assert (image_values[:, background_weight.DEPTH.value] == -torch.inf).all()
    return values_of(gaussians, count), nearest.cpu(), depths.cpu()


def test_values(scene, device):
    inputs = scene(150, 20, 30, batch=(2,), dtype=torch.float32)
    found, _, _ = prepared(inputs, device)
    means, rotations, scales, *_ = (value.double() for value in inputs.values())
    whiten = culling.whitening(rotations, scales)
    torch.testing.assert_close(found[:, :9].double().mT, whiten.flatten(2), rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(found[:, 9:12].double().mT, means)
    whitened = (whiten @ means[..., None])[..., 0]
    torch.testing.assert_close(found[:, 12:15].double().mT, whitened, rtol=1e-4, atol=1e-3)
    visible = means[..., 2] >= 0.01
    assert visible.any() and not visible.all()
    reach = whitened.norm(dim=-1).where(visible, -1.0)
    torch.testing.assert_close(found[:, 15].double(), reach, rtol=1e-4, atol=1e-4)
    assert (found[:, 16].double() >= 0.9999 * torch.linalg.matrix_norm(whiten, 2)).all()


def test_extents_for_the_smallest_weight_of_the_background(scene, device):
    inputs = scene(150, 20, 30, batch=(2,), dtype=torch.float32)
    found, _, _ = prepared(inputs, device)
    means, rotations, scales, *_ = (value.double() for value in inputs.values())
    whiten, least = culling.whitening(rotations, scales), torch.full((2,), TOLERANCE * EPS, dtype=torch.float64)
    wanted = culling.gaussian_extent(means, whiten, means[..., 2] >= 0.01, least, ALPHA)
    extents = torch.cat((wanted.low, wanted.high, wanted.normal), -1)
    assert extents.isfinite().all(-1).sum() > 200
    torch.testing.assert_close(found[:, 17:].double().mT, extents, rtol=1e-3, atol=1e-4)


def test_weight_at_depth_zero_and_a_depth_that_is_reached(scene, device):
    inputs = scene(300, 40, 50, dtype=torch.float32, smallest=0.1, largest=0.2)
    inputs["scales"][0, 200, 1] = 0.002
    _, nearest, depths = prepared(inputs, device)
    blocks = inputs["scales"].square().amin(-1)[0].split(values.TOGETHER.value)
    kappa = torch.stack([10 ** block.min().log10().ceil() for block in blocks])
    assert len(kappa.unique()) > 1
    torch.testing.assert_close(nearest[0], 0.5 * (torch.pi * ALPHA * kappa).sqrt())
    means, rotations, scales, *_, rays = (value.double() for value in inputs.values())
    all_depths = reference.response(means, rotations, scales, rays.flatten(1, 2))[0]
    largest = all_depths.where(means[:, None, :, 2] >= 0.01, 0).amax()
    assert 0 < depths.max() <= largest * 1.0001
    for depth in depths[0]:
        assert (all_depths - depth).abs().min() < 1e-4 * depth


@pytest.mark.parametrize("value", [torch.nan, -1.0])
def test_what_is_not_there_is_not_deep(scene, device, value):
    inputs = scene(5, 20, 20, dtype=torch.float32)
    inputs["means"][..., 2] = value
    _, _, depths = prepared(inputs, device)
    assert (depths == 0).all()
