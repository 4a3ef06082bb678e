"""Bounds of the rays of each tile, and the deepest response in each image, by branch and bound.

Over a cell of rays, ``|z| ≤ (|p| + |m| δ|B|) / (|u| - δ|B|)²`` and ``|z| ≤ |m| / (|u| - δ|B|)``, with p and u at the
cell's middle ray and δ the radius around it that contains all rays of the cell. Of tens of thousands of pairs of a tile
and a Gaussian, a few dozen are left to be evaluated pixel by pixel.
"""

import triton
import triton.language as tl

from .. import culling, pyramid
from .geometry import (
    PATCH,
    PATCH_WIDTH,
    PATCHES,
    TILE,
    depth_of,
    first_set,
    load_ray,
    multiply,
    patch_pixels,
    tile_pixels,
)
from .prepare import MEAN, NORM, REACH, image_of, load_gaussian, value_at

FLATTEST_RAY = tl.constexpr(pyramid.FLATTEST_RAY)
SLACK = tl.constexpr(culling.SLACK)
NOWHERE = tl.constexpr(0x7FFFFFFFFFFFFFFF)
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
def load_patch_boxes(patches, tile, part, PIXELS: tl.constexpr):
    """Bounding boxes of (x/z, y/z) over parts [P] of a tile, of PIXELS pixels each, from those of its patches."""
    several: tl.constexpr = PIXELS // PATCH
    i = part[:, None] * several + tl.arange(0, several)[None, :]
    low_x, low_y, high_x, high_y = load_boxes(patches + tile * (4 * PATCHES), i, PATCHES, i >= 0)
    return tl.min(low_x, 1), tl.min(low_y, 1), tl.max(high_x, 1), tl.max(high_y, 1)


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
def deepest_of(values, count, BLOCK: tl.constexpr):
    """The largest of ``count`` numbers and zero."""
    best = 0.0
    for start in range(0, count, BLOCK):
        i = start + tl.arange(0, BLOCK)
        best = tl.maximum(best, tl.max(tl.load(values + i, i < count, 0.0)))
    return best


@triton.jit
def may_be_deepest(gaussians, n, count, near, cx, cy, cz, radius, best):
    """1 where a response of Gaussians ``n`` to a ray within the radius may be as deep as the best one, else 0.

    For a block of Gaussians and one middle ray, or for one Gaussian and a block of middle rays. The module's bounds are
    multiplied by their denominators, because divisions take longer.
    """
    there = n < count
    b00, b01, b02, b10, b11, b12, b20, b21, b22, m0, m1, m2 = load_gaussian(gaussians, n, there)
    u0, u1, u2 = multiply(b00, b01, b02, b10, b11, b12, b20, b21, b22, cx, cy, cz)
    change = radius * tl.load(value_at(gaussians, n, NORM), there, 0.0)
    reach = tl.load(value_at(gaussians, n, REACH), there, 0.0)
    least = tl.maximum(tl.sqrt(u0 * u0 + u1 * u1 + u2 * u2) - change, 0.0)
    p = tl.abs(u0 * m0 + u1 * m1 + u2 * m2)
    best *= least * (1 - SLACK)
    cannot = (p + reach * change < best * least) | (reach < best)
    visible = tl.load(value_at(gaussians, n, MEAN + 2), there, -float("inf")) >= near
    return tl.where(cannot, 0, visible.to(tl.int32))


@triton.jit
def deepest_pixel(gaussians, n, count, rays, tile, height, width):
    """The largest depth of one Gaussian over the rays of a tile, and the first pixel that attains it."""
    b00, b01, b02, b10, b11, b12, b20, b21, b22, m0, m1, m2 = load_gaussian(gaussians, n, n < count)
    y, x, inside = tile_pixels(tile, 0, height, width, TILE * TILE)
    rx, ry, rz = load_ray(rays, y, x, width, inside)
    u0, u1, u2 = multiply(b00, b01, b02, b10, b11, b12, b20, b21, b22, rx, ry, rz)
    z, q = depth_of(u0, u1, u2, m0, m1, m2)
    z = tl.where(inside & (z == z), z, -float("inf"))
    deepest = tl.max(z)
    pixel = tl.arange(0, TILE * TILE)
    return deepest, tl.min(tl.where(inside & (z == deepest), pixel, TILE * TILE))


@triton.jit
def deeper(depth, place, found, at):
    """The deeper of two responses, and its place; among equals, the lower place."""
    better = (found > depth) | ((found == depth) & (at < place))
    return tl.where(better, found, depth), tl.where(better, at, place)


@triton.jit
def flat_index(tile, pixel, n, width, count):
    """pixel·N + Gaussian, for a pixel of a tile; the pixels of a tile are numbered row by row."""
    columns = tl.cdiv(width, TILE)
    y = tile // columns * TILE + pixel // TILE
    x = tile % columns * TILE + pixel % TILE
    return (y.to(tl.int64) * width + x) * count + n


@triton.jit
def least_of_patches(values):
    """The smallest value in each patch, [rows, patches, columns] -> [patches]."""
    return tl.min(tl.min(values, 0), 1)


@triton.jit
def survey(
    tiles,
    patches,
    depths,
    places,
    first_depths,
    gaussians,
    rays,
    rays_stride,
    count,
    height,
    width,
    near,
    blocks,
    BLOCK: tl.constexpr,
    SEARCH: tl.constexpr,
):
    """One program per tile and image.

    Writes tiles [B, 7, T] (see TILE_VALUES) and the bounding boxes of their patches, patches [B, T, 4, 8]. With SEARCH,
    also writes the deepest response in each tile, depths [B, T], and its flat index pixel·N + Gaussian, the lowest
    among equals, places [B, T] (int64); where the bounds show that no response is as deep as the deepest of
    first_depths [B, blocks], these are -inf and NOWHERE.
    """
    tile, tile_count, b = tl.program_id(0), tl.num_programs(0), tl.program_id(1).to(tl.int64)
    gaussians = image_of(gaussians, b, count)
    rays += b * rays_stride

    columns = tl.cdiv(width, TILE)
    middle_y = tl.minimum(tile // columns * TILE + TILE // 2, height - 1)
    middle_x = tl.minimum(tile % columns * TILE + TILE // 2, width - 1)
    # Rows on the first axis: each thread then holds a whole column of a patch, and few values move between threads.
    patch, row = tl.arange(0, PATCHES), tl.arange(0, PATCH // PATCH_WIDTH)
    step = row[:, None, None] * PATCH_WIDTH + tl.arange(0, PATCH_WIDTH)[None, None, :]
    _, _, exists = patch_pixels(tile, patch * PATCH, height, width)
    y, x, _ = patch_pixels(tile, patch[None, :, None] * PATCH + step, height, width)
    # Outside of the image, the nearest pixel inside, which is in the same patch unless all of that is outside. All
    # loads are issued before the first is waited for.
    y, x = tl.minimum(y, height - 1), tl.minimum(x, width - 1)
    cx, cy, cz = load_ray(rays, middle_y, middle_x, width, middle_x >= 0)
    rx, ry, rz = load_ray(rays, y, x, width, x >= 0)
    best = deepest_of(first_depths + b * blocks, blocks, BLOCK) if SEARCH else 0.0
    infinity = float("inf")
    flat = least_of_patches(rz) < FLATTEST_RAY
    steep = 1 / rz
    plane_x, plane_y = rx * steep, ry * steep
    low_x = tl.where(exists, tl.where(flat, -infinity, least_of_patches(plane_x)), infinity)
    low_y = tl.where(exists, tl.where(flat, -infinity, least_of_patches(plane_y)), infinity)
    high_x = tl.where(exists, tl.where(flat, infinity, -least_of_patches(-plane_x)), -infinity)
    high_y = tl.where(exists, tl.where(flat, infinity, -least_of_patches(-plane_y)), -infinity)
    box = patches + (b * tile_count + tile) * (4 * PATCHES) + patch
    tl.store(box, low_x)
    tl.store(box + PATCHES, low_y)
    tl.store(box + 2 * PATCHES, high_x)
    tl.store(box + 3 * PATCHES, high_y)
    low_x, low_y, high_x, high_y = tl.min(low_x), tl.min(low_y), tl.max(high_x), tl.max(high_y)
    out = tiles + b * TILE_VALUES * tile_count + tile
    tl.store(out, low_x)
    tl.store(out + tile_count, low_y)
    tl.store(out + 2 * tile_count, high_x)
    tl.store(out + 3 * tile_count, high_y)
    tl.store(out + 4 * tile_count, cx)
    tl.store(out + 5 * tile_count, cy)
    tl.store(out + 6 * tile_count, cz)

    if SEARCH:
        radius = radius_of(low_x, low_y, high_x, high_y, cx, cy, cz)
        depth = -infinity
        place = tl.full((), NOWHERE, tl.int64)
        for start in range(0, count, BLOCK):
            n = start + tl.arange(0, BLOCK)
            left = may_be_deepest(gaussians, n, count, near, cx, cy, cz, radius, best)
            chosen = first_set(left, BLOCK)
            while chosen < BLOCK:
                gaussian = start + chosen
                left = tl.where(n == gaussian, 0, left)
                chosen = first_set(left, BLOCK)
                found, pixel = deepest_pixel(gaussians, gaussian, count, rays, tile, height, width)
                depth, place = deeper(depth, place, found, flat_index(tile, pixel, gaussian, width, count))
                best = tl.maximum(best, depth)
        tl.store(depths + b * tile_count + tile, depth)
        tl.store(places + b * tile_count + tile, place)
