"""The latent image: every pixel's mean of features by weight."""

import triton
import triton.language as tl

from .extents import GAUSSIAN_VALUES, IMAGE_VALUES
from .geometry import TILE, TINY, load_ray, respond, tile_pixels

# Neighbouring tiles go to programs this far apart, and a program looks for those with work among so many at a time.
SKEW = tl.constexpr(5)
TURNS = tl.constexpr(32)


@triton.jit
def load_gaussian(gaussians, n, count, mask):
    """B, row by row, and the mean of Gaussians ``n`` of one image."""
    at = gaussians + n
    b00, b01, b02 = tl.load(at, mask, 0.0), tl.load(at + count, mask, 0.0), tl.load(at + 2 * count, mask, 0.0)
    at += 3 * count
    b10, b11, b12 = tl.load(at, mask, 0.0), tl.load(at + count, mask, 0.0), tl.load(at + 2 * count, mask, 0.0)
    at += 3 * count
    b20, b21, b22 = tl.load(at, mask, 0.0), tl.load(at + count, mask, 0.0), tl.load(at + 2 * count, mask, 0.0)
    at += 3 * count
    mx, my, mz = tl.load(at, mask, 0.0), tl.load(at + count, mask, 0.0), tl.load(at + 2 * count, mask, 0.0)
    return b00, b01, b02, b10, b11, b12, b20, b21, b22, mx, my, mz


@triton.jit
def dealt_tiles(program, programs, turn):
    """The tile that a program has in each turn; neighbours, which meet as many Gaussians, go to different programs."""
    return turn * programs + (program + turn * SKEW) % programs


@triton.jit
def blend(
    latent,
    denominator,
    starts,
    counts,
    members,
    gaussians,
    image_values,
    features,
    background,
    rays,
    features_stride,
    background_stride,
    rays_stride,
    count,
    channels,
    height,
    width,
    alpha,
    eps,
    PIXELS: tl.constexpr,
    GROUP: tl.constexpr,
    CHANNELS: tl.constexpr,
    DOT: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Programs that the tiles of an image are dealt to, each for PIXELS pixels of a tile and CHANNELS channels.

    Writes latent [B, C, H, W] and the sum of weights, denominator [B, H, W], where a tile meets a Gaussian. The dot
    product takes its factors in the type DOT.
    """
    program, programs, b = tl.program_id(0), tl.num_programs(0), tl.program_id(2).to(tl.int64)
    parts: tl.constexpr = TILE * TILE // PIXELS
    part, channel_block = tl.program_id(1) % parts, tl.program_id(1) // parts
    c = channel_block * CHANNELS + tl.arange(0, CHANNELS)
    tile_count = tl.cdiv(height, TILE) * tl.cdiv(width, TILE)
    size = height * width
    starts += b * tile_count
    counts += b * tile_count
    rays += b * rays_stride
    features += b * features_stride
    gaussians += b * GAUSSIAN_VALUES * count
    weight = tl.load(image_values + b * IMAGE_VALUES)
    behind = tl.load(background + b * background_stride + c, c < channels, 0.0).to(tl.float32)
    turns = tl.arange(0, TURNS)
    for first_turn in range(0, tl.cdiv(tile_count, programs), TURNS):
        tiles = dealt_tiles(program, programs, first_turn + turns)
        left = (tl.load(counts + tiles, tiles < tile_count, 0) > 0).to(tl.int32)
        while tl.max(left) > 0:
            turn = tl.argmax(left, 0)
            left = tl.where(turns == turn, 0, left)
            tile = dealt_tiles(program, programs, first_turn + turn)
            start, met = tl.load(starts + tile), tl.load(counts + tile)
            y, x, inside = tile_pixels(tile, part * PIXELS, height, width, PIXELS)
            rx, ry, rz = load_ray(rays, y, x, width, inside)
            total = tl.zeros((PIXELS,), tl.float32) + weight
            mean = tl.zeros((PIXELS, CHANNELS), tl.float32) + behind[None, :]
            for first in range(0, met, GROUP):
                i = first + tl.arange(0, GROUP)
                listed = i < met
                n = tl.load(members + start + i, listed, 0)
                b00, b01, b02, b10, b11, b12, b20, b21, b22, mx, my, mz = load_gaussian(gaussians, n, count, listed)
                u0, u1, u2, w, z, q, falloff, e0, e1, e2 = respond(
                    b00, b01, b02, b10, b11, b12, b20, b21, b22, mx, my, mz, rx, ry, rz, alpha
                )
                w = tl.where(listed[None, :], w, 0.0)
                # A running mean: every factor is at most one, so nothing overflows whatever the features are.
                more = total + tl.sum(w, 1)
                share = 1 / tl.maximum(more, TINY)
                # What shows nothing but the background is the background to the last bit.
                kept = tl.where(more == total, 1.0, total * share)
                f_at = features + n.to(tl.int64)[:, None] * channels + c[None, :]
                f = tl.load(f_at, listed[:, None] & (c < channels)[None, :], 0.0).to(DOT)
                w = (w * share[:, None]).to(DOT)
                mean = mean * kept[:, None] + tl.dot(w, f, input_precision=PRECISION, out_dtype=tl.float32)
                total = more
            mean *= (total / tl.maximum(total, eps))[:, None]
            pixel = y * width + x
            at = latent + (b * channels + c[None, :]) * size + pixel[:, None]
            tl.store(at, mean, inside[:, None] & (c < channels)[None, :])
            tl.store(denominator + b * size + pixel, total, inside & (channel_block == 0))
