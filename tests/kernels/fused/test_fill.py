"""A tile's background, by any number of programs."""

import pytest
import torch
import triton
import triton.language as tl

from hvs.kernels.fused.fill import fill


@triton.jit
def fill_piece(latent, denominator, background, top, left, channels, height, width, pieces: tl.constexpr):
    fill(latent, denominator, background, 0.5, top, left, channels, height, width, tl.program_id(0), pieces)


@pytest.mark.parametrize("pieces", [1, 3, 4])
@pytest.mark.parametrize("channels", [1, 4, 7])
def test_every_channel_once(device, pieces, channels):
    background = torch.arange(1.0, 8, device=device)
    latent, denominator = (torch.full(shape, torch.nan, device=device) for shape in ((7, 20, 37), (20, 37)))
    fill_piece[(pieces,)](latent, denominator, background, 16, 16, channels, 20, 37, pieces=pieces)
    wanted = torch.full((7, 20, 37), torch.nan, device=device)
    wanted[:channels, 16:, 16:32] = background[:channels, None, None] / 2
    assert torch.equal(latent.nan_to_num(), wanted.nan_to_num())
    assert (denominator[16:, 16:32] == 0).all() and denominator.isnan().sum() == 20 * 37 - 4 * 16
