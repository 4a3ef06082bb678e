"""Where each Gaussian matters.

A weight is at most ``½ √(πα) |B⁻¹| / (1 + z⁴) exp(-D/α)``. Where it may exceed the smallest weight that counts, D is at
most some T, and the rays with D ≤ T are those that hit the ellipsoid ``|B (x - μ)|² ≤ T``.
"""

import triton
import triton.language as tl

from .. import culling, limits
from .background_weight import IMAGE_VALUES, load_weight
from .geometry import length_of, peak_of
from .search import SLACK
from .values import MEAN, TOGETHER, addresses_of, image_of, load_gaussian, load_values, store_extent

ROUNDING = tl.constexpr(culling.ROUNDING)
SMALLEST_VOLUME = tl.constexpr(limits.SMALLEST_VOLUME)


@triton.jit
def box_side(depth, offset, threshold, row_x, row_y, row_z, z_x, z_y, z_z, front):
    """Bounds of one coordinate of (x/z, y/z) over the ellipsoid.

    A plane x = a z touches the ellipsoid if (μ_x - a μ_z)² = T (Σ_xx - 2 a Σ_xz + a² Σ_zz). Half the distance between
    the two roots a is written so that no large numbers cancel.
    """
    covariance = row_x * z_x + row_y * z_y + row_z * z_z
    sx = row_x * depth - z_x * offset
    sy = row_y * depth - z_y * offset
    sz = row_z * depth - z_z * offset
    spread = sx * sx + sy * sy + sz * sz
    area = (row_x * row_x + row_y * row_y + row_z * row_z) * (z_x * z_x + z_y * z_y + z_z * z_z)
    area -= covariance * covariance
    half = tl.sqrt(threshold * tl.maximum(spread - threshold * area, 0.0))
    middle = offset * depth - threshold * covariance
    margin = half * (1 + SLACK) + tl.abs(middle) * ROUNDING
    return (middle - margin) / front, (middle + margin) / front


@triton.jit
def extent_of(b00, b01, b02, b10, b11, b12, b20, b21, b22, mx, my, mz, visible, alpha, least):
    """Bounding box of (x/z, y/z), low and high, and normal (see `values`) of where weights may exceed ``least``."""
    # The columns of B⁻¹ are the cross products of B's rows, divided by the determinant.
    c00, c10, c20 = b11 * b22 - b12 * b21, b12 * b20 - b10 * b22, b10 * b21 - b11 * b20
    c01, c11, c21 = b21 * b02 - b22 * b01, b22 * b00 - b20 * b02, b20 * b01 - b21 * b00
    c02, c12, c22 = b01 * b12 - b02 * b11, b02 * b10 - b00 * b12, b00 * b11 - b01 * b10
    determinant = b00 * c00 + b01 * c10 + b02 * c20
    most = length_of(b00, b01, b02) * length_of(b10, b11, b12) * length_of(b20, b21, b22)
    has_inverse = tl.abs(determinant) > most * SMALLEST_VOLUME
    i00, i01, i02 = c00 / determinant, c01 / determinant, c02 / determinant
    i10, i11, i12 = c10 / determinant, c11 / determinant, c12 / determinant
    i20, i21, i22 = c20 / determinant, c21 / determinant, c22 / determinant
    axis0 = i00 * i00 + i10 * i10 + i20 * i20
    axis1 = i01 * i01 + i11 * i11 + i21 * i21
    axis2 = i02 * i02 + i12 * i12 + i22 * i22
    size = tl.sqrt(axis0 + axis1 + axis2)

    # A first threshold bounds how near the ellipsoid comes to the camera; that gives a second, smaller one.
    distance = tl.sqrt(mx * mx + my * my + mz * mz)
    peak = peak_of(alpha) * size / least
    threshold = tl.maximum(alpha * tl.log(peak), 0.0)
    nearest = tl.maximum(distance - tl.sqrt(threshold) * size, 0.0)
    threshold = alpha * tl.log(peak / (1 + nearest * nearest * nearest * nearest)) * (1 + SLACK)
    reached = visible & ~(has_inverse & (threshold <= 0))
    threshold = tl.maximum(threshold, 0.0)

    deviation_z = i20 * i20 + i21 * i21 + i22 * i22
    front = mz * mz - threshold * deviation_z
    low_x, high_x = box_side(mz, mx, threshold, i00, i01, i02, i20, i21, i22, front)
    low_y, high_y = box_side(mz, my, threshold, i10, i11, i12, i20, i21, i22, front)

    # The normal of the plane through the camera, the mean and the longest axis; in its direction the ellipsoid is thin.
    # Rounding moves the mean out of that plane, by much if the axis points at the camera and the normal is short.
    first = (axis0 >= axis1) & (axis0 >= axis2)
    second = axis1 >= axis2
    lx = tl.where(first, i00, tl.where(second, i01, i02))
    ly = tl.where(first, i10, tl.where(second, i11, i12))
    lz = tl.where(first, i20, tl.where(second, i21, i22))
    nx, ny, nz = my * lz - mz * ly, mz * lx - mx * lz, mx * ly - my * lx
    t0 = i00 * nx + i10 * ny + i20 * nz
    t1 = i01 * nx + i11 * ny + i21 * nz
    t2 = i02 * nx + i12 * ny + i22 * nz
    thickness = tl.sqrt(threshold * (t0 * t0 + t1 * t1 + t2 * t2))
    closest = mz - tl.sqrt(threshold * deviation_z)
    length = tl.sqrt(tl.maximum(axis0, tl.maximum(axis1, axis2)))
    factor = closest / (thickness * (1 + SLACK) + distance * distance * length * ROUNDING)
    nx, ny, nz = nx * factor, ny * factor, nz * factor

    # An ellipsoid that reaches around the camera or is unbounded, or whose bounds overflow, is taken to meet every ray.
    infinity = float("inf")
    largest = tl.abs(low_x) + tl.abs(low_y) + tl.abs(high_x) + tl.abs(high_y) + tl.abs(nx) + tl.abs(ny) + tl.abs(nz)
    bounded = has_inverse & (front > mz * mz * SLACK) & (mz > 0) & (largest < infinity)
    # A Gaussian that matters nowhere has an empty box.
    low_x = tl.where(reached, tl.where(bounded, low_x, -infinity), infinity)
    low_y = tl.where(reached, tl.where(bounded, low_y, -infinity), infinity)
    high_x = tl.where(reached, tl.where(bounded, high_x, infinity), -infinity)
    high_y = tl.where(reached, tl.where(bounded, high_y, infinity), -infinity)
    nx, ny, nz = tl.where(bounded, nx, 0.0), tl.where(bounded, ny, 0.0), tl.where(bounded, nz, 0.0)
    return low_x, low_y, high_x, high_y, nx, ny, nz


@triton.jit
def extents(gaussians, image_values, count, alpha, beta, eps, near, tolerance):
    """One program per TOGETHER Gaussians and image, of large scenes.

    Writes into gaussians the extents with the background's weight, in place of larger ones.
    """
    block, b = tl.program_id(0), tl.program_id(1).to(tl.int64)
    weight, _ = load_weight(image_values + b * IMAGE_VALUES, beta)
    least = tolerance * tl.maximum(weight, eps)
    at = addresses_of(image_of(gaussians, b, count), block * TOGETHER, TOGETHER)
    b00, b01, b02, b10, b11, b12, b20, b21, b22, _, _, _ = load_gaussian(at)
    mx, my, mz = load_values(at, MEAN)
    visible = (mz >= near) & (block * TOGETHER + tl.arange(0, TOGETHER) < count)
    low_x, low_y, high_x, high_y, nx, ny, nz = extent_of(
        b00, b01, b02, b10, b11, b12, b20, b21, b22, mx, my, mz, visible, alpha, least
    )
    store_extent(at, low_x, low_y, high_x, high_y, nx, ny, nz)
