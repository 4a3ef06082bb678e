"""The latent image: the weighted mean of the features in every pixel."""

import triton
import triton.language as tl

from .background_weight import IMAGE_VALUES, SLOPE, WEIGHT, load_weight, place_of_deepest
from .fill import fill
from .geometry import PATCHES, TILE, load_ray, patch_pixels, peak_of, reciprocal, repeat, respond
from .lists import FILLED, meets, member_of, ranks_of
from .survey import load_patch_boxes
from .values import address_of, image_of, load_extent, load_gaussian

# The smallest sum of weights that there may be, in the unit in which weights are summed: weights that count do not
# underflow, and sums of 2¹⁴ weights times any features do not overflow if that smallest sum is above 1e-21.
LEAST_SUM = tl.constexpr(2.0**-112)


@triton.jit
def add_weighted(sums, f, w):
    """Add features [G, C] times weights [G, P], of G Gaussians, to sums [C, P]."""
    if f.shape[0] == 2:
        # Two instructions; the sum of two products is one more.
        f_a, f_b = tl.split(tl.trans(f))
        w_a, w_b = tl.split(tl.trans(w))
        return sums + f_b[:, None] * w_b[None, :] + f_a[:, None] * w_a[None, :]
    else:
        return sums + tl.sum(f[:, :, None] * w[:, None, :], 0)


@triton.jit
def blend(
    latent,
    denominator,
    image_values,
    farthest,
    starts,
    counts,
    members,
    patches,
    gaussians,
    depths,
    places,
    features,
    background,
    rays,
    features_stride,
    background_stride,
    rays_stride,
    count,
    height,
    width,
    searches,
    alpha,
    beta,
    eps,
    PIXELS: tl.constexpr,
    GROUP: tl.constexpr,
    LOOKED: tl.constexpr,
    channels: tl.constexpr,
    CHANNELS: tl.constexpr,
    PAIRED: tl.constexpr,
):
    """One program per tile, PIXELS of its pixels and CHANNELS of its channels, and image.

    Writes latent [B, C, H, W] and the sum of weights, denominator [B, H, W], which is zero where the tile meets no
    Gaussian; and of each image the background's weight and its slope, in image_values [B, 4], and the place of the
    deepest response, farthest [B] (int64). A program tests LOOKED of the tile's Gaussians at a time, and evaluates
    those that its own pixels meet, GROUP at a time. A tile that is FILLED is left as it is, unless its background is
    dimmed. The grid's second and third axes are images and rows of tiles.
    """
    parts: tl.constexpr = TILE * TILE // PIXELS
    part, column = tl.program_id(0) % parts, tl.program_id(0) // parts
    channel_blocks: tl.constexpr = (channels + CHANNELS - 1) // CHANNELS
    channel_block, column = column % channel_blocks, column // channel_blocks
    # The same row of tiles of all images at once: those at the lower border, which are mostly empty, come last.
    # Otherwise all others would wait for the last image's most crowded tiles.
    row, b = tl.program_id(2), tl.program_id(1).to(tl.int64)
    columns = tl.cdiv(width, TILE)
    tile, tile_count = row * columns + column, tl.num_programs(2) * columns
    top, left = row * TILE, column * TILE
    here = b * tile_count + tile
    met = tl.load(counts + here)
    image_values += b * IMAGE_VALUES
    behind, slope = load_weight(image_values, beta)
    piece = channel_block * parts + part
    if (tile == 0) & (piece == 0):
        tl.store(image_values + WEIGHT, behind)
        tl.store(image_values + SLOPE, slope)
        tl.store(farthest + b, place_of_deepest(depths + b * searches, places + b * searches, searches))
    size = height * width
    if met <= 0:
        # Where the background alone stays below the floor, it is dimmed. One of the programs that share a tile's pixels
        # fills all of them.
        if ((met != FILLED) | (behind < eps)) & (column % parts == part):
            share = tl.where(behind < eps, behind / eps, 1.0)
            fill(
                *(latent + b * channels * size, denominator + b * size, background + b * background_stride),
                *(share, top, left, channels, height, width, channel_block, channel_blocks),
            )
        return
    latent += b * channels * size
    denominator += b * size
    background += b * background_stride
    c = channel_block * CHANNELS + tl.arange(0, CHANNELS)
    y, x, inside = patch_pixels(top, left, part * PIXELS + tl.arange(0, PIXELS), height, width)
    pixel = y * width + x
    gaussians = image_of(gaussians, b, count)
    features += b * features_stride
    members += tl.load(starts + here) if PAIRED else here * count
    rx, ry, rz = load_ray(rays + b * rays_stride, y, x, width, inside)
    patches += 4 * PATCHES * b * tile_count
    own = part + tl.arange(0, 1)
    x0, y0, x1, y1 = load_patch_boxes(patches, tile, own, PIXELS)
    sharpness, per_eps = 1 / alpha, 1 / eps
    least = tl.minimum(tl.maximum(behind, eps), 1.0)
    # Both once, so that no pixel divides.
    peak, unit = peak_of(alpha) * (LEAST_SUM / least), least * (1 / LEAST_SUM)
    weights = tl.zeros((PIXELS,), tl.float32)
    sums = tl.zeros((CHANNELS, PIXELS), tl.float32)
    lane, i = tl.arange(0, LOOKED), tl.arange(0, GROUP)
    for first in range(0, met, LOOKED):
        listed = first + lane < met
        member = tl.load(members + first + lane, listed, 0)
        low_x, low_y, high_x, high_y, nx, ny, nz = load_extent(address_of(gaussians, member))
        shows = meets(low_x, low_y, high_x, high_y, nx, ny, nz, x0, y0, x1, y1)
        rank, found = ranks_of((shows & listed).to(tl.int32))
        for start in range(0, found, GROUP):
            taken = start + i < found
            n = member_of(rank, start + i, member)
            b00, b01, b02, b10, b11, b12, b20, b21, b22, m0, m1, m2 = load_gaussian(address_of(gaussians, n))
            there = taken[:, None] & (c < channels)[None, :]
            f = tl.load(features + n.to(tl.int64)[:, None] * channels + c[None, :], there, 0.0).to(tl.float32)
            u0, u1, u2, w, z, per_q, falloff, e0, e1, e2 = respond(
                b00, b01, b02, b10, b11, b12, b20, b21, b22, m0, m1, m2, rx, ry, rz, sharpness, peak
            )
            w = tl.where(taken[:, None], w, 0.0)
            weights += tl.sum(w, 0)
            sums = add_weighted(sums, f, w)
    weights *= unit
    total = weights + behind
    share = reciprocal(tl.maximum(total, eps))
    # Written so that a pixel that shows only the background equals it to the last bit.
    of_background = tl.where(total < eps, total * per_eps, 1.0) - weights * share
    sums *= (share * unit)[None, :]
    shown = tl.load(background + c, c < channels, 0.0).to(tl.float32)
    at = latent + c[:, None].to(tl.int64) * size + pixel[None, :]
    tl.store(at, sums + shown[:, None] * of_background[None, :], inside[None, :] & (c < channels)[:, None])
    tl.store(denominator + pixel, total, inside & (repeat(channel_block, pixel) == 0))
