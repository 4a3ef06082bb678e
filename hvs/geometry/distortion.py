"""OpenCV's lens distortion and its inverse, on normalised image coordinates.

The model is the one of OpenCV's "Camera Calibration and 3D Reconstruction": with r² = x² + y²,

    radial = (1 + k1 r² + k2 r⁴ + k3 r⁶) / (1 + k4 r² + k5 r⁴ + k6 r⁶)
    x' = x·radial + 2 p1 x y + p2 (r² + 2x²) + s1 r² + s2 r⁴
    y' = y·radial + p1 (r² + 2y²) + 2 p2 x y + s3 r² + s4 r⁴
"""

import torch
from torch import Tensor

COEFFICIENT_COUNTS = (0, 4, 5, 8, 12)
UNDISTORTION_STEPS = 5


def _coefficients(distortion: Tensor) -> tuple[Tensor, ...]:
    """k1 k2 p1 p2 k3 k4 k5 k6 s1 s2 s3 s4, each [..., 1], absent ones zero."""
    absent = distortion.new_zeros(*distortion.shape[:-1], 12 - distortion.shape[-1])
    return torch.cat((distortion, absent), -1).unsqueeze(-2).unbind(-1)


def _radial_and_shift(points: Tensor, distortion: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Numerator and denominator of the radial factor [..., P], and the tangential and prism shift [..., P, 2]."""
    k1, k2, p1, p2, k3, k4, k5, k6, s1, s2, s3, s4 = _coefficients(distortion)
    x, y = points.unbind(-1)
    r2 = x * x + y * y
    numerator = 1 + r2 * (k1 + r2 * (k2 + r2 * k3))
    denominator = 1 + r2 * (k4 + r2 * (k5 + r2 * k6))
    shift_x = 2 * p1 * x * y + p2 * (r2 + 2 * x * x) + r2 * (s1 + r2 * s2)
    shift_y = p1 * (r2 + 2 * y * y) + 2 * p2 * x * y + r2 * (s3 + r2 * s4)
    return numerator, denominator, torch.stack((shift_x, shift_y), -1)


def check_coefficients(distortion: Tensor) -> None:
    """Raise a ValueError if these are not the coefficients of a lens, [..., n]."""
    if distortion.ndim == 0 or distortion.shape[-1] not in COEFFICIENT_COUNTS:
        shape = tuple(distortion.shape)
        raise ValueError(f"distortion: got shape {shape}, wanted [..., n] with n in {COEFFICIENT_COUNTS}")


def distort(points: Tensor, distortion: Tensor) -> Tensor:
    """Where the lens puts a point of the ideal image plane.

    Args:
        points: normalised coordinates (x/z, y/z), [..., P, 2].
        distortion: 0, 4, 5, 8 or 12 coefficients in OpenCV's order, [..., n].

    Returns:
        Distorted normalised coordinates, [..., P, 2].

    Raises:
        ValueError: there is another number of coefficients.
    """
    check_coefficients(distortion)
    if distortion.shape[-1] == 0:
        return points
    numerator, denominator, shift = _radial_and_shift(points, distortion)
    return points * (numerator / denominator)[..., None] + shift


def undistort(points: Tensor, distortion: Tensor, steps: int = UNDISTORTION_STEPS) -> Tensor:
    """The inverse of :func:`distort` by OpenCV's fixed-point scheme.

    Each step divides by the radial factor at the current estimate; where that factor is not positive the step falls
    back to the distorted point itself.

    Args:
        points: distorted normalised coordinates, [..., P, 2].
        distortion: 0, 4, 5, 8 or 12 coefficients in OpenCV's order, [..., n].
        steps: iterations; the method and its released weights use five.

    Returns:
        Ideal normalised coordinates, [..., P, 2].

    Raises:
        ValueError: there is another number of coefficients.
    """
    check_coefficients(distortion)
    if distortion.shape[-1] == 0:
        return points
    ideal = points
    for _ in range(steps):
        step, usable = _undistortion_step(points, ideal, distortion)
        if step.requires_grad:
            # Not only the steps but also what they are made of must be finite, or else the gradient is NaN.
            step, _ = _undistortion_step(points, ideal.where(usable, 0.0), distortion)
        ideal = torch.where(usable, step, points)
    return ideal


def _undistortion_step(points: Tensor, ideal: Tensor, distortion: Tensor) -> tuple[Tensor, Tensor]:
    """The next estimate [..., P, 2] after the one in ``ideal``, and where it can be used [..., P, 1]."""
    numerator, denominator, shift = _radial_and_shift(ideal, distortion)
    usable = numerator * denominator > 0
    inverse = denominator / torch.where(usable, numerator, 1.0)
    step = (points - shift) * inverse[..., None]
    # Far outside the picture float32 overflows, and infinity over infinity is NaN.
    return step, (usable & step.isfinite().all(-1))[..., None]
