"""Rotations."""

import torch
from torch import Tensor
from torch.nn import functional as F

# The largest difference of a matrix times its transpose from the identity.
TOLERANCE = 1e-3


def is_rotation(matrix: Tensor) -> bool:
    """Whether a matrix [3, 3] is a rotation and not a reflection, to the precision that files have."""
    matrix = matrix.double()
    off = (matrix @ matrix.mT - torch.eye(3).to(matrix)).abs().max()
    return bool(off <= TOLERANCE and torch.linalg.det(matrix) > 0)


def rotate(rotations: Tensor, points: Tensor) -> Tensor:
    """Points turned by rotations, as products and sums in the points' own precision.

    A matrix product would obey autocast and the TF32 switch, which geometry must not.

    Args:
        rotations: [..., 3, 3].
        points: [..., J, 3].

    Returns:
        [..., J, 3].
    """
    return (rotations.unsqueeze(-3) * points.unsqueeze(-2)).sum(-1)


def frame_from_direction(direction: Tensor) -> Tensor:
    """Right-handed orthonormal frame whose first axis is the given direction.

    The construction has no branch and no singularity: "Building an Orthonormal Basis, Revisited",
    Duff et al., JCGT 6(1), 2017.

    Args:
        direction: unit vectors, [..., 3].

    Returns:
        Rotation matrices [..., 3, 3] whose columns are the axes; gradients are finite for every direction.
    """
    x, y, z = direction.unbind(-1)
    sign = torch.copysign(torch.ones_like(z), z)
    a = -1.0 / (sign + z)
    b = x * y * a
    second = torch.stack((1.0 + sign * x * x * a, sign * b, -sign * x), -1)
    third = torch.stack((b, sign + y * y * a, -y), -1)
    return torch.stack((direction, second, third), -1)


def rotation_about_axis(axis: Tensor, angle: Tensor) -> Tensor:
    """Rotation by an angle about an axis (Rodrigues' formula).

    Args:
        axis: unit vectors, [..., 3].
        angle: radians, [...].

    Returns:
        Rotation matrices, [..., 3, 3].
    """
    angle = angle[..., None, None]
    eye = torch.eye(3, dtype=axis.dtype, device=axis.device)
    outer = axis[..., :, None] * axis[..., None, :]
    return angle.cos() * eye + angle.sin() * _cross_matrix(axis) + (1 - angle.cos()) * outer


def rotation_from_quaternion(quaternion: Tensor) -> Tensor:
    """Rotation of a Hamilton quaternion (w, x, y, z).

    Args:
        quaternion: [..., 4], of any nonzero length.

    Returns:
        Rotation matrices, [..., 3, 3].
    """
    w, axis = F.normalize(quaternion, dim=-1)[..., None, :].split((1, 3), -1)  # [..., 1, 1], [..., 1, 3]
    eye = torch.eye(3, dtype=axis.dtype, device=axis.device)
    diagonal = (w.square() - axis.square().sum(-1, keepdim=True)) * eye
    return diagonal + 2 * (axis.mT * axis + w * _cross_matrix(axis[..., 0, :]))


def quaternion_from_rotation(rotation: Tensor) -> Tensor:
    """Hamilton quaternion (w, x, y, z) of a rotation, the inverse of :func:`rotation_from_quaternion`.

    Args:
        rotation: orthonormal matrices, [..., 3, 3]; the last column of a reflection is negated, which gives a frame of
            the same Gaussian.

    Returns:
        Unit quaternions with a non-negative real part, [..., 4].
    """
    first, second, third = rotation.unbind(-1)
    # The determinant, which PyTorch does not have for half types.
    volume = (torch.linalg.cross(first, second) * third).sum(-1, keepdim=True)
    mirrored = F.pad(volume.sign(), (2, 0), value=1.0)
    rows = (rotation * mirrored[..., None, :]).unbind(-2)
    (xx, xy, xz), (yx, yy, yz), (zx, zy, zz) = (row.unbind(-1) for row in rows)
    # 4 q qᵀ, whose row with the largest diagonal is never near zero.
    products = (
        (1 + xx + yy + zz, zy - yz, xz - zx, yx - xy),
        (zy - yz, 1 + xx - yy - zz, xy + yx, xz + zx),
        (xz - zx, xy + yx, 1 - xx + yy - zz, yz + zy),
        (yx - xy, xz + zx, yz + zy, 1 - xx - yy + zz),
    )
    products = torch.stack([torch.stack(row, -1) for row in products], -2)  # [..., 4, 4]
    largest = products.diagonal(dim1=-2, dim2=-1).argmax(-1)[..., None, None]
    q = F.normalize(products.take_along_dim(largest, -2)[..., 0, :], dim=-1)
    return torch.where(q[..., :1] < 0, -q, q)


def _cross_matrix(vectors: Tensor) -> Tensor:
    """Matrices [..., 3, 3] that multiply as the cross product with vectors [..., 3] does."""
    x, y, z = vectors.unbind(-1)
    zero = torch.zeros_like(x)
    return torch.stack((zero, -z, y, z, zero, -x, -y, x, zero), -1).unflatten(-1, (3, 3))
