"""The adversarial game: logistic losses, feature matching, and the gradient penalty R1.

Non-saturating logistic losses as in "Generative adversarial nets" (Goodfellow et al. 2014), feature matching after
"High-resolution image synthesis and semantic manipulation with conditional GANs" (Wang et al. 2018), R1 from "Which
training methods for GANs do actually converge?" (Mescheder et al. 2018), and its lazy evaluation from StyleGAN2 (Karras
et al. 2020).
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

# R1's weight per pixel, at a batch of 32.
R1_PER_PIXEL = 2.5e-4
R1_BATCH = 32
# R1 is evaluated only once in this many steps, and weighs that many times as much.
R1_INTERVAL = 16


def generator_loss(fake: Tensor) -> Tensor:
    """How far the discriminator is from taking pictures for real, from its logits of any shape (scalar)."""
    return F.softplus(-fake).mean()


def discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """Binary cross-entropy of telling real pictures from generated ones, from logits of any shape (scalar)."""
    return F.softplus(-real).mean() + F.softplus(fake).mean()


def feature_matching_loss(fake: list[Tensor], real: list[Tensor]) -> Tensor:
    """Mean absolute difference of the discriminator's activations, averaged over its layers (scalar).

    No gradient flows to the real ones.
    """
    pairs = zip(fake, real, strict=True)
    return torch.stack([F.l1_loss(a.float(), b.detach().float()) for a, b in pairs]).mean()


def r1_penalty(logits_of: Callable[[Tensor], Tensor], real: Tensor) -> Tensor:
    """γ/2 · E‖∂ logit / ∂ picture‖² on real pictures [B, 3, H, W], with γ = 2.5e-4·H·W/32 (scalar).

    A picture's logit is the mean of its patches', as the other losses are means over them. Of a sum, the penalty would
    grow with up to the square of the number of patches, on top of γ.

    It is differentiable with respect to whatever ``logits_of`` uses, and computed in float32 throughout: the gradient
    of a gradient leaves the range of half precision.

    Args:
        logits_of: pictures -> logits, one or more per picture: a discriminator with its augmentation.
        real: pictures in 0..1.
    """
    with torch.autocast(real.device.type, enabled=False), torch.enable_grad():
        real = real.detach().float().requires_grad_()
        logits = len(real) * logits_of(real).mean()
        (gradient,) = torch.autograd.grad(logits, real, create_graph=True)
        height, width = real.shape[-2:]
        gamma = R1_PER_PIXEL * height * width / R1_BATCH
        return gamma / 2 * gradient.square().sum((1, 2, 3)).mean()
