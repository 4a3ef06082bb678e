"""The gradient of the rays: for each ray, a sum over the Gaussians of its tile.

In the notation of `gradient`, ``dL/dr = Σ Bᵀ h [(2z/α - k/q) e + (k z - 1)/q u]``.
"""

import triton
import triton.language as tl

from .geometry import (
    TILE,
    across,
    clamped,
    load_ray,
    own_tile,
    peak_of,
    repeat,
    respond,
    tile_pixels,
)
from .gradient import load_gradient
from .lists import member_of, ranks_of
from .values import address_of, image_of, load_gaussian, room_for


@triton.jit
def ray_gradient(
    d_rays,
    d_latent,
    projection,
    denominator,
    starts,
    counts,
    members,
    listed,
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
    GROUP: tl.constexpr,
    CHANNELS: tl.constexpr,
    LOOKED: tl.constexpr,
    PAIRED: tl.constexpr,
):
    """One program per tile and image. Writes d_rays [B, H, W, 3].

    With PAIRED, the tile's Gaussians are in its list; without, flags say which they are. LOOKED are looked at and GROUP
    evaluated at a time, with CHANNELS of their channels.
    """
    tile, tile_count, top, left = own_tile()
    b = tl.program_id(2).to(tl.int64)
    here = b * tile_count + tile
    met = tl.load(counts + here)
    size = height * width
    gaussians = image_of(gaussians, b, count)
    features += b * features_stride
    d_latent += b * channels * size
    y, x, inside = tile_pixels(top, left, 0, height, width, TILE * TILE)
    pixel = tl.max_contiguous(tl.multiple_of(y * width + x, 1), 2)
    busy = inside & (repeat(met, pixel) > 0)
    rx, ry, rz = load_ray(rays + b * rays_stride, y, x, width, busy)
    # In the unit in which weights are computed.
    share = peak_of(alpha) / tl.maximum(tl.load(denominator + b * size + pixel, busy, 1.0), eps)
    gO = tl.load(projection + b * size + pixel, busy, 0.0)
    sharpness = 1 / alpha
    dx, dy, dz = tl.zeros_like(rx), tl.zeros_like(rx), tl.zeros_like(rx)
    if PAIRED:
        members += tl.load(starts + here)
        candidates = met
    else:
        listed += here * room_for(count)
        candidates = tl.where(met > 0, count, 0)
    lane, group = tl.arange(0, LOOKED), tl.arange(0, GROUP)
    for first in range(0, candidates, LOOKED):
        i = first + lane
        if PAIRED:
            member = tl.load(members + i, i < met, 0)
            chosen = (i < met).to(tl.int32)
        else:
            member = i
            chosen = tl.load(listed + i).to(tl.int32)
        rank, found = ranks_of(chosen)
        for start in range(0, found, GROUP):
            taken = start + group < found
            n = member_of(rank, start + group, member)
            b00, b01, b02, b10, b11, b12, b20, b21, b22, m0, m1, m2 = load_gaussian(address_of(gaussians, n))
            u0, u1, u2, w, z, per_q, falloff, e0, e1, e2 = respond(
                b00, b01, b02, b10, b11, b12, b20, b21, b22, m0, m1, m2, rx, ry, rz, sharpness, 1.0
            )
            e0, e1, e2 = across(u0, u1, u2, e0, e1, e2, per_q)
            dw = tl.zeros((GROUP, TILE * TILE), tl.float32) - gO[None, :]
            for first_channel in range(0, channels, CHANNELS):
                c = first_channel + tl.arange(0, CHANNELS)
                g = load_gradient(d_latent, c, pixel, channels, size, inside)
                there = taken[:, None] & (c < channels)[None, :]
                f = tl.load(features + n.to(tl.int64)[:, None] * channels + c[None, :], there, 0.0).to(tl.float32)
                dw += tl.sum(f[:, :, None] * g[None, :, :], 1)
            h = tl.where(taken[:, None], w * share[None, :], 0.0) * dw
            h_by_q = h * per_q
            k_by_q = 4 * z * z * z * falloff * h_by_q
            of_e, of_u = 2 * sharpness * z * h - k_by_q, z * k_by_q - h_by_q
            d0, d1, d2 = of_e * e0 + of_u * u0, of_e * e1 + of_u * u1, of_e * e2 + of_u * u2
            dx += tl.sum(b00[:, None] * d0 + b10[:, None] * d1 + b20[:, None] * d2, 0)
            dy += tl.sum(b01[:, None] * d0 + b11[:, None] * d1 + b21[:, None] * d2, 0)
            dz += tl.sum(b02[:, None] * d0 + b12[:, None] * d1 + b22[:, None] * d2, 0)
    at = d_rays + 3 * (b * size + pixel)
    tl.store(at, tl.where(clamped(rx), 0.0, dx), inside)
    tl.store(at + 1, tl.where(clamped(ry), 0.0, dy), inside)
    tl.store(at + 2, tl.where(clamped(rz), 0.0, dz), inside)
