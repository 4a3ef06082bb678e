"""Device functions, each in a kernel of its own."""

import math

import pytest
import torch
import triton
import triton.language as tl

from hvs.kernels import reference
from hvs.kernels.fused.geometry import (
    clamp,
    corner_of,
    load_mean,
    load_ray,
    load_whitening,
    lowest_set,
    multiply,
    patch_pixels,
    peak_of,
    reciprocal,
    tile_pixels,
    weight_of,
)


@triton.jit
def respond(out, means, rotations, scales, rays, count, pixels, alpha, SIZE: tl.constexpr):
    n = tl.arange(0, SIZE)
    mask = n < count
    mx, my, mz, visible = load_mean(means, n, mask, 0.01)
    b00, b01, b02, b10, b11, b12, b20, b21, b22 = load_whitening(rotations, scales, n, mask)
    m0, m1, m2 = multiply(b00, b01, b02, b10, b11, b12, b20, b21, b22, mx, my, mz)
    for pixel in range(0, pixels):
        rx, ry, rz = load_ray(rays, tl.program_id(0) + pixel, 0, 1, True)
        u0, u1, u2 = multiply(b00, b01, b02, b10, b11, b12, b20, b21, b22, rx, ry, rz)
        w, z, per_q, _, _, _, _ = weight_of(u0, u1, u2, m0, m1, m2, 1 / alpha, peak_of(alpha))
        at = out + pixel * 4 * count + n
        tl.store(at, w, mask)
        tl.store(at + count, z, mask)
        tl.store(at + 2 * count, per_q, mask)
        tl.store(at + 3 * count, visible.to(tl.float32), mask)


@triton.jit
def pixels_of(out, tile, first, height, width, PIXELS: tl.constexpr):
    top, left = corner_of(tile, width)
    y, x, inside = tile_pixels(top, left, first, height, width, PIXELS)
    i = tl.arange(0, PIXELS)
    tl.store(out + i, y)
    tl.store(out + PIXELS + i, x)
    tl.store(out + 2 * PIXELS + i, inside.to(tl.int32))


@triton.jit
def numbered(out, height, width):
    """Writes which pixel of the first tile is which."""
    i = tl.arange(0, 256)
    y, x, inside = patch_pixels(0, 0, i, height, width)
    tl.store(out + y * width + x, i, inside)


@triton.jit
def clamp_all(out, values, SIZE: tl.constexpr):
    i = tl.arange(0, SIZE)
    tl.store(out + i, clamp(tl.load(values + i), -2.0, 2.0))


@triton.jit
def lowest_bits(out, values, SIZE: tl.constexpr):
    i = tl.arange(0, SIZE)
    tl.store(out + i, lowest_set(tl.load(values + i)))


@triton.jit
def reciprocals(out, values, SIZE: tl.constexpr):
    i = tl.arange(0, SIZE)
    tl.store(out + i, reciprocal(tl.load(values + i)))


def test_weights_are_those_of_the_formula(scene, device):
    inputs = {n: v[0].to(device).contiguous() for n, v in scene(20, 5, 7, dtype=torch.float32).items()}
    rays = inputs["rays"].flatten(0, 1)
    out = rays.new_full((35, 4, 20), torch.nan)
    respond[(1,)](out, inputs["means"], inputs["rotations"], inputs["scales"], rays, 20, 35, 0.3, SIZE=32)
    double = [inputs[name].double() for name in ("means", "rotations", "scales")]
    z, D, q = reference.response(*double, rays.double())
    w = 1 / (1 + z**4) * 0.5 * (math.pi * 0.3 / q).sqrt() * (-D / 0.3).exp()
    torch.testing.assert_close(out[:, 0].double(), w, rtol=1e-3, atol=1e-9)
    torch.testing.assert_close(out[:, 1].double(), z, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(out[:, 2].double(), 1 / q, rtol=1e-4, atol=0.0)
    assert torch.equal(out[0, 3] > 0, inputs["means"][:, 2] >= 0.01)


def test_patches_of_a_tile(device):
    """Four rows of eight pixels, down the left half and then down the right one; what is outside is left out."""
    out = torch.full((16, 16), -1, dtype=torch.int32, device=device)
    numbered[(1,)](out, 16, 16)
    halves = torch.arange(256, dtype=torch.int32).view(2, 16, 8)
    assert torch.equal(out.cpu(), torch.cat(tuple(halves), 1))
    cut = torch.full((7, 11), -1, dtype=torch.int32, device=device)
    numbered[(1,)](cut, 7, 11)
    assert torch.equal(cut, out[:7, :11])


@pytest.mark.parametrize(("tile", "first"), [(0, 0), (1, 128), (2, 0), (3, 128)])
def test_pixels_of_a_tile(device, tile, first):
    out = torch.full((3, 128), -1, dtype=torch.int32, device=device)
    pixels_of[(1,)](out, tile, first, 20, 24, PIXELS=128)
    y, x, inside = out.cpu()
    wanted_y = (tile // 2 * 16 + (first + torch.arange(128)) // 16).int()
    wanted_x = (tile % 2 * 16 + torch.arange(128) % 16).int()
    assert torch.equal(inside.bool(), (wanted_y < 20) & (wanted_x < 24))
    assert torch.equal(y, wanted_y) and torch.equal(x, wanted_x)


def test_clamp_is_that_of_torch(device):
    values = torch.tensor([0.0, -1.0, 2.0, 3.0, -5.0, math.inf, -math.inf, math.nan], device=device)
    out = torch.empty_like(values)
    clamp_all[(1,)](out, values, SIZE=8)
    torch.testing.assert_close(out, values.clamp(-2, 2), equal_nan=True)


def test_the_lowest_bit(device):
    bits = torch.tensor([1, 2, 3, 4, 0x80, 0xFF, 0x7FFFFFFF, 0x40000000], dtype=torch.int32, device=device)
    out = torch.empty_like(bits)
    lowest_bits[(1,)](out, bits, SIZE=8)
    assert out.tolist() == [0, 1, 0, 2, 7, 0, 0, 30]


def test_reciprocals_of_all_sizes(device):
    values = torch.logspace(math.log10(torch.finfo(torch.float32).tiny) + 1e-6, 36, 256, device=device)
    out = torch.empty_like(values)
    reciprocals[(1,)](out, values, SIZE=256)
    torch.testing.assert_close(out.double(), 1 / values.double(), rtol=5e-7, atol=0.0)
