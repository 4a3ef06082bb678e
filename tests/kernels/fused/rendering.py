"""The Triton backend as its tests call it."""

import torch

import hvs

NAMES = ("means", "rotations", "scales", "features", "background", "rays")


def render(inputs, **options):
    return hvs.rasterize(**inputs, backend="triton", **options)


def differentiate(inputs, **options):
    """The latent of random features, and the gradients of everything."""
    leaves = {name: value.detach().requires_grad_() for name, value in inputs.items()}
    latent = render(leaves, **options)
    # The same numbers whatever the type.
    cotangent = torch.randn(latent.shape, generator=torch.Generator().manual_seed(2)).bfloat16().to(latent)
    return latent.detach(), *torch.autograd.grad(latent, list(leaves.values()), cotangent)
