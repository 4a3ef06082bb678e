"""Values of each Gaussian that all later kernels use, computed once."""

import triton
import triton.language as tl

from .background_weight import IMAGE_VALUES, begin_image, weight_at_zero
from .extents import extent_of
from .geometry import depth_of, length_of, load_mean, load_ray, load_scale, load_whitening, multiply, whiten_rays
from .values import (
    MEAN,
    NORM,
    REACH,
    TOGETHER,
    WHITENED,
    addresses_of,
    image_of,
    store_extent,
    store_value,
    store_values,
)

# Rays along each side of a grid over the image, borders included. The deepest response to these rays is the first lower
# bound for the search.
PROBES = tl.constexpr(4)


@triton.jit
def prepare(
    gaussians,
    image_values,
    nearest,
    depths,
    means,
    rotations,
    scales,
    rays,
    means_stride,
    rotations_stride,
    scales_stride,
    rays_stride,
    count,
    height,
    width,
    alpha,
    eps,
    near,
    tolerance,
):
    """One program per TOGETHER Gaussians and image.

    Writes gaussians [B, blocks, 24, TOGETHER] (see `values`); of each block, the weight that the background would have
    at depth zero if the block were the whole image, nearest [B, blocks], and the deepest response to a few rays, depths
    [B, blocks]; and in image_values [B, 4], that nothing has been found. The extents are those for the smallest weight
    that the background may have, which is not known yet.
    """
    block, blocks, b = tl.program_id(0), tl.num_programs(0), tl.program_id(1).to(tl.int64)
    if block == 0:
        begin_image(image_values + b * IMAGE_VALUES)
    n = block * TOGETHER + tl.arange(0, TOGETHER)
    mask = n < count
    probe = tl.arange(0, PROBES * PROBES)
    y, x = probe // PROBES * (height - 1) // (PROBES - 1), probe % PROBES * (width - 1) // (PROBES - 1)
    rx, ry, rz = load_ray(rays + b * rays_stride, y, x, width)
    means += b * means_stride
    rotations += b * rotations_stride
    scales += b * scales_stride
    mx, my, mz, visible = load_mean(means, n, mask, near)
    s0, s1, s2 = load_scale(scales, n, mask)
    b00, b01, b02, b10, b11, b12, b20, b21, b22 = load_whitening(rotations, scales, n, mask)
    m0, m1, m2 = multiply(b00, b01, b02, b10, b11, b12, b20, b21, b22, mx, my, mz)
    s = tl.minimum(s0, tl.minimum(s1, s2))
    # A NaN does not count as the smallest. Without Gaussians the variance is zero.
    variance = tl.min(tl.where(mask & (s == s), s * s, float("inf")))
    variance = tl.where(count > 0, variance, 0.0)
    tl.store(nearest + b * blocks + block, weight_at_zero(variance, alpha))

    u0, u1, u2 = whiten_rays(b00, b01, b02, b10, b11, b12, b20, b21, b22, rx, ry, rz)
    z, q = depth_of(u0, u1, u2, m0[:, None], m1[:, None], m2[:, None])
    z = tl.max(tl.where(z == z, z, 0.0), 1)
    tl.store(depths + b * blocks + block, tl.max(tl.where(visible, z, 0.0)))

    # |B|² is at most the largest row sum of |BBᵀ| (Gershgorin); for a true rotation, BBᵀ is diagonal.
    d0 = b00 * b00 + b01 * b01 + b02 * b02
    d1 = b10 * b10 + b11 * b11 + b12 * b12
    d2 = b20 * b20 + b21 * b21 + b22 * b22
    d01 = tl.abs(b00 * b10 + b01 * b11 + b02 * b12)
    d02 = tl.abs(b00 * b20 + b01 * b21 + b02 * b22)
    d12 = tl.abs(b10 * b20 + b11 * b21 + b12 * b22)
    norm = tl.sqrt(tl.maximum(d0 + d01 + d02, tl.maximum(d1 + d01 + d12, d2 + d02 + d12)))

    at = addresses_of(image_of(gaussians, b, count), block * TOGETHER, TOGETHER)
    store_values(at, 0, b00, b01, b02)
    store_values(at, 3, b10, b11, b12)
    store_values(at, 6, b20, b21, b22)
    store_values(at, MEAN, mx, my, mz)
    store_values(at, WHITENED, m0, m1, m2)
    store_value(at, REACH, tl.where(visible, length_of(m0, m1, m2), -1.0))
    store_value(at, NORM, norm)
    low_x, low_y, high_x, high_y, nx, ny, nz = extent_of(
        b00, b01, b02, b10, b11, b12, b20, b21, b22, mx, my, mz, visible, alpha, tolerance * eps
    )
    store_extent(at, low_x, low_y, high_x, high_y, nx, ny, nz)
