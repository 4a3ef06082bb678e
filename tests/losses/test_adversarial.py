"""The adversarial losses beside their formulas, and R1's gradient beside finite differences."""

import math

import pytest
import torch

from hvs.losses.adversarial import discriminator_loss, feature_matching_loss, generator_loss, r1_penalty
from hvs.models import Discriminator


def test_logistic_losses_are_cross_entropies():
    real, fake = torch.randn(2, 1, 3, 3), torch.randn(2, 1, 3, 3)
    entropy = torch.nn.functional.binary_cross_entropy_with_logits
    ones, zeros = torch.ones_like(real), torch.zeros_like(real)
    assert torch.allclose(generator_loss(fake), entropy(fake, ones))
    assert torch.allclose(discriminator_loss(real, fake), entropy(real, ones) + entropy(fake, zeros))
    assert generator_loss(torch.full((1,), -200.0)).isfinite()


def test_feature_matching_pulls_on_the_made_up_side_alone():
    fake = [torch.rand(1, 2, 4, 4, requires_grad=True), torch.rand(1, 4, 2, 2, requires_grad=True)]
    real = [torch.rand(1, 2, 4, 4, requires_grad=True), torch.rand(1, 4, 2, 2, requires_grad=True)]
    loss = feature_matching_loss(fake, real)
    wanted = sum((a - b).abs().mean() for a, b in zip(fake, real, strict=True)) / 2
    assert torch.allclose(loss, wanted)
    loss.backward()
    assert all(a.grad.abs().sum() > 0 for a in fake) and all(b.grad is None for b in real)
    with pytest.raises(ValueError, match="shorter"):
        feature_matching_loss(fake, real[:1])


def test_r1_of_a_known_gradient():
    """Logits 3·(sum of a picture): its gradient is 3 everywhere."""
    real = torch.rand(4, 3, 8, 16)
    gamma = 2.5e-4 * 8 * 16 / 32
    penalty = r1_penalty(lambda x: 3 * x.sum((1, 2, 3)), real)
    assert math.isclose(penalty.item(), gamma / 2 * 9 * 3 * 8 * 16, rel_tol=1e-5)


def test_r1_does_not_depend_on_how_many_patches_are_judged():
    """The same logit for the whole picture, for each of its quarters, and for each pixel."""
    real = torch.rand(2, 3, 8, 8)
    whole = r1_penalty(lambda x: x.square().sum((1, 2, 3)), real)
    for size in (2, 8):
        patches = r1_penalty(lambda x, size=size: x.square().sum((1, 2, 3))[:, None, None].expand(-1, size, size), real)
        assert math.isclose(patches.item(), whole.item(), rel_tol=1e-5)


def test_gradient_of_r1_is_that_of_finite_differences():
    torch.manual_seed(0)
    discriminator = Discriminator().double()
    # A leaky ReLU has kinks, which finite differences would step over.
    real = torch.rand(1, 3, 16, 16, dtype=torch.float64)
    parameters = [discriminator.stem.weight, discriminator.blocks[1].second.weight, discriminator.head.weight]

    def penalty():
        x = real.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(discriminator(x)[0].sum(), x, create_graph=True)
        return gradient.square().sum()

    penalty().backward()
    for parameter in parameters:
        direction = torch.randn_like(parameter)
        wanted = (parameter.grad * direction).sum()
        step = 1e-6
        with torch.no_grad():
            parameter += step * direction
        above = penalty().detach()
        with torch.no_grad():
            parameter -= 2 * step * direction
        below = penalty().detach()
        with torch.no_grad():
            parameter += step * direction
        assert math.isclose(((above - below) / (2 * step)).item(), wanted.item(), rel_tol=1e-4)


def test_r1_reaches_the_discriminator_and_not_the_picture():
    discriminator = Discriminator()
    real = torch.rand(2, 3, 32, 32, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        penalty = r1_penalty(lambda x: discriminator(x)[0], real)
    torch.testing.assert_close(penalty, r1_penalty(lambda x: discriminator(x)[0], real), rtol=1e-6, atol=0.0)
    penalty.backward()
    assert real.grad is None
    assert discriminator.stem.weight.grad.abs().sum() > 0
