"""The response of Gaussians to rays, for blocks of both.

With ``B = diag(1/s) ρᵀ``, ``u = B r`` and ``m = B μ``: ``q = |u|²``, ``z = u·m / q``, ``D = |m - z u|²``. Everything is
computed in float32. Gaussians nearer than the near plane are not visible.
"""

import math

import torch
import triton
import triton.language as tl

from .. import limits

SMALLEST_SCALE = tl.constexpr(limits.SMALLEST_SCALE)
LARGEST = tl.constexpr(limits.LARGEST)
LARGEST_COMPONENT = tl.constexpr(limits.LARGEST_COMPONENT)
LARGEST_EXPONENT = tl.constexpr(limits.LARGEST_EXPONENT)
PI = tl.constexpr(math.pi)
LOG2_E = tl.constexpr(math.log2(math.e))
TINY = tl.constexpr(torch.finfo(torch.float32).tiny)
# Side of the tiles by which Gaussians are culled, in pixels.
TILE = tl.constexpr(16)
# Pixels of a patch, the smallest part of a tile by which Gaussians are culled: 4 rows of 8. Patches are numbered down
# the left half of a tile and then down the right half: two consecutive ones are a square, four are half of the tile.
PATCH, PATCH_WIDTH = tl.constexpr(32), tl.constexpr(8)
PATCHES = tl.constexpr(TILE * TILE // PATCH)


@triton.jit
def first_set(flags, COUNT: tl.constexpr):
    """Index of the first of COUNT flags that is not zero; COUNT if all are zero."""
    return tl.min(tl.where(flags != 0, tl.arange(0, COUNT), COUNT), 0)


@triton.jit
def lowest_set(bits):
    """Index of the lowest bit of a positive integer that is set, from the exponent of that bit as a float."""
    lowest = (bits & -bits).to(tl.float32)
    return (lowest.to(tl.int32, bitcast=True) >> 23) - 127


@triton.jit
def repeat(number, block):
    """A number for every element of a block of integers. In masks, compare this with others: Triton 3.9's interpreter
    refuses those that a block and a comparison of two plain numbers make."""
    return number + tl.zeros_like(block)


@triton.jit
def clamp(x, low, high):
    """As torch.clamp: NaN stays NaN."""
    x = tl.maximum(x, low, propagate_nan=tl.PropagateNan.ALL)
    return tl.minimum(x, high, propagate_nan=tl.PropagateNan.ALL)


@triton.jit
def reciprocal(x):
    """1 / x of a positive number, not denormal. A GPU takes two instructions, and for a division eight; the result is
    off by 3e-7 of it at most."""
    root = tl.rsqrt(x)
    return root * root


@triton.jit
def load_components(rays, y, x, width, mask=None):
    """Components of pixels' rays as they are; zero where a mask is not set. ``rays`` points to an image [H, W, 3]."""
    at = rays + 3 * (y * width + x)
    other = None if mask is None else 0.0
    # All loads are issued before the first is waited for.
    rx, ry, rz = tl.load(at, mask, other), tl.load(at + 1, mask, other), tl.load(at + 2, mask, other)
    return rx.to(tl.float32), ry.to(tl.float32), rz.to(tl.float32)


@triton.jit
def load_ray(rays, y, x, width, mask=None):
    """As `load_components`, clamped."""
    rx, ry, rz = load_components(rays, y, x, width, mask)
    rx = clamp(rx, -LARGEST_COMPONENT, LARGEST_COMPONENT)
    ry = clamp(ry, -LARGEST_COMPONENT, LARGEST_COMPONENT)
    rz = clamp(rz, -LARGEST_COMPONENT, LARGEST_COMPONENT)
    return rx, ry, rz


@triton.jit
def clamped(r):
    """Where a component of a loaded ray is clamped, and so has no gradient."""
    return tl.abs(r) >= LARGEST_COMPONENT


@triton.jit
def own_tile():
    """Of a program in a grid of columns and rows of tiles: the number of its tile, how many there are, and row and
    column of the tile's first pixel. Found without a division."""
    column, row = tl.program_id(0), tl.program_id(1)
    columns, rows = tl.num_programs(0), tl.num_programs(1)
    return row * columns + column, rows * columns, row * TILE, column * TILE


@triton.jit
def corner_of(tile, width):
    """Row and column of a tile's first pixel."""
    columns = tl.cdiv(width, TILE)
    row = tile // columns
    return row * TILE, (tile - row * columns) * TILE


@triton.jit
def tile_pixels(top, left, first, height, width, PIXELS: tl.constexpr):
    """Rows and columns of PIXELS pixels of the tile with this corner, from pixel ``first`` on, and which of them are in
    the image."""
    pixel = first + tl.arange(0, PIXELS)
    y, x = top + pixel // TILE, left + pixel % TILE
    return y, x, (y < height) & (x < width)


@triton.jit
def patch_pixels(top, left, pixel, height, width):
    """As `tile_pixels`, for given pixels of the tile with this corner that are numbered patch by patch."""
    y = top + pixel // PATCH_WIDTH % TILE
    x = left + pixel // (PATCH_WIDTH * TILE) * PATCH_WIDTH + pixel % PATCH_WIDTH
    return y, x, (y < height) & (x < width)


@triton.jit
def load_mean(means, n, mask, near):
    """Means of Gaussians ``n`` of one image, clamped, and which of them are visible."""
    at = means + 3 * n.to(tl.int64)
    x = tl.load(at, mask, 0.0).to(tl.float32)
    y = tl.load(at + 1, mask, 0.0).to(tl.float32)
    z = tl.load(at + 2, mask, 0.0).to(tl.float32)
    visible = (z >= near) & mask
    return clamp(x, -LARGEST, LARGEST), clamp(y, -LARGEST, LARGEST), clamp(z, -LARGEST, LARGEST), visible


@triton.jit
def load_scale(scales, n, mask):
    """Standard deviations of Gaussians ``n`` of one image, clamped; 1 where the mask is not set."""
    at = scales + 3 * n.to(tl.int64)
    s0 = clamp(tl.load(at, mask, 1.0).to(tl.float32), SMALLEST_SCALE, LARGEST)
    s1 = clamp(tl.load(at + 1, mask, 1.0).to(tl.float32), SMALLEST_SCALE, LARGEST)
    s2 = clamp(tl.load(at + 2, mask, 1.0).to(tl.float32), SMALLEST_SCALE, LARGEST)
    return s0, s1, s2


@triton.jit
def load_rotation_column(rotations, n, mask, column: tl.constexpr):
    at = rotations + 9 * n.to(tl.int64) + column
    x = clamp(tl.load(at, mask, 0.0).to(tl.float32), -LARGEST_COMPONENT, LARGEST_COMPONENT)
    y = clamp(tl.load(at + 3, mask, 0.0).to(tl.float32), -LARGEST_COMPONENT, LARGEST_COMPONENT)
    z = clamp(tl.load(at + 6, mask, 0.0).to(tl.float32), -LARGEST_COMPONENT, LARGEST_COMPONENT)
    return x, y, z


@triton.jit
def load_whitening(rotations, scales, n, mask):
    """The nine elements of B, row by row, of Gaussians ``n`` of one image."""
    s0, s1, s2 = load_scale(scales, n, mask)
    x0, y0, z0 = load_rotation_column(rotations, n, mask, 0)
    x1, y1, z1 = load_rotation_column(rotations, n, mask, 1)
    x2, y2, z2 = load_rotation_column(rotations, n, mask, 2)
    return x0 / s0, y0 / s0, z0 / s0, x1 / s1, y1 / s1, z1 / s1, x2 / s2, y2 / s2, z2 / s2


@triton.jit
def multiply(b00, b01, b02, b10, b11, b12, b20, b21, b22, x, y, z):
    """B (x, y, z)."""
    return b00 * x + b01 * y + b02 * z, b10 * x + b11 * y + b12 * z, b20 * x + b21 * y + b22 * z


@triton.jit
def length_of(x, y, z):
    return tl.sqrt(x * x + y * y + z * z)


@triton.jit
def depth_of(u0, u1, u2, m0, m1, m2):
    """The depth z of the strongest response, and q."""
    q = tl.maximum(u0 * u0 + u1 * u1 + u2 * u2, TINY)
    return clamp((u0 * m0 + u1 * m1 + u2 * m2) / q, -LARGEST, LARGEST), q


@triton.jit
def peak_of(alpha):
    """The weight where q is 1, and depth and distance are zero."""
    return 0.5 * tl.sqrt(alpha * PI)


@triton.jit
def weight_of(u0, u1, u2, m0, m1, m2, sharpness, peak):
    """Weight w, depth z, 1/q, the depth's falloff 1/(1 + z⁴), and e = m - z u.

    Callers compute once ``sharpness``, which is 1/α, and ``peak``, which is `peak_of` it, in any unit of weight.
    """
    q = tl.maximum(u0 * u0 + u1 * u1 + u2 * u2, TINY)
    per_q = reciprocal(q)
    z = clamp((u0 * m0 + u1 * m1 + u2 * m2) * per_q, -LARGEST, LARGEST)
    e0 = m0 - z * u0
    e1 = m1 - z * u1
    e2 = m2 - z * u2
    # Powers of two take fewer instructions than those of e, which may be denormal.
    exponent = tl.minimum((e0 * e0 + e1 * e1 + e2 * e2) * (sharpness * LOG2_E), LARGEST_EXPONENT * LOG2_E)
    square = z * z
    falloff = reciprocal(1 + square * square)
    w = tl.exp2(-exponent) * tl.rsqrt(q) * falloff * peak
    return w, z, per_q, falloff, e0, e1, e2


@triton.jit
def across(u0, u1, u2, e0, e1, e2, per_q):
    """e without the component along u that rounding leaves, which would dominate the gradients of a flat Gaussian."""
    along = (e0 * u0 + e1 * u1 + e2 * u2) * per_q
    return e0 - along * u0, e1 - along * u1, e2 - along * u2


@triton.jit
def whiten_rays(b00, b01, b02, b10, b11, b12, b20, b21, b22, rx, ry, rz):
    """u of Gaussians [N] and rays [P], each component [N, P]."""
    rx, ry, rz = rx[None, :], ry[None, :], rz[None, :]
    u0 = b00[:, None] * rx + b01[:, None] * ry + b02[:, None] * rz
    u1 = b10[:, None] * rx + b11[:, None] * ry + b12[:, None] * rz
    u2 = b20[:, None] * rx + b21[:, None] * ry + b22[:, None] * rz
    return u0, u1, u2


@triton.jit
def respond(b00, b01, b02, b10, b11, b12, b20, b21, b22, m0, m1, m2, rx, ry, rz, sharpness, peak):
    """u and the results of `weight_of` for Gaussians [N] and rays [P], [N, P] each."""
    u0, u1, u2 = whiten_rays(b00, b01, b02, b10, b11, b12, b20, b21, b22, rx, ry, rz)
    w, z, per_q, falloff, e0, e1, e2 = weight_of(u0, u1, u2, m0[:, None], m1[:, None], m2[:, None], sharpness, peak)
    return u0, u1, u2, w, z, per_q, falloff, e0, e1, e2
