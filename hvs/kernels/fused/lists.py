"""Which Gaussians each tile meets.

Small scenes: every tile looks at every Gaussian and has room for all of them, so nothing waits for a number from the
GPU. Large scenes: every Gaussian looks for its tiles, cells of SIDE×SIDE tiles first, and its pairs with them are
counted, numbered, and sorted by tile. A tile that meets none is filled with the background.
"""

import triton
import triton.language as tl

from .extents import IMAGE_VALUES
from .geometry import TILE, tile_pixels
from .prepare import BOX, GAUSSIAN_VALUES, NORMAL
from .survey import TILE_VALUES, load_boxes

# Channels of a tile that one warp writes at a time.
FILLED_CHANNELS = tl.constexpr(4)


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
def fill_empty(latent, denominator, image_values, background, tile, b, background_stride, channels, height, width, eps):
    """A tile that meets no Gaussian shows the background."""
    y, x, inside = tile_pixels(tile, 0, height, width, TILE * TILE)
    pixel, size = y * width + x, height * width
    weight = tl.load(image_values + b * IMAGE_VALUES)
    share = tl.where(weight < eps, weight / eps, 1.0)
    for first in range(0, channels, FILLED_CHANNELS):
        c = first + tl.arange(0, FILLED_CHANNELS)
        value = tl.load(background + b * background_stride + c, c < channels, 0.0).to(tl.float32) * share
        value = tl.broadcast_to(value[:, None], (FILLED_CHANNELS, TILE * TILE))
        at = latent + (b * channels + c[:, None]) * size + pixel[None, :]
        tl.store(at, value, (c < channels)[:, None] & inside[None, :])
    tl.store(denominator + b * size + pixel, tl.zeros((TILE * TILE,), tl.float32) + weight, inside)


@triton.jit
def fill_large(counts, latent, denominator, image_values, background, background_stride, channels, height, width, eps):
    """One program per tile and image. Writes latent and denominator of the tiles that meet no Gaussian."""
    tile, b = tl.program_id(0), tl.program_id(1).to(tl.int64)
    if tl.load(counts + b * tl.num_programs(0) + tile) == 0:
        fill_empty(
            latent, denominator, image_values, background, tile, b, background_stride, channels, height, width, eps
        )


@triton.jit
def list_small(
    counts,
    members,
    latent,
    denominator,
    tiles,
    gaussians,
    count,
    image_values,
    background,
    background_stride,
    channels,
    height,
    width,
    eps,
    BLOCK: tl.constexpr,
):
    """One program per tile and image.

    Writes members [B, T, N] (int32), those that a tile meets in front, counts [B, T] (int32) of them, and latent and
    denominator of the tiles that meet none.
    """
    tile, tile_count, b = tl.program_id(0), tl.num_programs(0), tl.program_id(1).to(tl.int64)
    x0, y0, x1, y1 = load_boxes(tiles + b * TILE_VALUES * tile_count, tile, tile_count, tile < tile_count)
    gaussians += b * GAUSSIAN_VALUES * count
    members += (b * tile_count + tile) * count
    found = 0
    for start in range(0, count, BLOCK):
        n = start + tl.arange(0, BLOCK)
        low_x, low_y, high_x, high_y, nx, ny, nz = load_extent(gaussians, n, count, n < count)
        met = meets(low_x, low_y, high_x, high_y, nx, ny, nz, x0, y0, x1, y1)
        # A tile with a ray that looks sideways has no bounds, and would meet Gaussians that no pixel can show, too.
        met = (met & (n < count) & (low_x <= high_x)).to(tl.int32)
        before = found + tl.cumsum(met, 0) - met
        tl.store(members + tl.where(met > 0, before, count - 1 - (n - before)), n, n < count)
        found += tl.sum(met)
    tl.store(counts + b * tile_count + tile, found)
    if found == 0:
        fill_empty(
            latent, denominator, image_values, background, tile, b, background_stride, channels, height, width, eps
        )


@triton.jit
def pair_large(
    pair_tiles,
    owners,
    totals,
    firsts,
    counts,
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

    Given the boxes of cells of SIDE×SIDE tiles, cells [B, 4, K], writes how many tiles each Gaussian meets, totals
    [B, N], and the first of them, firsts [B, N], and adds to counts [B, T] how many Gaussians each tile meets; or with
    FILL, given the cumulative sum of totals, ends [B, N] (int64), tile b·T + tile and Gaussian of every pair in the
    Gaussians' order, pair_tiles [P] and owners [P]. All are int32 but ends.
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
    lowest = rows * columns
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
                tl.store(owners + place, tl.full((SIDE * SIDE,), 0, tl.int32) + n, met > 0)
            else:
                # Whole numbers add up to the same in any order.
                tl.atomic_add(counts + b * rows * columns + tile, met, met > 0, sem="relaxed")
                lowest = tl.minimum(lowest, tl.min(tl.where(met > 0, tile, rows * columns)))
            found += tl.sum(met)
    if not FILL:
        tl.store(totals + b * count + n, found)
        tl.store(firsts + b * count + n, lowest)
