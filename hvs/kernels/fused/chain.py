"""From the sums over pixels to the gradients of the inputs, including the gradient through the largest depth.

With ``B = diag(1/s) ρᵀ`` and ``dL/dB = M B⁻ᵀ``: ``dL/dρ = ρ⁻ᵀ diag(s) M diag(1/s)`` and ``dL/ds = -diag(M) / s``. The
background's weight depends on the deepest response z alone, which adds ``dL/dz (e uᵀ + u eᵀ) / q`` to M and
``dL/dz u / q`` to v of its Gaussian.
"""

import triton
import triton.language as tl

from .. import limits
from .background_weight import IMAGE_VALUES, SLOPE
from .geometry import (
    LARGEST,
    LARGEST_COMPONENT,
    SMALLEST_SCALE,
    across,
    clamped,
    depth_of,
    length_of,
    load_ray,
    load_rotation_column,
    load_scale,
    multiply,
    repeat,
)
from .gradient import MOMENTS
from .values import address_of, image_of, load_gaussian

SMALLEST_VOLUME = tl.constexpr(limits.SMALLEST_VOLUME)
# Tiles that are summed at a time, by the same tree in every run.
TILES = tl.constexpr(256)
# Shares of a Gaussian's sums that are read at a time.
UNROLLED = tl.constexpr(4)


@triton.jit
def store_where(at, value, mask, unclamped):
    tl.store(at, tl.where(unclamped, value, 0.0), mask)


@triton.jit
def store_scale(at, value, scales, mask):
    s = tl.load(scales, mask, 1.0).to(tl.float32)
    store_where(at, value, mask, (s >= SMALLEST_SCALE) & (s <= LARGEST))


@triton.jit
def store_rotation_column(at, dx, dy, dz, rotations, mask):
    r = tl.load(rotations, mask, 0.0).to(tl.float32)
    store_where(at, dx, mask, tl.abs(r) <= LARGEST_COMPONENT)
    r = tl.load(rotations + 3, mask, 0.0).to(tl.float32)
    store_where(at + 3, dy, mask, tl.abs(r) <= LARGEST_COMPONENT)
    r = tl.load(rotations + 6, mask, 0.0).to(tl.float32)
    store_where(at + 6, dz, mask, tl.abs(r) <= LARGEST_COMPONENT)


@triton.jit
def inverse_transposed(rotations, n, mask):
    """The columns of ρ⁻ᵀ of Gaussians ``n`` of one image, zero where there is no inverse."""
    x0, y0, z0 = load_rotation_column(rotations, n, mask, 0)
    x1, y1, z1 = load_rotation_column(rotations, n, mask, 1)
    x2, y2, z2 = load_rotation_column(rotations, n, mask, 2)
    c0, c1, c2 = y1 * z2 - z1 * y2, z1 * x2 - x1 * z2, x1 * y2 - y1 * x2
    volume = x0 * c0 + y0 * c1 + z0 * c2
    most = length_of(x0, y0, z0) * length_of(x1, y1, z1) * length_of(x2, y2, z2)
    inverse = tl.where(tl.abs(volume) > most * SMALLEST_VOLUME, 1 / volume, 0.0)
    c0, c1, c2 = c0 * inverse, c1 * inverse, c2 * inverse
    c3, c4, c5 = (y2 * z0 - z2 * y0) * inverse, (z2 * x0 - x2 * z0) * inverse, (x2 * y0 - y2 * x0) * inverse
    c6, c7, c8 = (y0 * z1 - z0 * y1) * inverse, (z0 * x1 - x0 * z1) * inverse, (x0 * y1 - y0 * x1) * inverse
    return c0, c1, c2, c3, c4, c5, c6, c7, c8


@triton.jit
def chain(
    d_means,
    d_rotations,
    d_scales,
    d_features,
    d_background,
    d_rays,
    moments,
    feature_sums,
    tile_backgrounds,
    tile_weights,
    piece_ends,
    gaussians,
    image_values,
    farthest,
    means,
    rotations,
    scales,
    rays,
    means_stride,
    rotations_stride,
    scales_stride,
    rays_stride,
    shares,
    tile_count,
    count,
    channels,
    height,
    width,
    BLOCK: tl.constexpr,
    CHANNELS: tl.constexpr,
    WITH_RAYS: tl.constexpr,
    PAIRED: tl.constexpr,
):
    """One program per BLOCK Gaussians and image, and before them one per CHANNELS channels of an image's background.

    The sums of a Gaussian have as many rows in moments [Q, 9] and feature_sums [Q, C] as it has ``shares``, or with
    PAIRED those between the previous Gaussian's entry of piece_ends [B, N] (int64) and its own.
    """
    block, b = tl.program_id(0) - tl.cdiv(channels, CHANNELS), tl.program_id(1).to(tl.int64)
    if block < 0:
        c = tl.program_id(0) * CHANNELS + tl.arange(0, CHANNELS)
        total = tl.zeros((CHANNELS,), tl.float32)
        for start in range(0, tile_count, TILES):
            tile = start + tl.arange(0, TILES)
            at = tile_backgrounds + (b * tile_count + tile)[:, None] * channels + c[None, :]
            total += tl.sum(tl.load(at, (tile < tile_count)[:, None] & (c < channels)[None, :], 0.0), 0)
        tl.store(d_background + b * channels + c, total, c < channels)
        return

    n = block * BLOCK + tl.arange(0, BLOCK)
    mask = n < count
    zero = tl.zeros((BLOCK,), tl.float32)
    M00, M01, M02, M11, M12, M22, v0, v1, v2 = zero, zero, zero, zero, zero, zero, zero, zero, zero
    # The rows of each Gaussian's shares, and the largest number of them.
    here = b * count + n
    if PAIRED:
        first_row = tl.load(piece_ends + here - 1, mask & (here > 0), 0)
        own = tl.load(piece_ends + here, mask, 0) - first_row
        most = tl.max(tl.where(mask, own, 0)).to(tl.int32)
    else:
        first_row, own, most = here * shares, repeat(shares, n), shares
    # Loads of several shares are issued before the first is waited for.
    for share in tl.range(0, most, loop_unroll_factor=UNROLLED):
        at = moments + (first_row + share) * MOMENTS
        has = mask & (share < own)
        M00 += tl.load(at, has, 0.0)
        M01 += tl.load(at + 1, has, 0.0)
        M02 += tl.load(at + 2, has, 0.0)
        M11 += tl.load(at + 3, has, 0.0)
        M12 += tl.load(at + 4, has, 0.0)
        M22 += tl.load(at + 5, has, 0.0)
        v0 += tl.load(at + 6, has, 0.0)
        v1 += tl.load(at + 7, has, 0.0)
        v2 += tl.load(at + 8, has, 0.0)
    gaussians = image_of(gaussians, b, count)
    b00, b01, b02, b10, b11, b12, b20, b21, b22, m0, m1, m2 = load_gaussian(address_of(gaussians, n))

    place = tl.load(farthest + b)
    deepest = (place >= 0) & (n == place % count) & mask
    if tl.max(deepest.to(tl.int32)) > 0:
        d_weight = 0.0
        for start in range(0, tile_count, TILES):
            tile = start + tl.arange(0, TILES)
            d_weight += tl.sum(tl.load(tile_weights + b * tile_count + tile, tile < tile_count, 0.0))
        pixel = place // count
        y, x = (pixel // width).to(tl.int32), (pixel % width).to(tl.int32)
        rx, ry, rz = load_ray(rays + b * rays_stride, y, x, width)
        u0, u1, u2 = multiply(b00, b01, b02, b10, b11, b12, b20, b21, b22, rx, ry, rz)
        z, q = depth_of(u0, u1, u2, m0, m1, m2)
        d_z = tl.where(deepest, d_weight * tl.load(image_values + b * IMAGE_VALUES + SLOPE) / q, 0.0)
        e0, e1, e2 = across(u0, u1, u2, m0 - z * u0, m1 - z * u1, m2 - z * u2, 1 / q)
        M00 += 2 * d_z * e0 * u0
        M01 += d_z * (e0 * u1 + u0 * e1)
        M02 += d_z * (e0 * u2 + u0 * e2)
        M11 += 2 * d_z * e1 * u1
        M12 += d_z * (e1 * u2 + u1 * e2)
        M22 += 2 * d_z * e2 * u2
        v0 += d_z * u0
        v1 += d_z * u1
        v2 += d_z * u2
        if WITH_RAYS:
            e0, e1, e2 = d_z * (e0 - z * u0), d_z * (e1 - z * u1), d_z * (e2 - z * u2)
            at = d_rays + 3 * (b * height * width + pixel)
            dx = tl.where(clamped(rx), 0.0, tl.sum(b00 * e0 + b10 * e1 + b20 * e2))
            dy = tl.where(clamped(ry), 0.0, tl.sum(b01 * e0 + b11 * e1 + b21 * e2))
            dz = tl.where(clamped(rz), 0.0, tl.sum(b02 * e0 + b12 * e1 + b22 * e2))
            x, y, z = tl.load(at) + dx, tl.load(at + 1) + dy, tl.load(at + 2) + dz
            # All warps have read what one of them writes.
            tl.debug_barrier()
            tl.store(at, x)
            tl.store(at + 1, y)
            tl.store(at + 2, z)

    means += b * means_stride + 3 * n
    mean = tl.load(means, mask, 0.0).to(tl.float32)
    store_where(d_means + 3 * here, b00 * v0 + b10 * v1 + b20 * v2, mask, tl.abs(mean) <= LARGEST)
    mean = tl.load(means + 1, mask, 0.0).to(tl.float32)
    store_where(d_means + 3 * here + 1, b01 * v0 + b11 * v1 + b21 * v2, mask, tl.abs(mean) <= LARGEST)
    mean = tl.load(means + 2, mask, 0.0).to(tl.float32)
    store_where(d_means + 3 * here + 2, b02 * v0 + b12 * v1 + b22 * v2, mask, tl.abs(mean) <= LARGEST)

    scales += b * scales_stride
    s0, s1, s2 = load_scale(scales, n, mask)
    store_scale(d_scales + 3 * here, -M00 / s0, scales + 3 * n, mask)
    store_scale(d_scales + 3 * here + 1, -M11 / s1, scales + 3 * n + 1, mask)
    store_scale(d_scales + 3 * here + 2, -M22 / s2, scales + 3 * n + 2, mask)

    rotations += b * rotations_stride
    x0, y0, z0, x1, y1, z1, x2, y2, z2 = inverse_transposed(rotations, n, mask)
    x0, y0, z0, x1, y1, z1, x2, y2, z2 = x0 * s0, y0 * s0, z0 * s0, x1 * s1, y1 * s1, z1 * s1, x2 * s2, y2 * s2, z2 * s2
    rotations += 9 * n
    d_rotations += 9 * here
    dx, dy, dz = multiply(x0, x1, x2, y0, y1, y2, z0, z1, z2, M00, M01, M02)
    store_rotation_column(d_rotations, dx / s0, dy / s0, dz / s0, rotations, mask)
    dx, dy, dz = multiply(x0, x1, x2, y0, y1, y2, z0, z1, z2, M01, M11, M12)
    store_rotation_column(d_rotations + 1, dx / s1, dy / s1, dz / s1, rotations + 1, mask)
    dx, dy, dz = multiply(x0, x1, x2, y0, y1, y2, z0, z1, z2, M02, M12, M22)
    store_rotation_column(d_rotations + 2, dx / s2, dy / s2, dz / s2, rotations + 2, mask)

    for first_channel in range(0, channels, CHANNELS):
        c = first_channel + tl.arange(0, CHANNELS)
        total = tl.zeros((BLOCK, CHANNELS), tl.float32)
        for share in tl.range(0, most, loop_unroll_factor=UNROLLED):
            has = (mask & (share < own))[:, None] & (c < channels)[None, :]
            total += tl.load(feature_sums + (first_row + share)[:, None] * channels + c[None, :], has, 0.0)
        there = mask[:, None] & (c < channels)[None, :]
        tl.store(d_features + here[:, None] * channels + c[None, :], total, there)
