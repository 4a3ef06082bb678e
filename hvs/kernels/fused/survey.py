"""Bounds of the rays of each tile."""

import triton
import triton.language as tl

from .. import pyramid
from .geometry import PATCH, PATCH_WIDTH, PATCHES, TILE, load_components, load_ray, own_tile, patch_pixels, reciprocal
from .sums import min_rows

FLATTEST_RAY = tl.constexpr(pyramid.FLATTEST_RAY)
# Values of a tile: the bounding box of (x/z, y/z) over its rays, low and high, and the ray in its middle.
TILE_VALUES = tl.constexpr(7)


@triton.jit
def load_boxes(boxes, i, total, mask):
    """Bounding boxes of (x/z, y/z), low and high, of tiles or cells of one image; empty where the mask is not set."""
    low_x = tl.load(boxes + i, mask, float("inf"))
    low_y = tl.load(boxes + total + i, mask, float("inf"))
    high_x = tl.load(boxes + 2 * total + i, mask, -float("inf"))
    high_y = tl.load(boxes + 3 * total + i, mask, -float("inf"))
    return low_x, low_y, high_x, high_y


@triton.jit
def tiles_of_cell(cell, rows, columns, SIDE: tl.constexpr):
    """The SIDE×SIDE tiles of a cell, and which of them are in the image."""
    cell_columns = tl.cdiv(columns, SIDE)
    i = tl.arange(0, SIDE * SIDE)
    row = cell // cell_columns * SIDE + i // SIDE
    column = cell % cell_columns * SIDE + i % SIDE
    return row * columns + column, (row < rows) & (column < columns)


@triton.jit
def load_patch_boxes(patches, tile, part, PIXELS: tl.constexpr):
    """Bounding boxes of (x/z, y/z) over parts [P] of a tile, of PIXELS pixels each, from those of its patches."""
    several: tl.constexpr = PIXELS // PATCH
    i = part[:, None] * several + tl.arange(0, several)[None, :]
    low_x, low_y, high_x, high_y = load_boxes(patches + tile * (4 * PATCHES), i, PATCHES, i >= 0)
    return tl.min(low_x, 1), tl.min(low_y, 1), tl.max(high_x, 1), tl.max(high_y, 1)


@triton.jit
def survey_tile(patches, rays, top, left, height, width):
    """Write the bounding boxes of the patches of the tile with this corner, patches [4, 8]; returns the tile's values.

    ``rays`` points to an image [H, W, 3].
    """
    middle_y, middle_x = tl.minimum(top + TILE // 2, height - 1), tl.minimum(left + TILE // 2, width - 1)
    # Rows on the first axis: each thread then holds a whole column of a patch, and few values move between threads.
    patch, row = tl.arange(0, PATCHES), tl.arange(0, PATCH // PATCH_WIDTH)
    step = row[:, None, None] * PATCH_WIDTH + tl.arange(0, PATCH_WIDTH)[None, None, :]
    y, x, _ = patch_pixels(top, left, patch[None, :, None] * PATCH + step, height, width)
    # Outside of the image, the nearest pixel inside. All loads are issued before the first is waited for.
    y, x = tl.minimum(y, height - 1), tl.minimum(x, width - 1)
    cx, cy, cz = load_ray(rays, middle_y, middle_x, width)
    rx, ry, rz = load_components(rays, y, x, width)
    flat = tl.min(tl.min(rz, 0), 1) < FLATTEST_RAY
    # Of flat or backward rays it is no number, nor needed. Those of unit length need not be clamped.
    steep = reciprocal(rz)
    plane_x, plane_y = rx * steep, ry * steep
    low_x, low_y, high_x, high_y = tl.min(plane_x, 0), tl.min(plane_y, 0), tl.min(-plane_x, 0), tl.min(-plane_y, 0)
    # The upper bounds are negative while they are the least of something.
    bounds = tl.join(tl.join(low_x, high_x), tl.join(low_y, high_y))
    bounds = tl.permute(tl.reshape(bounds, (PATCHES, PATCH_WIDTH, 4)), (2, 0, 1))
    bounds = tl.reshape(min_rows(tl.reshape(bounds, (4 * PATCHES, PATCH_WIDTH))), (4, PATCHES))
    bounds = tl.where(flat[None, :], -float("inf"), bounds)
    side = tl.arange(0, 4)[:, None]
    tl.store(patches + side * PATCHES + patch[None, :], tl.where(side < 2, bounds, -bounds))
    low, high = tl.split(tl.trans(tl.reshape(tl.min(bounds, 1), (2, 2))))
    low_x, low_y = tl.split(low)
    high_x, high_y = tl.split(high)
    return low_x, low_y, -high_x, -high_y, cx, cy, cz


@triton.jit
def survey(tiles, patches, rays, rays_stride, height, width):
    """One program per tile and image, of large scenes.

    Writes tiles [B, 7, T] (see TILE_VALUES) and the bounding boxes of their patches, patches [B, T, 4, 8].
    """
    tile, tile_count, top, left = own_tile()
    b = tl.program_id(2).to(tl.int64)
    patches += (b * tile_count + tile) * (4 * PATCHES)
    low_x, low_y, high_x, high_y, cx, cy, cz = survey_tile(patches, rays + b * rays_stride, top, left, height, width)
    out = tiles + b * TILE_VALUES * tile_count + tile
    tl.store(out, low_x)
    tl.store(out + tile_count, low_y)
    tl.store(out + 2 * tile_count, high_x)
    tl.store(out + 3 * tile_count, high_y)
    tl.store(out + 4 * tile_count, cx)
    tl.store(out + 5 * tile_count, cy)
    tl.store(out + 6 * tile_count, cz)
