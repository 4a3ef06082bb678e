"""The gradient's sums over pixels, from the latent O and the denominator S of the forward pass.

With ``e = m - z u``, ``g = dL/dO`` and ``h = w dL/dw``:

    dL/dw = (g·f - g·O) / S                  (without g·O where S sits on its floor)
    k = 4 z³ / (1 + z⁴)
    dL/dB = M B⁻ᵀ      M = -Σ h [2/α e eᵀ + k/q (e uᵀ + u eᵀ) + u uᵀ / q]
    dL/dμ = Bᵀ v       v = -Σ h [2/α e + k/q u]

so a Gaussian needs nine sums over its pixels for its geometry and C for its features. Each program has one Gaussian and
keeps the sums over its share of the tiles in registers: no atomics, and the same bits in every run.
"""

import triton
import triton.language as tl

from .background_weight import IMAGE_VALUES, WEIGHT
from .geometry import (
    PATCHES,
    TILE,
    across,
    corner_of,
    first_set,
    load_ray,
    lowest_set,
    multiply,
    patch_pixels,
    peak_of,
    reciprocal,
    repeat,
    tile_pixels,
    weight_of,
)
from .lists import PIECE, meets, start_of
from .sums import rows_of, sum_rows
from .survey import load_patch_boxes
from .values import address_of, image_of, load_extent, load_gaussian, room_for

# Sums for a Gaussian's geometry: the upper triangle of M, row by row, then v.
MOMENTS = tl.constexpr(9)
MOMENTS_BLOCK = tl.constexpr(16)


@triton.jit
def background_gradient(
    d_background,
    d_weight,
    projection,
    d_latent,
    latent,
    denominator,
    counts,
    image_values,
    background,
    background_stride,
    channels,
    height,
    width,
    eps,
    CHANNELS: tl.constexpr,
):
    """The gradients of the background and its weight, one program per tile and image, CHANNELS at a time.

    Writes sums over the tile's pixels, d_background [B, T, C] and d_weight [B, T], and, where the tile meets a
    Gaussian, projection [B, H, W], which is g·O, or zero where S sits on its floor.
    """
    tile, b = tl.program_id(0), tl.program_id(1).to(tl.int64)
    here = b * tl.num_programs(0) + tile
    size = height * width
    top, left = corner_of(tile, width)
    weight = tl.load(image_values + b * IMAGE_VALUES + WEIGHT)
    background += b * background_stride
    d_background += here * channels
    d_latent += b * channels * size
    if tl.load(counts + here) <= 0:
        share = reciprocal(tl.maximum(weight, eps))
        y, x = top + tl.arange(0, TILE)[:, None, None], left + tl.arange(0, TILE)[None, None, :]
        c = tl.arange(0, CHANNELS)
        # Channels between rows and columns: threads of a warp then have different channels, of which few sums are left
        # for them to exchange.
        at = d_latent + c[None, :, None].to(tl.int64) * size + (y * width + x)
        inside = (y < height) & (x < width)
        by_weight = 0.0
        for first in range(0, channels, CHANNELS):
            exists = first + c < channels
            g = tl.load(at, inside & exists[None, :, None], 0.0).to(tl.float32)
            at += tl.full((), CHANNELS, tl.int64) * size
            g = tl.sum(tl.sum(g, 0), 1) * share
            tl.store(d_background + first + c, weight * g, exists)
            # dO/dw_bg is f_bg/S where S sits on its floor, and otherwise zero, because O is f_bg.
            if weight < eps:
                by_weight += tl.sum(g * tl.load(background + first + c, exists, 0.0).to(tl.float32))
        tl.store(d_weight + here, by_weight)
        return

    latent += b * channels * size
    y, x, inside = tile_pixels(top, left, 0, height, width, TILE * TILE)
    pixel = y * width + x
    S = tl.load(denominator + b * size + pixel, inside, 1.0)
    share = reciprocal(tl.maximum(S, eps))
    # g·O and g·(f_bg - O), whose difference from zero would be lost in g·f_bg - g·O.
    gO, gd = tl.zeros((TILE * TILE,), tl.float32), tl.zeros((TILE * TILE,), tl.float32)
    for first in range(0, channels, CHANNELS):
        c = first + tl.arange(0, CHANNELS)
        g = load_gradient(d_latent, c, pixel, channels, size, inside)
        O = load_gradient(latent, c, pixel, channels, size, inside)
        f = tl.load(background + c, c < channels, 0.0).to(tl.float32)[:, None]
        gO += tl.sum(g * O, 0)
        gd += tl.sum(g * (f - O), 0)
        tl.store(d_background + c, weight * tl.sum(g * share[None, :], 1), c < channels)
    floored = tl.maximum(S, eps) > S
    # dO/dw_bg = (f_bg - O)/S, or f_bg/S where S sits on its floor.
    tl.store(d_weight + here, tl.sum(share * (gd + tl.where(floored, gO, 0.0))))
    tl.store(projection + b * size + pixel, tl.where(floored, 0.0, gO), inside)


@triton.jit
def load_gradient(d_latent, c, pixel, channels, size, inside):
    """dL/dO in channels and pixels of one image, [C, P]."""
    at = d_latent + c[:, None].to(tl.int64) * size + pixel[None, :]
    return tl.load(at, (c < channels)[:, None] & inside[None, :], 0.0).to(tl.float32)


@triton.jit
def are_set(flags, i, last, stride):
    """1 where the i-th of flags that are ``stride`` apart is set and before the last, else 0."""
    return tl.load(flags + i * stride, i < last, 0).to(tl.int32)


@triton.jit
def gradient(
    moments,
    d_features,
    d_latent,
    projection,
    denominator,
    listed,
    patches,
    pair_tiles,
    ends,
    piece_owners,
    piece_ends,
    order,
    gaussians,
    features,
    rays,
    features_stride,
    rays_stride,
    count,
    height,
    width,
    alpha,
    eps,
    LOOKED: tl.constexpr,
    PIXELS: tl.constexpr,
    channels: tl.constexpr,
    CHANNELS: tl.constexpr,
    PAIRED: tl.constexpr,
):
    """One program per share of a Gaussian's tiles, and CHANNELS of its channels.

    Writes its share of the sums over pixels: moments [Q, 9] and d_features [Q, C], the shares of a Gaussian one after
    the other. Without PAIRED, all Gaussians have the same number of shares, the grid's second and third axes are shares
    and images, and share i has tiles i, i + shares, and so on; a program looks at LOOKED of them at a time, for those
    that have the Gaussian in their list, by the flags listed [B, T, room] (int8). With PAIRED, a share is a piece of
    the Gaussian's pairs, as `lists.pair_large` writes them, and programs take the pieces in the given order [Q]
    (int64). In each tile, only those groups of PIXELS pixels that the Gaussian meets are visited.
    """
    channel_blocks: tl.constexpr = (channels + CHANNELS - 1) // CHANNELS
    first_axis, channel_block = tl.program_id(0) // channel_blocks, tl.program_id(0) % channel_blocks
    if PAIRED:
        row = tl.load(order + first_axis)
        owner = tl.load(piece_owners + row)
        n, b = owner % count, (owner // count).to(tl.int64)
        share, shares = 0, 1
    else:
        n, share, shares, b = first_axis, tl.program_id(1), tl.num_programs(1), tl.program_id(2).to(tl.int64)
        row = (b * count + n) * shares + share
    tile_count = tl.cdiv(height, TILE) * tl.cdiv(width, TILE)
    gaussians = image_of(gaussians, b, count)
    c = channel_block * CHANNELS + tl.arange(0, CHANNELS)
    lane, part = tl.arange(0, LOOKED), tl.arange(0, TILE * TILE // PIXELS)
    d_features += row * channels
    moments += row * MOMENTS
    stride, begin = LOOKED * shares, share
    if PAIRED:
        first = start_of(ends, owner) + (row - start_of(piece_ends, owner)) * PIECE
        looked_at = tl.minimum(tl.load(ends + owner) - first, PIECE).to(tl.int32)
    else:
        looked_at, room, found = tile_count, room_for(count), 0
        listed += b * tile_count * room + n
        while (found == 0) & (begin < looked_at):
            found = tl.max(are_set(listed, begin + lane * shares, looked_at, room))
            begin += stride
        begin -= stride
        if found == 0:
            # Most shares of most Gaussians. What the others need would take longer than all this.
            k = tl.arange(0, MOMENTS_BLOCK)
            nothing = tl.zeros((MOMENTS_BLOCK,), tl.float32)
            tl.store(moments + k, nothing, (k < MOMENTS) & (repeat(channel_block, k) == 0))
            tl.store(d_features + c, tl.zeros((CHANNELS,), tl.float32), c < channels)
            return
    gaussian = address_of(gaussians, n)
    low_x, low_y, high_x, high_y, nx, ny, nz = load_extent(gaussian)
    b00, b01, b02, b10, b11, b12, b20, b21, b22, m0, m1, m2 = load_gaussian(gaussian)
    size = height * width
    patches += 4 * PATCHES * b * tile_count
    d_latent += b * channels * size
    projection += b * size
    denominator += b * size
    rays += b * rays_stride
    features += b * features_stride + n.to(tl.int64) * channels
    of_f = tl.zeros((CHANNELS, PIXELS), tl.float32)
    zero = tl.zeros((PIXELS,), tl.float32)
    M00, M01, M02, M11, M12, M22, V0, V1, V2 = zero, zero, zero, zero, zero, zero, zero, zero, zero
    sharpness, peak = 1 / alpha, peak_of(alpha)
    step = tl.arange(0, PIXELS)
    for start in range(begin, looked_at, stride):
        i = start + lane * shares
        met = (i < looked_at).to(tl.int32) if PAIRED else are_set(listed, i, looked_at, room)
        chosen = first_set(met, LOOKED)
        while chosen < LOOKED:
            tile = start + chosen * shares
            met = tl.where(lane == chosen, 0, met)
            chosen = first_set(met, LOOKED)
            if PAIRED:
                tile = (tl.load(pair_tiles + first + tile) - b * tile_count).to(tl.int32)
            left_x, left_y, right_x, right_y = load_patch_boxes(patches, tile, part, PIXELS)
            shows = meets(low_x, low_y, high_x, high_y, nx, ny, nz, left_x, left_y, right_x, right_y).to(tl.int32)
            bits = tl.sum(shows << part)
            top, left = corner_of(tile, width)
            while bits != 0:
                own = lowest_set(bits)
                bits &= bits - 1
                y, x, inside = patch_pixels(top, left, own * PIXELS + step, height, width)
                # Threads get neighbouring pixels, one each: wider loads would have to move between threads.
                pixel = tl.max_contiguous(tl.multiple_of(y * width + x, 1), 2)
                rx, ry, rz = load_ray(rays, y, x, width, inside)
                S = tl.load(denominator + pixel, inside, 1.0)
                g = load_gradient(d_latent, c, pixel, channels, size, inside)
                # Not before the loop: every thread would keep all of them in registers.
                f = tl.load(features + c, c < channels, 0.0).to(tl.float32)
                dw = tl.sum(g * f[:, None], 0) - tl.load(projection + pixel, inside, 0.0)
                for other in range(0, channel_blocks):
                    if other != channel_block:
                        d = other * CHANNELS + tl.arange(0, CHANNELS)
                        f_d = tl.load(features + d, d < channels, 0.0).to(tl.float32)
                        dw += tl.sum(load_gradient(d_latent, d, pixel, channels, size, inside) * f_d[:, None], 0)
                u0, u1, u2 = multiply(b00, b01, b02, b10, b11, b12, b20, b21, b22, rx, ry, rz)
                w, z, per_q, falloff, e0, e1, e2 = weight_of(u0, u1, u2, m0, m1, m2, sharpness, peak)
                w = tl.where(inside, w * reciprocal(tl.maximum(S, eps)), 0.0)
                of_f += g * w[None, :]
                h = w * dw
                by_q = h * per_q
                k_by_q = 4 * z * z * z * falloff * by_q
                by_alpha = h * (2 * sharpness)
                e0, e1, e2 = across(u0, u1, u2, e0, e1, e2, per_q)
                v0 = by_alpha * e0 + k_by_q * u0
                v1 = by_alpha * e1 + k_by_q * u1
                v2 = by_alpha * e2 + k_by_q * u2
                r0 = k_by_q * e0 + by_q * u0
                r1 = k_by_q * e1 + by_q * u1
                r2 = k_by_q * e2 + by_q * u2
                M00 += v0 * e0 + r0 * u0
                M01 += v0 * e1 + r0 * u1
                M02 += v0 * e2 + r0 * u2
                M11 += v1 * e1 + r1 * u1
                M12 += v1 * e2 + r1 * u2
                M22 += v2 * e2 + r2 * u2
                V0 += v0
                V1 += v1
                V2 += v2
    tl.store(d_features + c, sum_rows(of_f), c < channels)
    if channel_block == 0:
        tl.store(moments + tl.arange(0, 8), -sum_rows(rows_of(M00, M01, M02, M11, M12, M22, V0, V1)))
        tl.store(moments + 8, -tl.sum(V2))
