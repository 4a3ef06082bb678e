"""The dense reference: every pixel against every Gaussian, step by step as in the formulas, differentiated by autograd.

The other backends are tested against it, and it is written to be read. Pixels are processed in chunks that the backward
pass recomputes, so memory stays bounded. Any floating dtype works.
"""

import math

import torch
from torch import Tensor

from .limits import LARGEST_COMPONENT
from .precision import with_all_digits, without_autocast
from .transforms import refuse_batches

# Pairs of a pixel and a Gaussian in one chunk; some twenty intermediates of this size are alive at a time.
PAIRS_PER_CHUNK = 1 << 18


def response(means: Tensor, rotations: Tensor, scales: Tensor, rays: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Depth z of the strongest response, squared Mahalanobis distance D, and q = |u|² of each ray and Gaussian.

    With ``u = diag(1/s) ρᵀ r`` and ``m = diag(1/s) ρᵀ μ``: ``z = u·m / q`` and ``D = |m × u|² / q``.

    Args:
        means [..., N, 3], rotations [..., N, 3, 3], scales [..., N, 3], rays [..., P, 3].

    Returns:
        Three tensors [..., P, N].
    """
    whiten = rotations.mT / scales[..., None]  # [..., N, 3, 3]
    m = (whiten * means[..., None, :]).sum(-1)[..., None, :, :]  # [..., 1, N, 3]
    rays = rays.clamp(-LARGEST_COMPONENT, LARGEST_COMPONENT)
    u = (whiten[..., None, :, :, :] * rays[..., :, None, None, :]).sum(-1)  # [..., P, N, 3]
    q = u.square().sum(-1).clamp(min=torch.finfo(u.dtype).tiny)
    z = (u * m).sum(-1) / q
    D = torch.linalg.cross(m.expand_as(u), u).square().sum(-1) / q
    return z, D, q


def farthest(means: Tensor, rotations: Tensor, scales: Tensor, rays: Tensor, visible: Tensor) -> Tensor:
    """Flat index pixel·N + Gaussian of the largest z in each image, [B]; among equals, the lowest index.

    Args:
        means [B, N, 3], rotations [B, N, 3, 3], scales [B, N, 3], rays [B, H, W, 3], visible [B, N] (bool).
    """
    rays = rays.flatten(1, 2)
    batch, count = means.shape[:2]
    best = means.new_full((batch,), -math.inf)
    index = torch.zeros(batch, dtype=torch.long, device=means.device)
    for start, chunk in _chunks(rays, count):
        z = response(means, rotations, scales, chunk)[0].where(visible[:, None], -math.inf).flatten(1)
        value, where = z.max(-1)
        # torch.max may return any of several equal maxima; argmax of the mask returns the first.
        where = (z == value[:, None]).to(torch.uint8).argmax(-1)
        better = value > best
        best, index = torch.where(better, value, best), torch.where(better, where + start * count, index)
    return index


def render(
    means: Tensor,
    rotations: Tensor,
    scales: Tensor,
    features: Tensor,
    background: Tensor,
    background_weight: Tensor,
    rays: Tensor,
    visible: Tensor,
    alpha: float,
    eps: float,
    tolerance: float,
) -> Tensor:
    """The normalised weighted sum of features along each ray; no pair is skipped, whatever the tolerance.

    Args:
        means [B, N, 3], rotations [B, N, 3, 3], scales [B, N, 3], features [B, N, C], background [B, C],
        background_weight [B], rays [B, H, W, 3], visible [B, N] (bool).

    Returns:
        The latent, [B, C, H, W].
    """
    inputs = means, rotations, scales, features, background, background_weight, visible, alpha, eps
    return _InChunks.apply(rays.flatten(1, 2), *inputs).mT.unflatten(-1, rays.shape[1:3])


def _pixels(
    rays: Tensor,
    means: Tensor,
    rotations: Tensor,
    scales: Tensor,
    features: Tensor,
    background: Tensor,
    background_weight: Tensor,
    visible: Tensor,
    alpha: float,
    eps: float,
) -> Tensor:
    """The latent along rays [B, P, 3]: [B, P, C]."""
    z, D, q = response(means, rotations, scales, rays)
    w = 1 / (1 + z**4) * 0.5 * torch.sqrt(math.pi * alpha / q) * torch.exp(-D / alpha)
    w = w.where(visible[:, None], 0.0)  # [B, P, N]
    w_background = background_weight[:, None, None]
    total = (w.sum(-1, keepdim=True) + w_background).clamp(min=eps)
    return (w / total) @ features + w_background / total * background[:, None]


class _InChunks(torch.autograd.Function):
    """:func:`_pixels` over all rays, saving only its inputs: the backward pass recomputes every chunk."""

    @staticmethod
    @with_all_digits()
    def forward(ctx, rays: Tensor, *inputs) -> Tensor:
        *tensors, ctx.alpha, ctx.eps = inputs
        ctx.save_for_backward(rays, *tensors)
        features = inputs[3]
        latent = features.new_empty(*rays.shape[:2], features.shape[-1])
        for start, chunk in _chunks(rays, features.shape[1]):
            latent[:, start : start + chunk.shape[1]] = _pixels(chunk, *inputs)
        return latent

    @staticmethod
    def backward(ctx, gradient: Tensor):
        refuse_batches(gradient)
        return (
            *_InChunksBackward.apply(ctx.needs_input_grad, gradient, ctx.alpha, ctx.eps, *ctx.saved_tensors),
            None,
            None,
        )


class _InChunksBackward(torch.autograd.Function):
    """The gradients of :class:`_InChunks`, as a function of its own so that second derivatives raise an error."""

    @staticmethod
    @with_all_digits()
    def forward(ctx, wanted: tuple[bool, ...], gradient: Tensor, alpha: float, eps: float, rays: Tensor, *others):
        *tensors, visible = others
        needed = [i for i, is_wanted in enumerate(wanted) if is_wanted]
        leaves = [tensor.detach().requires_grad_(i + 1 in needed) for i, tensor in enumerate(tensors)]
        gradients = [torch.zeros_like(v) for v in (rays, *tensors)]
        for start, chunk in _chunks(rays, visible.shape[1]):
            part = slice(start, start + chunk.shape[1])
            with torch.enable_grad(), without_autocast(rays.device):
                inputs = chunk.detach().requires_grad_(0 in needed), *leaves
                latent = _pixels(*inputs, visible, alpha, eps)
                found = torch.autograd.grad(latent, [inputs[i] for i in needed], gradient[:, part])
            for i, value in zip(needed, found, strict=True):
                (gradients[0][:, part] if i == 0 else gradients[i]).add_(value)
        return *(g if i in needed else None for i, g in enumerate(gradients)), None

    @staticmethod
    def backward(ctx, *_):
        raise RuntimeError("hvs.rasterize: second derivatives are not implemented")


def _chunks(rays: Tensor, count: int) -> list[tuple[int, Tensor]]:
    """Offsets and slices of rays [B, P, 3] along P, small enough to be paired with all ``count`` Gaussians."""
    size = max(1, PAIRS_PER_CHUNK // max(1, rays.shape[0] * count))
    return [(start, rays[:, start : start + size]) for start in range(0, max(1, rays.shape[1]), size)]
