"""The least work there is: the latent must be written once, and read once together with its gradient."""

from collections.abc import Callable

import torch
from torch import Tensor


def write_once(latent: Tensor) -> Callable[[], object]:
    """The forward pass: write the latent."""
    out = torch.empty_like(latent)
    return lambda: out.fill_(1.0)


def read_once(gradient: Tensor, latent: Tensor) -> Callable[[], object]:
    """The backward pass: read the gradient and the latent."""
    if not gradient.is_cuda:
        return lambda: torch.dot(gradient.flatten(), latent.flatten())
    from .reading import read_both  # needs triton

    return lambda: read_both(gradient, latent)
