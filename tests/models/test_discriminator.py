import torch

from hvs.models import Discriminator


def test_logits_and_activations():
    logits, activations = Discriminator()(torch.rand(2, 3, 64, 32))
    assert logits.shape == (2, 1, 4, 2)
    shapes = [tuple(a.shape) for a in activations]
    assert shapes == [(2, 32, 64, 32), (2, 64, 32, 16), (2, 128, 16, 8), (2, 256, 8, 4), (2, 256, 4, 2)]


def test_gradients_reach_picture_and_every_parameter_twice():
    torch.manual_seed(0)
    discriminator = Discriminator()
    image = torch.rand(1, 3, 32, 32, requires_grad=True)
    (gradient,) = torch.autograd.grad(discriminator(image)[0].sum(), image, create_graph=True)
    # The gradient penalty differentiates once more; the last bias alone has no part in it.
    gradient.square().sum().backward()
    for name, parameter in discriminator.named_parameters():
        if name.endswith("weight"):
            assert parameter.grad.isfinite().all() and parameter.grad.abs().sum() > 0, name


def test_activations_stay_near_unit_size_at_the_start():
    torch.manual_seed(0)
    _, activations = Discriminator()(torch.rand(4, 3, 64, 64))
    assert all(0.2 < a.square().mean().sqrt() < 3 for a in activations)
