"""The gradient of the rays: for each ray, a sum over the Gaussians of its tile.

In the notation of `gradient`, ``dL/dr = Σ Bᵀ h [(2z/α - k/q) e + (k z - 1)/q u]``.
"""

import triton
import triton.language as tl

from .geometry import TILE, across, clamped, load_ray, own_tile, repeat, respond, tile_pixels
from .gradient import CHANNEL_BLOCK, load_gradient
from .values import image_of, load_gaussian


@triton.jit
def ray_gradient(
    d_rays,
    d_latent,
    projection,
    denominator,
    starts,
    counts,
    members,
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
    PAIRED: tl.constexpr,
):
    """One program per tile and image. Writes d_rays [B, H, W, 3]."""
    tile, tile_count, top, left = own_tile()
    b = tl.program_id(2).to(tl.int64)
    here = b * tile_count + tile
    met = tl.load(counts + here)
    members += tl.load(starts + here) if PAIRED else here * count
    size = height * width
    gaussians = image_of(gaussians, b, count)
    features += b * features_stride
    d_latent += b * channels * size
    y, x, inside = tile_pixels(top, left, 0, height, width, TILE * TILE)
    pixel = tl.max_contiguous(tl.multiple_of(y * width + x, 1), 2)
    busy = inside & (repeat(met, pixel) > 0)
    rx, ry, rz = load_ray(rays + b * rays_stride, y, x, width, busy)
    share = 1 / tl.maximum(tl.load(denominator + b * size + pixel, busy, 1.0), eps)
    gO = tl.load(projection + b * size + pixel, busy, 0.0)
    sharpness = 1 / alpha
    dx, dy, dz = tl.zeros_like(rx), tl.zeros_like(rx), tl.zeros_like(rx)
    for first in range(0, met, GROUP):
        i = first + tl.arange(0, GROUP)
        listed = i < met
        n = tl.load(members + i, listed, 0)
        b00, b01, b02, b10, b11, b12, b20, b21, b22, m0, m1, m2 = load_gaussian(gaussians, n, listed)
        u0, u1, u2, w, z, per_q, falloff, e0, e1, e2 = respond(
            b00, b01, b02, b10, b11, b12, b20, b21, b22, m0, m1, m2, rx, ry, rz, alpha, sharpness
        )
        e0, e1, e2 = across(u0, u1, u2, e0, e1, e2, per_q)
        dw = tl.zeros((GROUP, TILE * TILE), tl.float32) - gO[None, :]
        for first_channel in range(0, channels, CHANNEL_BLOCK):
            c = first_channel + tl.arange(0, CHANNEL_BLOCK)
            g = load_gradient(d_latent, c, pixel, channels, size, inside)
            there = listed[:, None] & (c < channels)[None, :]
            f = tl.load(features + n.to(tl.int64)[:, None] * channels + c[None, :], there, 0.0).to(tl.float32)
            dw += tl.sum(f[:, :, None] * g[None, :, :], 1)
        h = tl.where(listed[:, None], w * share[None, :], 0.0) * dw
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
