"""From a pose to one Gaussian per limb."""

from functools import cache, lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

from .rotations import frame_from_direction
from .skeletons import Skeleton

# The standard deviation along a bone is its length, but never less than this (metres).
SHORTEST_BONE = 1e-3
# Bones shorter than this (metres) have no direction of their own and take the z axis instead.
NO_DIRECTION = 1e-12


def limb_gaussians(points: Tensor, skeleton: Skeleton) -> tuple[Tensor, Tensor, Tensor]:
    """One Gaussian per edge of the skeleton (Rochette et al. 2021).

    The mean is the edge's midpoint. The first axis runs along the bone and its standard deviation is the bone's
    length (at least 1 mm); the two others have the edge's width. The covariance is therefore
    ``w² I + (l² - w²) d dᵀ``, and any frame around the bone's direction ``d`` gives the same one. Gradients are finite
    for every pose, bones of length zero included.

    Args:
        points: joints in metres, [..., J, 3].
        skeleton: its edges and widths; J must be its number of joints.

    Returns:
        means [..., N, 3], rotations [..., N, 3, 3] (columns are the axes) and scales [..., N, 3] (standard deviations),
        in metres.

    Raises:
        ValueError: points is not a tensor [..., J, 3] of a floating dtype, or skeleton is not a Skeleton.
    """
    if not isinstance(skeleton, Skeleton):
        raise ValueError(f"skeleton: got {type(skeleton).__name__}, wanted a Skeleton, as hvs.skeletons.PANOPTIC is")
    if not isinstance(points, Tensor):
        raise ValueError(f"points: got {type(points).__name__}, wanted a tensor [..., {len(skeleton.joints)}, 3]")
    if not points.is_floating_point():
        raise ValueError(f"points: got dtype {points.dtype}, wanted a floating dtype")
    if points.ndim < 2 or points.shape[-2:] != (len(skeleton.joints), 3):
        raise ValueError(
            f"points: got shape {tuple(points.shape)}, wanted [..., {len(skeleton.joints)}, 3] for {skeleton.name}"
        )
    dtype = points.dtype
    # Half types have no numbers as small as a bone's length may be.
    points = points.to(torch.promote_types(dtype, torch.float32))
    edges = _constant(skeleton.edges, torch.long, points.device)
    widths = _constant(skeleton.widths, points.dtype, points.device)
    start, end = points[..., edges[:, 0], :], points[..., edges[:, 1], :]  # [..., N, 3]
    bone = end - start
    # Both the value and the gradient of the norm must be safe, so the bone itself is replaced, not the result.
    degenerate = (bone.abs() < NO_DIRECTION).all(-1, keepdim=True)
    axis_z = F.pad(bone.new_ones(1), (2, 0))
    safe = torch.where(degenerate, axis_z, bone)
    length = torch.linalg.vector_norm(safe, dim=-1, keepdim=True)  # [..., N, 1]
    rotations = frame_from_direction(safe / length)
    along = torch.where(degenerate, SHORTEST_BONE, length.clamp(min=SHORTEST_BONE))
    across = widths[:, None].expand_as(along)
    gaussians = (start + end) / 2, rotations, torch.cat((along, across, across), -1)
    return tuple(v.to(dtype) for v in gaussians)


def _constant(values: tuple, dtype: torch.dtype, device: torch.device) -> Tensor:
    mode = torch._guards.active_fake_mode()
    return _copy_in_mode(values, dtype, device, mode) if mode else copy_once(values, dtype, device)


# A fake tensor is of no use outside the mode that it was made in, and keeps that mode alive: only the latest are kept.
@lru_cache(maxsize=16)
def _copy_in_mode(values: tuple, dtype: torch.dtype, device: torch.device, mode: object) -> Tensor:
    return copy_once.__wrapped__(values, dtype, device)


@cache
def copy_once(values: tuple, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Numbers on a device, copied there only once: every copy from the host waits for the GPU."""
    # They are kept for ever, so they must be plain tensors, even if the caller is in inference mode or in one of
    # torch.func's transforms.
    with torch.inference_mode(False), torch._C._DisableFuncTorch():
        return torch.tensor(values, dtype=dtype, device=device)


# What torch.compiler.assume_constant_result does; calling it would import the whole compiler with the package.
_constant._dynamo_marked_constant = True
