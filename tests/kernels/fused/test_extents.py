"""The boxes that cull, once the background's weight is known."""

import pytest
import torch

from hvs.kernels import culling
from hvs.kernels.fused import launch, programs, values
from tests.kernels.fused.rendering import values_of


def extents(inputs, device, tolerance=1e-6):
    """Extents [B, 7, N], and weights of the background [B]."""
    inputs = {name: value.to(device) for name, value in inputs.items()}
    found = launch.forward(*inputs.values(), alpha=0.025, beta=2.0, eps=1e-8, near=1e-2, tolerance=tolerance)
    return values_of(found.gaussians, inputs["means"].shape[1])[:, values.BOX.value :], found.image_values[:, 0].cpu()


@pytest.mark.parametrize("large", [False, True], ids=["small", "large"])
def test_large_scenes_know_the_weight(scene, device, monkeypatch, large):
    if large:
        monkeypatch.setattr(programs, "SMALL_PAIRS", 0)
    inputs = scene(150, 20, 30, batch=(2,), dtype=torch.float32, smallest=0.05, largest=0.08)
    found, weights = extents(inputs, device)
    means, rotations, scales, *_ = (value.double() for value in inputs.values())
    least = 1e-6 * (weights.double().clamp(min=1e-8) if large else torch.full((2,), 1e-8, dtype=torch.float64))
    assert (weights > 1e-8).all()
    whiten = culling.whitening(rotations, scales)
    wanted = culling.gaussian_extent(means, whiten, means[..., 2] >= 0.01, least, 0.025)
    wanted = torch.cat((wanted.low, wanted.high, wanted.normal), -1)
    assert wanted.isfinite().all(-1).sum() > 200
    torch.testing.assert_close(found.double().mT, wanted, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("large", [False, True], ids=["small", "large"])
def test_a_larger_tolerance_has_smaller_boxes(scene, device, monkeypatch, large):
    if large:
        monkeypatch.setattr(programs, "SMALL_PAIRS", 0)
    inputs = scene(20, 33, 40, dtype=torch.float32)
    boxes = [extents(inputs, device, tolerance)[0][0, :4] for tolerance in (1e-6, 1e-3)]
    there = (boxes[1].isfinite() & boxes[0].isfinite()).all(0)
    assert there.sum() > 5
    assert (boxes[0][:2, there] < boxes[1][:2, there]).all() and (boxes[0][2:, there] > boxes[1][2:, there]).all()
