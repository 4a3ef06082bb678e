"""First look at the rays and the Gaussians: what rays each tile holds, and two numbers of each image.

Numbers of an image are found by atomic maxima of integers, whose order does not matter.
"""

import triton
import triton.language as tl

from .. import pyramid
from .geometry import TILE, depth_of, load_mean, load_ray, load_scale, load_whitening, multiply, tile_pixels

FLATTEST_RAY = tl.constexpr(pyramid.FLATTEST_RAY)
INFINITY_BITS = tl.constexpr(0x7F800000)
# What is known of a tile: the box of (x/z, y/z) over its rays, low and high, and the ray in its middle.
TILE_VALUES = tl.constexpr(7)


@triton.jit
def load_boxes(boxes, i, total, mask):
    """Boxes of (x/z, y/z), low and high, of tiles or cells of one image; empty where the mask is not set."""
    low_x = tl.load(boxes + i, mask, float("inf"))
    low_y = tl.load(boxes + total + i, mask, float("inf"))
    high_x = tl.load(boxes + 2 * total + i, mask, -float("inf"))
    high_y = tl.load(boxes + 3 * total + i, mask, -float("inf"))
    return low_x, low_y, high_x, high_y


@triton.jit
def survey(
    tiles,
    image_keys,
    means,
    rotations,
    scales,
    rays,
    means_stride,
    rotations_stride,
    scales_stride,
    rays_stride,
    count,
    height,
    width,
    near,
    skip,
    BLOCK: tl.constexpr,
):
    """One program per tile and image.

    Every program looks at every ``skip``-th block of Gaussians, each at another place, so that together they see all.

    Writes tiles [B, 7, T] (see TILE_VALUES) and raises image_keys [B, 2] (int32, zero before): the bits of some
    response's depth, a lower bound of the largest, and how far below infinity the bits of the smallest variance are.
    """
    tile, tile_count, b = tl.program_id(0), tl.num_programs(0), tl.program_id(1).to(tl.int64)
    means += b * means_stride
    rotations += b * rotations_stride
    scales += b * scales_stride
    rays += b * rays_stride

    y, x, _ = tile_pixels(tile, 0, height, width, TILE * TILE)
    rx, ry, rz = load_ray(rays, y, x, width, x >= 0)
    flat = tl.min(rz) < FLATTEST_RAY
    out = tiles + b * TILE_VALUES * tile_count + tile
    infinity = float("inf")
    tl.store(out, tl.where(flat, -infinity, tl.min(rx / rz)))
    tl.store(out + tile_count, tl.where(flat, -infinity, tl.min(ry / rz)))
    tl.store(out + 2 * tile_count, tl.where(flat, infinity, tl.max(rx / rz)))
    tl.store(out + 3 * tile_count, tl.where(flat, infinity, tl.max(ry / rz)))
    columns = tl.cdiv(width, TILE)
    middle_y = tl.minimum(tile // columns * TILE + TILE // 2, height - 1)
    middle_x = tl.minimum(tile % columns * TILE + TILE // 2, width - 1)
    cx, cy, cz = load_ray(rays, middle_y, middle_x, width, middle_x >= 0)
    tl.store(out + 4 * tile_count, cx)
    tl.store(out + 5 * tile_count, cy)
    tl.store(out + 6 * tile_count, cz)

    deepest = tl.zeros((BLOCK,), tl.float32)
    smallest = tl.full((BLOCK,), infinity, tl.float32)
    for start in range(tile % skip * BLOCK, count, skip * BLOCK):
        n = start + tl.arange(0, BLOCK)
        mask = n < count
        mx, my, mz, visible = load_mean(means, n, mask, near)
        b00, b01, b02, b10, b11, b12, b20, b21, b22 = load_whitening(rotations, scales, n, mask)
        u0, u1, u2 = multiply(b00, b01, b02, b10, b11, b12, b20, b21, b22, cx, cy, cz)
        m0, m1, m2 = multiply(b00, b01, b02, b10, b11, b12, b20, b21, b22, mx, my, mz)
        z, q = depth_of(u0, u1, u2, m0, m1, m2)
        deepest = tl.where(visible & (z > deepest), z, deepest)
        s0, s1, s2 = load_scale(scales, n, mask)
        s = tl.minimum(s0, tl.minimum(s1, s2))
        smallest = tl.where(mask & (s * s < smallest), s * s, smallest)
    tl.atomic_max(image_keys + 2 * b, tl.max(deepest).to(tl.int32, bitcast=True))
    tl.atomic_max(image_keys + 2 * b + 1, -tl.min(smallest).to(tl.int32, bitcast=True) + INFINITY_BITS)
