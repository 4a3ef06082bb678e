"""From the sums over pixels to the gradients of the inputs, with the one through the largest depth.

With ``B = diag(1/s) ρᵀ``: ``dL/dρ = (diag(1/s) dL/dB)ᵀ`` and ``dL/ds = -(dL/dB ∘ B) 1 / s``. The background's weight is
a function of the deepest response z alone, and of that one, ``M = dL/dz (x rᵀ + r xᵀ) / q`` and ``v = dL/dz r / q``.
"""

import triton
import triton.language as tl

from .extents import IMAGE_VALUES
from .geometry import (
    LARGEST,
    LARGEST_COMPONENT,
    SMALLEST_SCALE,
    clamp,
    depth_of,
    load_ray,
    multiply,
)
from .gradient import MOMENTS, clamped
from .prepare import GAUSSIAN_VALUES, load_gaussian, load_prepared_mean

# Tiles that are summed over at a time, in the same tree in every run.
TILES = tl.constexpr(256)
# Shares of a Gaussian's sums that are read at a time.
UNROLLED = tl.constexpr(4)


@triton.jit
def store_where(at, value, mask, unclamped):
    tl.store(at, tl.where(unclamped, value, 0.0), mask)


@triton.jit
def store_rotation_column(at, d0, d1, d2, rotations, s, mask):
    r = tl.load(rotations, mask, 0.0).to(tl.float32)
    store_where(at, d0 / s, mask, tl.abs(r) <= LARGEST_COMPONENT)
    r = tl.load(rotations + 3, mask, 0.0).to(tl.float32)
    store_where(at + 3, d1 / s, mask, tl.abs(r) <= LARGEST_COMPONENT)
    r = tl.load(rotations + 6, mask, 0.0).to(tl.float32)
    store_where(at + 6, d2 / s, mask, tl.abs(r) <= LARGEST_COMPONENT)


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
):
    """One program per block of Gaussians and image, and one more per image for the background."""
    block, b = tl.program_id(0), tl.program_id(1).to(tl.int64)
    if block == tl.num_programs(0) - 1:
        for first_channel in range(0, channels, CHANNELS):
            c = first_channel + tl.arange(0, CHANNELS)
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
    # Several shares are asked for before the first is waited for.
    for share in tl.range(0, shares, loop_unroll_factor=UNROLLED):
        at = moments + ((b * shares + share) * count + n) * MOMENTS
        M00 += tl.load(at, mask, 0.0)
        M01 += tl.load(at + 1, mask, 0.0)
        M02 += tl.load(at + 2, mask, 0.0)
        M11 += tl.load(at + 3, mask, 0.0)
        M12 += tl.load(at + 4, mask, 0.0)
        M22 += tl.load(at + 5, mask, 0.0)
        v0 += tl.load(at + 6, mask, 0.0)
        v1 += tl.load(at + 7, mask, 0.0)
        v2 += tl.load(at + 8, mask, 0.0)
    gaussians += b * GAUSSIAN_VALUES * count
    b00, b01, b02, b10, b11, b12, b20, b21, b22, m0, m1, m2 = load_gaussian(gaussians, n, count, mask)

    place = tl.load(farthest + b)
    deepest = (place >= 0) & (n == place % count) & mask
    if tl.max(deepest.to(tl.int32)) > 0:
        d_weight = 0.0
        for start in range(0, tile_count, TILES):
            tile = start + tl.arange(0, TILES)
            d_weight += tl.sum(tl.load(tile_weights + b * tile_count + tile, tile < tile_count, 0.0))
        pixel = place // count
        y, x = (pixel // width).to(tl.int32), (pixel % width).to(tl.int32)
        rx, ry, rz = load_ray(rays + b * rays_stride, y, x, width, x >= 0)
        u0, u1, u2 = multiply(b00, b01, b02, b10, b11, b12, b20, b21, b22, rx, ry, rz)
        mx, my, mz = load_prepared_mean(gaussians, n, count, mask)
        z, q = depth_of(u0, u1, u2, m0, m1, m2)
        d_z = tl.where(deepest, d_weight * tl.load(image_values + b * IMAGE_VALUES + 1) / q, 0.0)
        x0, x1, x2 = mx - z * rx, my - z * ry, mz - z * rz
        M00 += 2 * d_z * x0 * rx
        M01 += d_z * (x0 * ry + rx * x1)
        M02 += d_z * (x0 * rz + rx * x2)
        M11 += 2 * d_z * x1 * ry
        M12 += d_z * (x1 * rz + ry * x2)
        M22 += 2 * d_z * x2 * rz
        v0 += d_z * rx
        v1 += d_z * ry
        v2 += d_z * rz
        if WITH_RAYS:
            e0 = d_z * (m0 - 2 * z * u0)
            e1 = d_z * (m1 - 2 * z * u1)
            e2 = d_z * (m2 - 2 * z * u2)
            at = d_rays + 3 * (b * height * width + pixel)
            dx = tl.where(clamped(rx), 0.0, tl.sum(b00 * e0 + b10 * e1 + b20 * e2))
            dy = tl.where(clamped(ry), 0.0, tl.sum(b01 * e0 + b11 * e1 + b21 * e2))
            dz = tl.where(clamped(rz), 0.0, tl.sum(b02 * e0 + b12 * e1 + b22 * e2))
            tl.store(at, tl.load(at) + dx)
            tl.store(at + 1, tl.load(at + 1) + dy)
            tl.store(at + 2, tl.load(at + 2) + dz)

    here = b * count + n
    w0, w1, w2 = multiply(b00, b01, b02, b10, b11, b12, b20, b21, b22, v0, v1, v2)
    means += b * means_stride + 3 * n
    mean = tl.load(means, mask, 0.0).to(tl.float32)
    store_where(d_means + 3 * here, b00 * w0 + b10 * w1 + b20 * w2, mask, tl.abs(mean) <= LARGEST)
    mean = tl.load(means + 1, mask, 0.0).to(tl.float32)
    store_where(d_means + 3 * here + 1, b01 * w0 + b11 * w1 + b21 * w2, mask, tl.abs(mean) <= LARGEST)
    mean = tl.load(means + 2, mask, 0.0).to(tl.float32)
    store_where(d_means + 3 * here + 2, b02 * w0 + b12 * w1 + b22 * w2, mask, tl.abs(mean) <= LARGEST)

    scales += b * scales_stride + 3 * n
    s0 = tl.load(scales, mask, 1.0).to(tl.float32)
    s1 = tl.load(scales + 1, mask, 1.0).to(tl.float32)
    s2 = tl.load(scales + 2, mask, 1.0).to(tl.float32)
    rotations += b * rotations_stride + 9 * n
    d_rotations += 9 * here
    d0, d1, d2 = b00 * M00 + b01 * M01 + b02 * M02, b00 * M01 + b01 * M11 + b02 * M12, b00 * M02 + b01 * M12 + b02 * M22
    store_rotation_column(d_rotations, d0, d1, d2, rotations, clamp(s0, SMALLEST_SCALE, LARGEST), mask)
    unclamped = (s0 >= SMALLEST_SCALE) & (s0 <= LARGEST)
    store_where(d_scales + 3 * here, -(d0 * b00 + d1 * b01 + d2 * b02) / s0, mask, unclamped)
    d0, d1, d2 = b10 * M00 + b11 * M01 + b12 * M02, b10 * M01 + b11 * M11 + b12 * M12, b10 * M02 + b11 * M12 + b12 * M22
    store_rotation_column(d_rotations + 1, d0, d1, d2, rotations + 1, clamp(s1, SMALLEST_SCALE, LARGEST), mask)
    unclamped = (s1 >= SMALLEST_SCALE) & (s1 <= LARGEST)
    store_where(d_scales + 3 * here + 1, -(d0 * b10 + d1 * b11 + d2 * b12) / s1, mask, unclamped)
    d0, d1, d2 = b20 * M00 + b21 * M01 + b22 * M02, b20 * M01 + b21 * M11 + b22 * M12, b20 * M02 + b21 * M12 + b22 * M22
    store_rotation_column(d_rotations + 2, d0, d1, d2, rotations + 2, clamp(s2, SMALLEST_SCALE, LARGEST), mask)
    unclamped = (s2 >= SMALLEST_SCALE) & (s2 <= LARGEST)
    store_where(d_scales + 3 * here + 2, -(d0 * b20 + d1 * b21 + d2 * b22) / s2, mask, unclamped)

    for first_channel in range(0, channels, CHANNELS):
        c = first_channel + tl.arange(0, CHANNELS)
        there = mask[:, None] & (c < channels)[None, :]
        total = tl.zeros((BLOCK, CHANNELS), tl.float32)
        for share in tl.range(0, shares, loop_unroll_factor=UNROLLED):
            row = (b * shares + share) * count + n
            total += tl.load(feature_sums + row[:, None] * channels + c[None, :], there, 0.0)
        tl.store(d_features + here[:, None] * channels + c[None, :], total, there)
