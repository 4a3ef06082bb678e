"""The textbook formulation that the backends are compared with: every pixel against every Gaussian, in plain PyTorch.

``D = μᵀAμ - (rᵀAμ)²/(rᵀAr)`` with ``A = ρ diag(1/s²) ρᵀ``, as the formula is usually written; autograd keeps every
intermediate. In float32 it cancels badly, so it is a baseline for speed and not for accuracy.
"""

import math

import torch
from torch import Tensor


def dense_rasterize(
    means: Tensor,
    rotations: Tensor,
    scales: Tensor,
    features: Tensor,
    background: Tensor,
    rays: Tensor,
    alpha: float = 0.025,
    beta: float = 2.0,
    eps: float = 1e-8,
) -> Tensor:
    """Arguments and result as in :func:`hvs.rasterize`, with one batch axis."""
    variances = scales.square()
    A = rotations @ torch.diag_embed(1 / variances) @ rotations.mT  # [B, N, 3, 3]
    Amu = (A @ means[..., None])[..., 0]
    pixels = rays.flatten(1, 2)  # [B, P, 3]
    q = torch.einsum("bpi,bnij,bpj->bpn", pixels, A, pixels)
    p = torch.einsum("bpi,bni->bpn", pixels, Amu)
    z = p / q
    D = (means * Amu).sum(-1)[:, None] - p * z
    w = 1 / (1 + z**4) * 0.5 * torch.sqrt(math.pi * alpha / q) * torch.exp(-D / alpha)
    kappa = 10 ** variances.flatten(1).amin(1).clamp(min=1e-6).log10().ceil().detach()
    z_background = beta * z.flatten(1).amax(1)
    w_background = (1 / (1 + z_background**4) * 0.5 * torch.sqrt(math.pi * alpha * kappa))[:, None, None]
    total = (w.sum(-1, keepdim=True) + w_background).clamp(min=eps)
    latent = (w @ features + w_background * background[:, None]) / total
    return latent.mT.unflatten(-1, rays.shape[1:3])
