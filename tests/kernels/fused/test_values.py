"""Where values of Gaussians are stored."""

import pytest
import torch
import triton
import triton.language as tl

from hvs.kernels.fused import launch, values
from hvs.kernels.fused.values import BOX, GAUSSIAN_VALUES, image_of, is_stored, load_extent, load_gaussian, value_at
from tests.kernels.fused.rendering import values_of


@triton.jit
def number(gaussians, count, SIZE: tl.constexpr):
    """Write 100 n + value, in all that is stored of image b plus 10,000 b."""
    b, n = tl.program_id(0), tl.arange(0, SIZE)
    image = image_of(gaussians, b, count)
    for value in tl.static_range(GAUSSIAN_VALUES):
        tl.store(value_at(image, n, value), (10_000 * b + 100 * n + value).to(tl.float32), is_stored(n, count))


@triton.jit
def read(out, gaussians, count, SIZE: tl.constexpr):
    b, n = tl.program_id(0), tl.arange(0, SIZE)
    image = image_of(gaussians, b, count)
    b00, b01, b02, b10, b11, b12, b20, b21, b22, m0, m1, m2 = load_gaussian(image, n, n < count)
    low_x, low_y, high_x, high_y, nx, ny, nz = load_extent(image, n, n < count)
    of_gaussian = b00 + b01 + b02 + b10 + b11 + b12 + b20 + b21 + b22 + m0 + m1 + m2
    of_extent = low_x + low_y + high_x + high_y + nx + ny + nz
    tl.store(out + (2 * b) * SIZE + n, of_gaussian)
    tl.store(out + (2 * b + 1) * SIZE + n, tl.where(n < count, of_extent, 0.0))


@pytest.mark.parametrize("count", [1, 31, 32, 33, 100])
def test_layout(device, count):
    gaussians = torch.full((2, *launch.gaussian_values(count)), torch.nan, device=device)
    number[(2,)](gaussians, count, SIZE=128)
    assert gaussians.isfinite().all()  # those that only fill up are written too
    wanted = torch.arange(2)[:, None, None] * 10_000 + torch.arange(24)[:, None] + 100 * torch.arange(count)
    assert torch.equal(values_of(gaussians, count), wanted.float())
    out = torch.full((2, 2, 128), torch.nan, device=device)
    read[(2,)](out, gaussians, count, SIZE=128)
    whitening = [*range(9), *(values.WHITENED.value + i for i in range(3))]
    assert torch.equal(out[:, 0, :count].cpu(), wanted[:, whitening].sum(1).float())
    assert torch.equal(out[:, 1, :count].cpu(), wanted[:, BOX.value :].sum(1).float())
    assert (out[:, 0, count:] == 0).all()
