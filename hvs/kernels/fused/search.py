"""The deepest response in large scenes, testing cells of tiles first; the bounds are those of `survey`."""

import triton
import triton.language as tl

from .geometry import TILE, first_set
from .prepare import image_of
from .survey import (
    NOWHERE,
    TILE_VALUES,
    deeper,
    deepest_of,
    deepest_pixel,
    flat_index,
    load_boxes,
    may_be_deepest,
    radius_of,
)


@triton.jit
def search(
    depths,
    places,
    cells,
    tiles,
    first_depths,
    gaussians,
    rays,
    rays_stride,
    count,
    height,
    width,
    near,
    blocks,
    SIDE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """One program per cell of SIDE×SIDE tiles, share of the Gaussians, and image.

    Writes the bounding boxes of the cells' rays, cells [B, 4, K], as `survey` does for tiles; and the deepest response
    that each program finds, depths [B, programs], with its flat index pixel·N + Gaussian, the lowest among equals,
    places [B, programs] (int64); -inf and NOWHERE where the bounds show that none is the deepest.
    """
    cell, share, b = tl.program_id(0), tl.program_id(1), tl.program_id(2).to(tl.int64)
    gaussians = image_of(gaussians, b, count)
    rays += b * rays_stride
    rows, columns = tl.cdiv(height, TILE), tl.cdiv(width, TILE)
    tiles += b * TILE_VALUES * rows * columns

    cell_columns = tl.cdiv(columns, SIDE)
    lane = tl.arange(0, SIDE * SIDE)
    row = cell // cell_columns * SIDE + lane // SIDE
    column = cell % cell_columns * SIDE + lane % SIDE
    exists = (row < rows) & (column < columns)
    tile = row * columns + column
    low_x, low_y, high_x, high_y = load_boxes(tiles, tile, rows * columns, exists)
    at = tiles + 4 * rows * columns + tile
    cx = tl.load(at, exists, 0.0)
    cy = tl.load(at + rows * columns, exists, 0.0)
    cz = tl.load(at + 2 * rows * columns, exists, 1.0)
    tile_radius = radius_of(low_x, low_y, high_x, high_y, cx, cy, cz)
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

    best = deepest_of(first_depths + b * blocks, blocks, BLOCK)
    depth = -float("inf")
    place = tl.full((), NOWHERE, tl.int64)
    for start in range(share * BLOCK, count, tl.num_programs(1) * BLOCK):
        n = start + tl.arange(0, BLOCK)
        left = may_be_deepest(gaussians, n, count, near, x, y, z, radius, best)
        next_one = first_set(left, BLOCK)
        while next_one < BLOCK:
            gaussian = start + next_one
            left = tl.where(n == gaussian, 0, left)
            next_one = first_set(left, BLOCK)
            tiles_left = may_be_deepest(gaussians, gaussian, count, near, cx, cy, cz, tile_radius, best)
            tiles_left = tl.where(exists, tiles_left, 0)
            chosen = first_set(tiles_left, SIDE * SIDE)
            while chosen < SIDE * SIDE:
                here = tl.sum(tl.where(lane == chosen, tile, 0))
                tiles_left = tl.where(lane == chosen, 0, tiles_left)
                chosen = first_set(tiles_left, SIDE * SIDE)
                found, pixel = deepest_pixel(gaussians, gaussian, count, rays, here, height, width)
                depth, place = deeper(depth, place, found, flat_index(here, pixel, gaussian, width, count))
                best = tl.maximum(best, depth)
    out = (b * tl.num_programs(0) + cell) * tl.num_programs(1) + share
    tl.store(depths + out, depth)
    tl.store(places + out, place)
