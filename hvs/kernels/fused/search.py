"""The deepest response of each image, by branch and bound: of tens of thousands of pairs a few dozen are looked at.

Over a cell of rays, ``|z| ≤ (|p| + |m| δ|B|) / (|u| - δ|B|)²`` and ``|z| ≤ |m| / (|u| - δ|B|)``, with p and u of the
cell's middle ray and δ the distance from it within which all its rays lie.
"""

import triton
import triton.language as tl

from .. import culling
from .geometry import TILE, depth_of, load_mean, load_ray, load_whitening, multiply, tile_pixels
from .survey import TILE_VALUES, load_boxes

SLACK = tl.constexpr(culling.SLACK)
NOWHERE = tl.constexpr(0x7FFFFFFFFFFFFFFF)


@triton.jit
def radius_of(low_x, low_y, high_x, high_y, cx, cy, cz):
    """Distance from the middle ray within which the rays of a box of (x/z, y/z) lie.

    Points of the plane z = 1 come closer to one another when they are normalised to unit rays, and no two unit rays
    are further apart than 2.
    """
    dx = tl.maximum(high_x - cx / cz, cx / cz - low_x)
    dy = tl.maximum(high_y - cy / cz, cy / cz - low_y)
    radius = tl.sqrt(dx * dx + dy * dy)
    return tl.where(radius < 2.0, radius, 2.0)


@triton.jit
def may_be_deepest(means, rotations, scales, n, count, near, cx, cy, cz, radius, best):
    """Whether a response of Gaussians ``n`` to a ray within the radius may be as deep as the best one, as 0 or 1.

    A block of Gaussians meets one cell, or one Gaussian a block of cells.
    """
    mx, my, mz, visible = load_mean(means, n, n < count, near)
    b00, b01, b02, b10, b11, b12, b20, b21, b22 = load_whitening(rotations, scales, n, n < count)
    u0, u1, u2 = multiply(b00, b01, b02, b10, b11, b12, b20, b21, b22, cx, cy, cz)
    m0, m1, m2 = multiply(b00, b01, b02, b10, b11, b12, b20, b21, b22, mx, my, mz)
    # |B|² is at most the largest row sum of |BBᵀ|, which is diagonal for a true rotation (Gershgorin).
    d0 = b00 * b00 + b01 * b01 + b02 * b02
    d1 = b10 * b10 + b11 * b11 + b12 * b12
    d2 = b20 * b20 + b21 * b21 + b22 * b22
    d01 = tl.abs(b00 * b10 + b01 * b11 + b02 * b12)
    d02 = tl.abs(b00 * b20 + b01 * b21 + b02 * b22)
    d12 = tl.abs(b10 * b20 + b11 * b21 + b12 * b22)
    norm = tl.sqrt(tl.maximum(d0 + d01 + d02, tl.maximum(d1 + d01 + d12, d2 + d02 + d12)))
    change = radius * norm
    least = tl.maximum(tl.sqrt(u0 * u0 + u1 * u1 + u2 * u2) - change, 0.0)
    reach = tl.sqrt(m0 * m0 + m1 * m1 + m2 * m2)
    p = tl.abs(u0 * m0 + u1 * m1 + u2 * m2)
    bound = tl.minimum((p + reach * change) / (least * least), reach / least) * (1 + SLACK)
    return tl.where(bound < best, 0, visible.to(tl.int32))


@triton.jit
def tile_values(tiles, tile, tile_count, mask):
    """The box of (x/z, y/z) of tiles of one image, low and high, and their middle rays."""
    low_x, low_y, high_x, high_y = load_boxes(tiles, tile, tile_count, mask)
    at = tiles + tile
    cx = tl.load(at + 4 * tile_count, mask, 0.0)
    cy = tl.load(at + 5 * tile_count, mask, 0.0)
    cz = tl.load(at + 6 * tile_count, mask, 1.0)
    return low_x, low_y, high_x, high_y, cx, cy, cz


@triton.jit
def deepest_pixel(means, rotations, scales, rays, n, tile, height, width, near):
    """The largest depth of one Gaussian over the pixels of a tile, and the first pixel that has it."""
    mx, my, mz, _ = load_mean(means, n, n >= 0, near)
    b00, b01, b02, b10, b11, b12, b20, b21, b22 = load_whitening(rotations, scales, n, n >= 0)
    y, x, inside = tile_pixels(tile, 0, height, width, TILE * TILE)
    rx, ry, rz = load_ray(rays, y, x, width, x >= 0)
    u0, u1, u2 = multiply(b00, b01, b02, b10, b11, b12, b20, b21, b22, rx, ry, rz)
    m0, m1, m2 = multiply(b00, b01, b02, b10, b11, b12, b20, b21, b22, mx, my, mz)
    z, q = depth_of(u0, u1, u2, m0, m1, m2)
    z = tl.where(z == z, z, -float("inf"))
    deepest = tl.max(z)
    pixel = y.to(tl.int64) * width + x
    return deepest, tl.min(tl.where(z == deepest, pixel, NOWHERE))


@triton.jit
def search(
    depths,
    places,
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
    SIDE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """One program per cell of SIDE×SIDE tiles, share of the Gaussians, and image.

    Writes the deepest response that each program has found, depths [B, programs], and its flat index pixel·N +
    Gaussian, the lowest among equals, places [B, programs] (int64); -inf and NOWHERE where none may be the deepest.
    """
    cell, share, b = tl.program_id(0), tl.program_id(1), tl.program_id(2).to(tl.int64)
    means += b * means_stride
    rotations += b * rotations_stride
    scales += b * scales_stride
    rays += b * rays_stride
    rows, columns = tl.cdiv(height, TILE), tl.cdiv(width, TILE)
    tiles += b * TILE_VALUES * rows * columns

    cell_columns = tl.cdiv(columns, SIDE)
    lane = tl.arange(0, SIDE * SIDE)
    row = cell // cell_columns * SIDE + lane // SIDE
    column = cell % cell_columns * SIDE + lane % SIDE
    exists = (row < rows) & (column < columns)
    tile = row * columns + column
    low_x, low_y, high_x, high_y, cx, cy, cz = tile_values(tiles, tile, rows * columns, exists)
    tile_radius = radius_of(low_x, low_y, high_x, high_y, cx, cy, cz)
    middle_row = tl.minimum(cell // cell_columns * SIDE + SIDE // 2, rows - 1)
    middle_column = tl.minimum(cell % cell_columns * SIDE + SIDE // 2, columns - 1)
    middle = tiles + middle_row * columns + middle_column
    x = tl.load(middle + 4 * rows * columns)
    y = tl.load(middle + 5 * rows * columns)
    z = tl.load(middle + 6 * rows * columns)
    radius = radius_of(tl.min(low_x), tl.min(low_y), tl.max(high_x), tl.max(high_y), x, y, z)

    best = tl.load(image_keys + 2 * b).to(tl.float32, bitcast=True)
    depth = -float("inf")
    place = tl.full((), NOWHERE, tl.int64)
    for start in range(share * BLOCK, count, tl.num_programs(1) * BLOCK):
        n = start + tl.arange(0, BLOCK)
        left = may_be_deepest(means, rotations, scales, n, count, near, x, y, z, radius, best)
        while tl.max(left) > 0:
            gaussian = start + tl.argmax(left, 0)
            left = tl.where(n == gaussian, 0, left)
            tiles_left = may_be_deepest(means, rotations, scales, gaussian, count, near, cx, cy, cz, tile_radius, best)
            tiles_left = tl.where(exists, tiles_left, 0)
            while tl.max(tiles_left) > 0:
                chosen = tl.argmax(tiles_left, 0)
                tiles_left = tl.where(lane == chosen, 0, tiles_left)
                here = tl.sum(tl.where(lane == chosen, tile, 0))
                found, pixel = deepest_pixel(means, rotations, scales, rays, gaussian, here, height, width, near)
                at = pixel * count + gaussian
                better = (found > depth) | ((found == depth) & (at < place))
                place = tl.where(better, at, place)
                depth = tl.where(better, found, depth)
                best = tl.maximum(best, depth)
    out = (b * tl.num_programs(0) + cell) * tl.num_programs(1) + share
    tl.store(depths + out, depth)
    tl.store(places + out, place)
