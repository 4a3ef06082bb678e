"""The deepest response in each image, by branch and bound.

Over a cell of rays, ``|z| ≤ (|p| + |m| δ|B|) / (|u| - δ|B|)²`` and ``|z| ≤ |m| / (|u| - δ|B|)``, with p and u at the
cell's middle ray and δ the radius around it that contains all rays of the cell. Of tens of thousands of pairs of a tile
and a Gaussian, a few dozen are left to be evaluated pixel by pixel. In large scenes, cells of tiles are tested first.
"""

import triton
import triton.language as tl

from .. import culling
from .background_weight import IMAGE_VALUES, NEAREST, NOWHERE, deeper, enter_response, largest_of, smallest_of
from .geometry import TILE, corner_of, depth_of, first_set, load_ray, multiply, tile_pixels
from .survey import TILE_VALUES, load_boxes, tiles_of_cell
from .values import NORM, REACH, address_of, addresses_of, image_of, load_gaussian, load_value

SLACK = tl.constexpr(culling.SLACK)


@triton.jit
def radius_of(low_x, low_y, high_x, high_y, cx, cy, cz):
    """Upper bound of the distance between the middle ray and any ray in a bounding box of (x/z, y/z).

    Normalising points of the plane z = 1 to unit rays moves no two of them further apart, and no two unit rays are
    further apart than 2.
    """
    dx = tl.maximum(high_x - cx / cz, cx / cz - low_x)
    dy = tl.maximum(high_y - cy / cz, cy / cz - low_y)
    radius = tl.sqrt(dx * dx + dy * dy)
    return tl.where(radius < 2.0, radius, 2.0)


@triton.jit
def may_be_deepest(at, cx, cy, cz, radius, best):
    """1 where a response of the Gaussians at these addresses to a ray within the radius may be as deep as the best one,
    which is not negative; else 0.

    For a block of Gaussians and one middle ray, or for one Gaussian and a block of middle rays. The module's bounds are
    multiplied by their denominators, because divisions take longer.
    """
    b00, b01, b02, b10, b11, b12, b20, b21, b22, m0, m1, m2 = load_gaussian(at)
    u0, u1, u2 = multiply(b00, b01, b02, b10, b11, b12, b20, b21, b22, cx, cy, cz)
    change = radius * load_value(at, NORM)
    reach = load_value(at, REACH)
    least = tl.maximum(tl.sqrt(u0 * u0 + u1 * u1 + u2 * u2) - change, 0.0)
    p = tl.abs(u0 * m0 + u1 * m1 + u2 * m2)
    best *= least * (1 - SLACK)
    # The reach of what is not visible is negative.
    cannot = (p + reach * change < best * least) | (reach < best)
    return tl.where(cannot, 0, 1)


@triton.jit
def deepest_pixel(gaussians, n, rays, tile, height, width):
    """The largest depth of one Gaussian over the rays of a tile, and the first pixel that attains it."""
    b00, b01, b02, b10, b11, b12, b20, b21, b22, m0, m1, m2 = load_gaussian(address_of(gaussians, n))
    top, left = corner_of(tile, width)
    y, x, inside = tile_pixels(top, left, 0, height, width, TILE * TILE)
    rx, ry, rz = load_ray(rays, y, x, width, inside)
    u0, u1, u2 = multiply(b00, b01, b02, b10, b11, b12, b20, b21, b22, rx, ry, rz)
    z, q = depth_of(u0, u1, u2, m0, m1, m2)
    z = tl.where(inside & (z == z), z, -float("inf"))
    deepest = tl.max(z)
    pixel = tl.arange(0, TILE * TILE)
    return deepest, tl.min(tl.where(inside & (z == deepest), pixel, TILE * TILE))


@triton.jit
def flat_index(tile, pixel, n, width, count):
    """pixel·N + Gaussian, for a pixel of a tile; the pixels of a tile are numbered row by row."""
    top, left = corner_of(tile, width)
    y, x = top + pixel // TILE, left + pixel % TILE
    return (y.to(tl.int64) * width + x) * count + n


@triton.jit
def look_into(depth, place, gaussians, n, count, rays, tile, height, width):
    """The deeper of a response and all those of one Gaussian in a tile, and its place."""
    found, pixel = deepest_pixel(gaussians, n, rays, tile, height, width)
    return deeper(depth, place, found, flat_index(tile, pixel, n, width, count))


@triton.jit
def search_tile(gaussians, rays, best, tile, count, height, width, x, y, z, radius, BLOCK: tl.constexpr):
    """The deepest response in a tile whose rays are within a radius of its middle ray (x, y, z), and its place.

    Responses that cannot be as deep as ``best`` are passed over; if all are, the depth is -inf and the place NOWHERE.
    """
    depth = -float("inf")
    place = tl.full((), NOWHERE, tl.int64)
    for start in range(0, count, BLOCK):
        n = start + tl.arange(0, BLOCK)
        left = may_be_deepest(addresses_of(gaussians, start, BLOCK), x, y, z, radius, best)
        chosen = first_set(left, BLOCK)
        while chosen < BLOCK:
            gaussian = start + chosen
            left = tl.where(n == gaussian, 0, left)
            chosen = first_set(left, BLOCK)
            depth, place = look_into(depth, place, gaussians, gaussian, count, rays, tile, height, width)
            best = tl.maximum(best, depth)
    return depth, place


@triton.jit
def search(
    depths,
    places,
    cells,
    image_values,
    tiles,
    first_depths,
    nearest,
    gaussians,
    rays,
    rays_stride,
    count,
    height,
    width,
    blocks,
    SIDE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """One program per cell of SIDE×SIDE tiles, share of the Gaussians, and image.

    Writes the bounding boxes of the cells' rays, cells [B, 4, K], as `survey` does for tiles; the deepest response that
    each program finds, depths [B, programs], with its flat index pixel·N + Gaussian, the lowest among equals, places
    [B, programs] (int64), -inf and NOWHERE where the bounds show that none is the deepest; and into image_values
    [B, 4] the deepest of all and the background's weight at depth zero.
    """
    cell, share, b = tl.program_id(0), tl.program_id(1), tl.program_id(2).to(tl.int64)
    gaussians = image_of(gaussians, b, count)
    rays += b * rays_stride
    rows, columns = tl.cdiv(height, TILE), tl.cdiv(width, TILE)
    tiles += b * TILE_VALUES * rows * columns

    lane = tl.arange(0, SIDE * SIDE)
    tile, exists = tiles_of_cell(cell, rows, columns, SIDE)
    low_x, low_y, high_x, high_y = load_boxes(tiles, tile, rows * columns, exists)
    at = tiles + 4 * rows * columns + tile
    cx = tl.load(at, exists, 0.0)
    cy = tl.load(at + rows * columns, exists, 0.0)
    cz = tl.load(at + 2 * rows * columns, exists, 1.0)
    tile_radius = radius_of(low_x, low_y, high_x, high_y, cx, cy, cz)
    cell_columns = tl.cdiv(columns, SIDE)
    middle_row = tl.minimum(cell // cell_columns * SIDE + SIDE // 2, rows - 1)
    middle_column = tl.minimum(cell % cell_columns * SIDE + SIDE // 2, columns - 1)
    middle = tiles + 4 * rows * columns + middle_row * columns + middle_column
    x, y, z = tl.load(middle), tl.load(middle + rows * columns), tl.load(middle + 2 * rows * columns)
    low_x, low_y, high_x, high_y = tl.min(low_x), tl.min(low_y), tl.max(high_x), tl.max(high_y)
    cell_count = tl.num_programs(0)
    box = cells + b * 4 * cell_count + cell
    tl.store(box, low_x, share == 0)
    tl.store(box + cell_count, low_y, share == 0)
    tl.store(box + 2 * cell_count, high_x, share == 0)
    tl.store(box + 3 * cell_count, high_y, share == 0)
    radius = radius_of(low_x, low_y, high_x, high_y, x, y, z)

    best = largest_of(first_depths + b * blocks, blocks)
    depth = -float("inf")
    place = tl.full((), NOWHERE, tl.int64)
    for start in range(share * BLOCK, count, tl.num_programs(1) * BLOCK):
        n = start + tl.arange(0, BLOCK)
        left = may_be_deepest(addresses_of(gaussians, start, BLOCK), x, y, z, radius, best)
        next_one = first_set(left, BLOCK)
        while next_one < BLOCK:
            gaussian = start + next_one
            left = tl.where(n == gaussian, 0, left)
            next_one = first_set(left, BLOCK)
            tiles_left = may_be_deepest(address_of(gaussians, gaussian), cx, cy, cz, tile_radius, best)
            tiles_left = tl.where(exists, tiles_left, 0)
            chosen = first_set(tiles_left, SIDE * SIDE)
            while chosen < SIDE * SIDE:
                here = tl.sum(tl.where(lane == chosen, tile, 0))
                tiles_left = tl.where(lane == chosen, 0, tiles_left)
                chosen = first_set(tiles_left, SIDE * SIDE)
                depth, place = look_into(depth, place, gaussians, gaussian, count, rays, here, height, width)
                best = tl.maximum(best, depth)
    out = (b * tl.num_programs(0) + cell) * tl.num_programs(1) + share
    tl.store(depths + out, depth)
    tl.store(places + out, place)
    image_values += b * IMAGE_VALUES
    enter_response(image_values, depth, place)
    if (cell == 0) & (share == 0):
        tl.store(image_values + NEAREST, smallest_of(nearest + b * blocks, blocks))
