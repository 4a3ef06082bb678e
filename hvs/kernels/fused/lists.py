"""Which Gaussians each tile meets.

Small scenes: every tile looks at every Gaussian and has room for all of them, so nothing waits for a number from the
GPU. Large scenes: every Gaussian looks for its tiles, cells of SIDE×SIDE tiles first, and its pairs with them are
counted, numbered, and sorted by tile.
"""

import triton
import triton.language as tl

from .prepare import BOX, GAUSSIAN_VALUES, NORMAL
from .survey import TILE_VALUES, load_boxes


@triton.jit
def load_extent(gaussians, n, count, mask):
    """Box low and high, and normal, of Gaussians ``n`` of one image; an empty box where the mask is not set."""
    at = gaussians + count * BOX + n
    low_x = tl.load(at, mask, float("inf"))
    low_y = tl.load(at + count, mask, float("inf"))
    high_x = tl.load(at + 2 * count, mask, -float("inf"))
    high_y = tl.load(at + 3 * count, mask, -float("inf"))
    at = gaussians + count * NORMAL + n
    nx, ny, nz = tl.load(at, mask, 0.0), tl.load(at + count, mask, 0.0), tl.load(at + 2 * count, mask, 0.0)
    return low_x, low_y, high_x, high_y, nx, ny, nz


@triton.jit
def meets(low_x, low_y, high_x, high_y, nx, ny, nz, x0, y0, x1, y1):
    """Whether Gaussians' extents and boxes of rays, x0..x1 and y0..y1, may have a ray in common."""
    overlap = (low_x <= x1) & (high_x >= x0) & (low_y <= y1) & (high_y >= y0)
    beside = 0.5 * (nx * (x0 + x1) + ny * (y0 + y1)) + nz
    reach = 0.5 * (tl.abs(nx) * (x1 - x0) + tl.abs(ny) * (y1 - y0))
    return overlap & ~(tl.abs(beside) > reach + 1)


@triton.jit
def list_small(
    counts,
    members,
    tiles,
    gaussians,
    count,
    BLOCK: tl.constexpr,
):
    """One program per tile and image.

    Writes members [B, T, N] (int32), those that a tile meets in front, and counts [B, T] (int32) of them.
    """
    tile, tile_count, b = tl.program_id(0), tl.num_programs(0), tl.program_id(1).to(tl.int64)
    x0, y0, x1, y1 = load_boxes(tiles + b * TILE_VALUES * tile_count, tile, tile_count, tile < tile_count)
    gaussians += b * GAUSSIAN_VALUES * count
    members += (b * tile_count + tile) * count
    found = 0
    for start in range(0, count, BLOCK):
        n = start + tl.arange(0, BLOCK)
        low_x, low_y, high_x, high_y, nx, ny, nz = load_extent(gaussians, n, count, n < count)
        met = meets(low_x, low_y, high_x, high_y, nx, ny, nz, x0, y0, x1, y1) & (n < count)
        before = found + tl.cumsum(met.to(tl.int32), 0) - 1
        tl.store(members + before, n, met)
        found += tl.sum(met.to(tl.int32))
    tl.store(counts + b * tile_count + tile, found)


@triton.jit
def pair_large(
    pair_tiles,
    totals,
    ends,
    cells,
    tiles,
    gaussians,
    count,
    rows,
    columns,
    FILL: tl.constexpr,
    SIDE: tl.constexpr,
):
    """One program per Gaussian and image; first to count its tiles, then to write them.

    Given the boxes of cells of SIDE×SIDE tiles, cells [B, 4, K], writes totals [B, N] (int32), or with FILL, given
    their cumulative sum ends [B, N] (int64), pair_tiles [P] (int32): b·T + tile of every pair in the Gaussians' order.
    """
    n, b = tl.program_id(0), tl.program_id(1).to(tl.int64)
    cell_columns = tl.cdiv(columns, SIDE)
    cell_count = tl.cdiv(rows, SIDE) * cell_columns
    gaussians += b * GAUSSIAN_VALUES * count
    tiles += b * TILE_VALUES * rows * columns
    cells += b * 4 * cell_count
    low_x, low_y, high_x, high_y, nx, ny, nz = load_extent(gaussians, n, count, n < count)
    # An empty box meets nothing, and most of what is off-screen has one.
    last = tl.where(low_x <= high_x, cell_count, 0)
    found = 0
    first = tl.load(ends + b * count + n) - tl.load(totals + b * count + n) if FILL else 0
    lane = tl.arange(0, SIDE * SIDE)
    for start in range(0, last, SIDE * SIDE):
        cell = start + lane
        x0, y0, x1, y1 = load_boxes(cells, cell, cell_count, cell < cell_count)
        left = meets(low_x, low_y, high_x, high_y, nx, ny, nz, x0, y0, x1, y1)
        left = (left & (cell < cell_count)).to(tl.int32)
        while tl.max(left) > 0:
            chosen = start + tl.argmax(left, 0)
            left = tl.where(cell == chosen, 0, left)
            row = chosen // cell_columns * SIDE + lane // SIDE
            column = chosen % cell_columns * SIDE + lane % SIDE
            exists = (row < rows) & (column < columns)
            tile = row * columns + column
            x0, y0, x1, y1 = load_boxes(tiles, tile, rows * columns, exists)
            met = meets(low_x, low_y, high_x, high_y, nx, ny, nz, x0, y0, x1, y1)
            met = (met & exists).to(tl.int32)
            if FILL:
                place = first + found + tl.cumsum(met, 0) - met
                tl.store(pair_tiles + place, (b * rows * columns + tile).to(tl.int32), met > 0)
            found += tl.sum(met)
    if not FILL:
        tl.store(totals + b * count + n, found)
