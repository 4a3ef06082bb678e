"""Where values of Gaussians are stored."""

import pytest
import torch
import triton
import triton.language as tl

from hvs.kernels.fused import programs, values
from hvs.kernels.fused.values import (
    BOX,
    GAUSSIAN_VALUES,
    TOGETHER,
    address_of,
    addresses_of,
    image_of,
    load_extent,
    load_gaussian,
    store_value,
)
from tests.kernels.fused.rendering import values_of


@triton.jit
def number(gaussians, count, BLOCK: tl.constexpr):
    """Write 100 n + value, plus 10,000 b in image b."""
    start, b = tl.program_id(0) * BLOCK, tl.program_id(1)
    n = start + tl.arange(0, BLOCK)
    at = addresses_of(image_of(gaussians, b, count), start, BLOCK)
    for value in tl.static_range(GAUSSIAN_VALUES):
        store_value(at, value, (10_000 * b + 100 * n + value).to(tl.float32))


@triton.jit
def read(out, gaussians, count):
    n, b = tl.program_id(0), tl.program_id(1)
    at = address_of(image_of(gaussians, b, count), n)
    b00, b01, b02, b10, b11, b12, b20, b21, b22, m0, m1, m2 = load_gaussian(at)
    low_x, low_y, high_x, high_y, nx, ny, nz = load_extent(at)
    tl.store(out + (2 * b) * count + n, b00 + b01 + b02 + b10 + b11 + b12 + b20 + b21 + b22 + m0 + m1 + m2)
    tl.store(out + (2 * b + 1) * count + n, low_x + low_y + high_x + high_y + nx + ny + nz)


@pytest.mark.parametrize("count", [1, 127, 128, 129, 300])
def test_layout(device, count):
    gaussians = torch.full((2, *programs.gaussian_values(count)), torch.nan, device=device)
    number[gaussians.shape[1] * TOGETHER.value // 64, 2](gaussians, count, BLOCK=64)
    assert gaussians.isfinite().all()  # those beyond the last one have values, too
    wanted = torch.arange(2)[:, None, None] * 10_000 + torch.arange(24)[:, None] + 100 * torch.arange(count)
    assert torch.equal(values_of(gaussians, count), wanted.float())
    out = torch.full((2, 2, count), torch.nan, device=device)
    read[count, 2](out, gaussians, count)
    whitening = [*range(9), *(values.WHITENED.value + i for i in range(3))]
    assert torch.equal(out[:, 0].cpu(), wanted[:, whitening].sum(1).float())
    assert torch.equal(out[:, 1].cpu(), wanted[:, BOX.value :].sum(1).float())


def test_without_gaussians_there_is_room_for_a_block():
    assert programs.gaussian_values(0) == programs.gaussian_values(1)
