"""The Triton backend as its tests call it."""

import torch

import hvs

NAMES = ("means", "rotations", "scales", "features", "background", "rays")


def render(inputs, **options):
    return hvs.rasterize(**inputs, backend="triton", **options)


def values_of(gaussians, count):
    """What `prepare` and `extents` have written, one row per value, [B, 24, N]."""
    return gaussians.transpose(1, 2).flatten(2)[..., :count].cpu()


def differentiate(inputs, **options):
    """The latent of random features, and the gradients of everything."""
    leaves = {name: value.detach().requires_grad_() for name, value in inputs.items()}
    latent = render(leaves, **options)
    # The same numbers whatever the type.
    cotangent = torch.randn(latent.shape, generator=torch.Generator().manual_seed(2)).bfloat16().to(latent)
    return latent.detach(), *torch.autograd.grad(latent, list(leaves.values()), cotangent)
