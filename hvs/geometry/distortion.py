"""From pixels to normalised image coordinates, and OpenCV's lens distortion and its inverse on them.

The model is the one of OpenCV's "Camera Calibration and 3D Reconstruction": with r² = x² + y²,

    radial = (1 + k1 r² + k2 r⁴ + k3 r⁶) / (1 + k4 r² + k5 r⁴ + k6 r⁶)
    x' = x·radial + 2 p1 x y + p2 (r² + 2x²) + s1 r² + s2 r⁴
    y' = y·radial + p1 (r² + 2y²) + 2 p2 x y + s3 r² + s4 r⁴
"""

import torch
from torch import Tensor

COEFFICIENT_COUNTS = (0, 4, 5, 8, 12)
UNDISTORTION_STEPS = 5


def _radial_and_shift(x: Tensor, y: Tensor, distortion: Tensor) -> tuple[Tensor, Tensor | float, Tensor, Tensor]:
    """Numerator and denominator of the radial factor, and the tangential and prism shift of x and of y, each [..., P].

    Terms whose coefficients are absent are not computed.
    """
    count = distortion.shape[-1]
    absent = distortion.new_zeros(*distortion.shape[:-1], 12 - count)
    # Each [..., 1].
    k1, k2, p1, p2, k3, k4, k5, k6, s1, s2, s3, s4 = torch.cat((distortion, absent), -1).unsqueeze(-2).unbind(-1)
    r2 = x * x + y * y
    numerator = 1 + r2 * (k1 + r2 * (k2 + r2 * k3))
    denominator = 1 + r2 * (k4 + r2 * (k5 + r2 * k6)) if count > 5 else 1.0
    shift_x = 2 * p1 * x * y + p2 * (r2 + 2 * x * x)
    shift_y = p1 * (r2 + 2 * y * y) + 2 * p2 * x * y
    if count > 8:
        shift_x, shift_y = shift_x + r2 * (s1 + r2 * s2), shift_y + r2 * (s3 + r2 * s4)
    return numerator, denominator, shift_x, shift_y


def check_coefficients(distortion: Tensor) -> None:
    """Raise a ValueError if these are not the coefficients of a lens, [..., n]."""
    if distortion.ndim == 0 or distortion.shape[-1] not in COEFFICIENT_COUNTS:
        shape = tuple(distortion.shape)
        raise ValueError(f"distortion: got shape {shape}, wanted [..., n] with n in {COEFFICIENT_COUNTS}")


def to_plane(pixels: Tensor, K: Tensor) -> Tensor:
    """Normalised coordinates (x/z, y/z), [..., P, 2], of pixels [P, 2] of cameras with intrinsics K [..., 3, 3].

    What the lens has done to them is still included.
    """
    u, v = pixels.unbind(-1)
    K = K[..., None, :, :]
    y = (v - K[..., 1, 2]) / K[..., 1, 1]
    x = (u - K[..., 0, 2] - K[..., 0, 1] * y) / K[..., 0, 0]
    return torch.stack((x, y), -1)


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
    x, y = points.unbind(-1)
    numerator, denominator, shift_x, shift_y = _radial_and_shift(x, y, distortion)
    radial = numerator / denominator
    return torch.stack((x * radial + shift_x, y * radial + shift_y), -1)


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
    # Each coordinate in memory of its own, where every step takes less time than on pairs.
    x, y = (coordinate.contiguous() for coordinate in points.unbind(-1))
    ideal = x, y
    for _ in range(steps):
        step, usable = _undistortion_step(x, y, *ideal, distortion)
        if step[0].requires_grad:
            # Not only the steps but also what they are made of must be finite, or else the gradient is NaN.
            step, _ = _undistortion_step(x, y, *(v.where(usable, 0.0) for v in ideal), distortion)
        ideal = tuple(torch.where(usable, new, old) for new, old in zip(step, (x, y), strict=True))
    return torch.stack(ideal, -1)


def _undistortion_step(
    x: Tensor, y: Tensor, ideal_x: Tensor, ideal_y: Tensor, distortion: Tensor
) -> tuple[tuple[Tensor, Tensor], Tensor]:
    """The next estimate after the ideal one, and where it can be used, each [..., P]."""
    numerator, denominator, shift_x, shift_y = _radial_and_shift(ideal_x, ideal_y, distortion)
    inverse = denominator / numerator
    step = (x - shift_x) * inverse, (y - shift_y) * inverse
    # Far outside the picture float32 overflows, and infinity over infinity is NaN.
    usable = (numerator * denominator > 0) & step[0].isfinite() & step[1].isfinite()
    return step, usable
