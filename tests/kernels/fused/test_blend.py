"""The latent does not depend on how the work is cut."""

import math

import pytest
import torch

from hvs.kernels.fused import launch, programs
from hvs.kernels.fused.lists import FILLED

OPTIONS = dict(alpha=0.025, beta=2.0, eps=1e-8, near=1e-2, tolerance=1e-6)


@pytest.mark.parametrize(
    "sizes", [dict(CHANNELS=16, PIXELS=256, GROUP=16), dict(CHANNELS=64, PIXELS=64, GROUP=8)], ids=str
)
def test_blocks_of_channels_and_pixels_do_not_show(scene, compare, device, monkeypatch, sizes):
    inputs = scene(17, 20, 33, 40, (2,), dtype=torch.float32)
    monkeypatch.setattr(programs, "blend_sizes", lambda channels: sizes | dict(num_warps=4))
    compare(inputs, "triton", 5e-5, 1e-3, device)


def test_more_channels_than_a_program_has_at_a_time(scene, compare, device, monkeypatch):
    monkeypatch.setattr(programs, "MOST_CHANNELS", 32)
    compare(scene(20, 20, 20, 70, dtype=torch.float32), "triton", 5e-5, 1e-3, device)


@pytest.mark.parametrize("filled_above", [4.0, math.inf])
def test_an_empty_tile_is_the_background(scene, device, monkeypatch, filled_above):
    """Whichever kernel writes it."""
    monkeypatch.setattr(programs, "FILLED_ABOVE", filled_above)
    inputs = {name: value.to(device) for name, value in scene(3, 64, 64, dtype=torch.float32).items()}
    inputs["means"] = torch.tensor([[[-0.7, -0.7, 2.0]]], device=device).expand(1, 3, 3).contiguous()
    inputs["scales"] = torch.full((1, 3, 3), 0.01, device=device)
    found = launch.forward(*inputs.values(), **OPTIONS)
    counts = found.counts.view(4, 4)
    assert (counts <= 0).sum() > 8 and (counts > 0).any()
    empty = (counts <= 0).repeat_interleave(16, 0).repeat_interleave(16, 1)
    background = inputs["background"][0][:, None]
    torch.testing.assert_close(found.latent[0][:, empty], background.expand(-1, int(empty.sum())))
    assert (found.denominator[0][empty] == 0).all()
    assert (found.denominator[0][~empty] >= found.image_values[0, 0]).all()


@pytest.mark.parametrize("filled_above", [0.0, 4.0])
def test_below_the_floor_the_background_is_dimmed(scene, device, monkeypatch, filled_above):
    """Also where it has been filled before the weight is known."""
    monkeypatch.setattr(programs, "FILLED_ABOVE", filled_above)
    inputs = {name: value.to(device) for name, value in scene(3, 40, 40, 7, dtype=torch.float32).items()}
    inputs["means"] = torch.tensor([[[-0.7, -0.7, 2.0]]], device=device).expand(1, 3, 3).contiguous()
    inputs["scales"] = torch.full((1, 3, 3), 0.01, device=device)
    found = launch.forward(*inputs.values(), **OPTIONS | dict(eps=1e-2))
    assert (found.counts == FILLED.value).any() == (filled_above == 0)
    empty = (found.counts.view(3, 3) <= 0).repeat_interleave(16, 0).repeat_interleave(16, 1)[:40, :40]
    weight = found.image_values[0, 0]
    assert empty.any() and 0 < weight < 1e-3
    wanted = (inputs["background"][0] * weight / 1e-2)[:, None].expand(-1, int(empty.sum()))
    torch.testing.assert_close(found.latent[0][:, empty], wanted)


def test_features_as_large_as_they_can_be(scene, device):
    """Sums of them would overflow, means do not."""
    inputs = {
        name: value.to(device)
        for name, value in scene(30, 20, 20, dtype=torch.float32, smallest=0.5, largest=3).items()
    }
    inputs["features"] = inputs["features"].sign() * 3e38
    latent = launch.forward(*inputs.values(), **OPTIONS).latent
    assert latent.isfinite().all() and latent.abs().max() > 1e37
