"""The gradient's sums over pixels, from the latent O and the denominator S that the forward pass has left.

With ``e = m - z u``, the offset ``x = μ - z r`` from the ray to the mean, ``g = dL/dO`` and ``h = w dL/dw``:

    dL/dw = (g·f - g·O) / S                  (without g·O where S sits on its floor)
    k = 4 z³ / (1 + z⁴)
    dL/dB = B M        M = -Σ h [2/α x xᵀ + k/q (x rᵀ + r xᵀ) + r rᵀ / q]
    dL/dμ = BᵀB v      v = -Σ h [2/α x + k/q r]
    dL/dr = Bᵀ h [(2z/α - k/q) e + (k z - 1)/q u]

so a Gaussian's geometry needs nine sums, and its features C. They gather in rows of memory that belong to one program:
no atomics, and the same bits in every run.
"""

import triton
import triton.language as tl

from .blend import TURNS, dealt_tiles, load_gaussian
from .extents import GAUSSIAN_VALUES, IMAGE_VALUES
from .geometry import LARGEST_COMPONENT, TILE, load_ray, respond, tile_pixels
from .lists import CHANNEL_BLOCK

# Sums of a Gaussian's geometry: M's upper half, row by row, then v. Eight are packed into one tensor.
MOMENTS = tl.constexpr(9)
PACKED = tl.constexpr(8)


@triton.jit
def pack(x0, x1, x2, x3, x4, x5, x6, x7):
    """Eight blocks [P, N] as one [P, N, 8], in an order that `unpack` knows."""
    x = tl.join(tl.join(tl.join(x0, x1), tl.join(x2, x3)), tl.join(tl.join(x4, x5), tl.join(x6, x7)))
    return tl.reshape(x, (x0.shape[0], x0.shape[1], PACKED))


@triton.jit
def unpack(x):
    """One block [N, 8] as eight [N]."""
    x = tl.reshape(x, (x.shape[0], 2, 2, 2))
    low, high = tl.split(x)
    a, b = tl.split(low)
    c, d = tl.split(high)
    x0, x1 = tl.split(a)
    x2, x3 = tl.split(b)
    x4, x5 = tl.split(c)
    x6, x7 = tl.split(d)
    return x0, x1, x2, x3, x4, x5, x6, x7


@triton.jit
def clamped(r):
    return tl.abs(r) >= LARGEST_COMPONENT


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
):
    """One program per tile and image, for what a pixel has to do with the background.

    Writes sums over the tile's pixels, d_background [B, T, C] and d_weight [B, T], and where the tile meets a Gaussian,
    g·O or zero if S sits on its floor, projection [B, H, W].
    """
    tile, b = tl.program_id(0), tl.program_id(1).to(tl.int64)
    here = b * tl.num_programs(0) + tile
    size = height * width
    y, x, inside = tile_pixels(tile, 0, height, width, TILE * TILE)
    pixel = y * width + x
    weight = tl.load(image_values + b * IMAGE_VALUES)
    met = tl.load(counts + here) > 0
    S = tl.load(denominator + b * size + pixel, inside & met, 1.0)
    S = tl.where(met, S, weight)
    share = 1 / tl.maximum(S, eps)
    floored = tl.maximum(S, eps) > S
    gO = tl.zeros((TILE * TILE,), tl.float32)
    by_weight = tl.zeros((TILE * TILE,), tl.float32)
    for first in range(0, channels, CHANNEL_BLOCK):
        c = first + tl.arange(0, CHANNEL_BLOCK)
        at = (b * channels + c[:, None]) * size + pixel[None, :]
        mask = (c < channels)[:, None] & inside[None, :]
        g = tl.load(d_latent + at, mask, 0.0).to(tl.float32)
        f = tl.load(background + b * background_stride + c, c < channels, 0.0).to(tl.float32)[:, None]
        # An empty tile has no use for its latent.
        O = tl.where(met, tl.load(latent + at, mask & met, 0.0).to(tl.float32), f)
        gO += tl.sum(g * O, 0)
        # dO/dw_bg = (f_bg - O)/S, or f_bg/S if S sits on its floor.
        g = g * share[None, :]
        by_weight += tl.sum(g * tl.where(floored[None, :], f, f - O), 0)
        tl.store(d_background + here * channels + c, weight * tl.sum(g, 1), c < channels)
    tl.store(d_weight + here, tl.sum(by_weight))
    gO = tl.where(floored, 0.0, gO)
    tl.store(projection + b * size + pixel, gO, inside & met)


@triton.jit
def gradient(
    moments,
    d_features,
    d_rays,
    d_latent,
    projection,
    denominator,
    starts,
    counts,
    members,
    slots,
    gaussians,
    features,
    rays,
    features_stride,
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
    SLOTS: tl.constexpr,
    WITH_RAYS: tl.constexpr,
    DOT: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Programs that the tiles of an image are dealt to.

    Adds to moments [R, 9] and d_features [R, C], float32 and zero before: to the rows [B, programs, N] of each program
    and Gaussian, or with SLOTS, to the row that slots [P] give each pair; and to d_rays [B, H, W, 3] WITH_RAYS.
    """
    program, programs, b = tl.program_id(0), tl.num_programs(0), tl.program_id(1).to(tl.int64)
    tile_count = tl.cdiv(height, TILE) * tl.cdiv(width, TILE)
    size = height * width
    starts += b * tile_count
    counts += b * tile_count
    rays += b * rays_stride
    features += b * features_stride
    gaussians += b * GAUSSIAN_VALUES * count
    turns = tl.arange(0, TURNS)
    packed = tl.arange(0, PACKED)
    for first_turn in range(0, tl.cdiv(tile_count, programs), TURNS):
        tiles = dealt_tiles(program, programs, first_turn + turns)
        left = (tl.load(counts + tiles, tiles < tile_count, 0) > 0).to(tl.int32)
        while tl.max(left) > 0:
            turn = tl.argmax(left, 0)
            left = tl.where(turns == turn, 0, left)
            tile = dealt_tiles(program, programs, first_turn + turn)
            start, met = tl.load(starts + tile), tl.load(counts + tile)
            for first in range(0, met, GROUP):
                i = first + tl.arange(0, GROUP)
                listed = i < met
                n = tl.load(members + start + i, listed, 0)
                row = (tl.load(slots + start + i, listed, 0) if SLOTS else (b * programs + program) * count + n).to(
                    tl.int64
                )
                b00, b01, b02, b10, b11, b12, b20, b21, b22, mx, my, mz = load_gaussian(gaussians, n, count, listed)
                of_geometry = tl.zeros((GROUP, PACKED), tl.float32)
                of_last = tl.zeros((GROUP,), tl.float32)
                for first_pixel in range(0, TILE * TILE, PIXELS):
                    y, x, inside = tile_pixels(tile, first_pixel, height, width, PIXELS)
                    pixel = y * width + x
                    rx, ry, rz = load_ray(rays, y, x, width, inside)
                    u0, u1, u2, w, z, q, falloff, e0, e1, e2 = respond(
                        b00, b01, b02, b10, b11, b12, b20, b21, b22, mx, my, mz, rx, ry, rz, alpha
                    )
                    S = tl.load(denominator + b * size + pixel, inside, 1.0)
                    w = tl.where(listed[None, :] & inside[:, None], w, 0.0) / tl.maximum(S, eps)[:, None]
                    gO = tl.load(projection + b * size + pixel, inside, 0.0)
                    dw = tl.zeros((PIXELS, GROUP), tl.float32) - gO[:, None]
                    for first_channel in range(0, channels, CHANNELS):
                        c = first_channel + tl.arange(0, CHANNELS)
                        g_at = (b * channels + c[None, :]) * size + pixel[:, None]
                        g = tl.load(d_latent + g_at, inside[:, None] & (c < channels)[None, :], 0.0).to(DOT)
                        f_at = n.to(tl.int64)[None, :] * channels + c[:, None]
                        f = tl.load(features + f_at, listed[None, :] & (c < channels)[:, None], 0.0).to(DOT)
                        dw += tl.dot(g, f, input_precision=PRECISION, out_dtype=tl.float32)
                        of_f = tl.dot(tl.trans(w.to(DOT)), g, input_precision=PRECISION, out_dtype=tl.float32)
                        row_at = d_features + row[:, None] * channels + c[None, :]
                        there = listed[:, None] & (c < channels)[None, :]
                        tl.store(row_at, tl.load(row_at, there, 0.0) + of_f, there)

                    h = w * dw
                    by_q = h / q
                    k_by_q = 4 * z * z * z * falloff * by_q
                    by_alpha = h * (2 / alpha)
                    if WITH_RAYS:
                        of_e, of_u = z * by_alpha - k_by_q, z * k_by_q - by_q
                        d0, d1, d2 = of_e * e0 + of_u * u0, of_e * e1 + of_u * u1, of_e * e2 + of_u * u2
                        ray_at = d_rays + 3 * (b * size + pixel)
                        dx = tl.sum(b00[None, :] * d0 + b10[None, :] * d1 + b20[None, :] * d2, 1)
                        dy = tl.sum(b01[None, :] * d0 + b11[None, :] * d1 + b21[None, :] * d2, 1)
                        dz = tl.sum(b02[None, :] * d0 + b12[None, :] * d1 + b22[None, :] * d2, 1)
                        dx = tl.where(clamped(rx), 0.0, dx)
                        dy = tl.where(clamped(ry), 0.0, dy)
                        dz = tl.where(clamped(rz), 0.0, dz)
                        tl.store(ray_at, tl.load(ray_at, inside, 0.0) + dx, inside)
                        tl.store(ray_at + 1, tl.load(ray_at + 1, inside, 0.0) + dy, inside)
                        tl.store(ray_at + 2, tl.load(ray_at + 2, inside, 0.0) + dz, inside)
                    rx, ry, rz = rx[:, None], ry[:, None], rz[:, None]
                    x0, x1, x2 = mx[None, :] - z * rx, my[None, :] - z * ry, mz[None, :] - z * rz
                    v0 = -(by_alpha * x0 + k_by_q * rx)
                    v1 = -(by_alpha * x1 + k_by_q * ry)
                    v2 = -(by_alpha * x2 + k_by_q * rz)
                    r0 = -(k_by_q * x0 + by_q * rx)
                    r1 = -(k_by_q * x1 + by_q * ry)
                    r2 = -(k_by_q * x2 + by_q * rz)
                    of_pixels = pack(
                        v0 * x0 + r0 * rx,
                        v0 * x1 + r0 * ry,
                        v0 * x2 + r0 * rz,
                        v1 * x1 + r1 * ry,
                        v1 * x2 + r1 * rz,
                        v2 * x2 + r2 * rz,
                        v0,
                        v1,
                    )
                    of_geometry += tl.sum(of_pixels, 0)
                    of_last += tl.sum(v2, 0)
                at = moments + row[:, None] * MOMENTS + packed[None, :]
                mask = listed[:, None] & (packed >= 0)[None, :]
                tl.store(at, tl.load(at, mask, 0.0) + of_geometry, mask)
                last_at = moments + row * MOMENTS + PACKED
                tl.store(last_at, tl.load(last_at, listed, 0.0) + of_last, listed)
            # What other threads have added to a row is seen by the next tile that meets its Gaussian.
            tl.debug_barrier()
