"""The baseline of the training step: another way to the same numbers."""

import warnings
from contextlib import contextmanager, nullcontext
from functools import cache
from unittest.mock import patch

import pytest
import torch

import hvs
from bench.baseline import as_the_original_is_built
from bench.pairs import make_pairs
from hvs.losses import PerceptualLoss
from hvs.models import HumanViewSynthesis, ModelSettings, layers, synthesis
from hvs.models.layers import ModulatedConv
from hvs.training.objectives import SynthesisObjective, total

SETTINGS = ModelSettings(
    d_embedding=128,
    dropout=0.0,
    input_resolution=32,
    rendering_resolution=32,
    target_resolution=64,
    base_channels=8,
    encoder_depth=18,
)


@cache
def distance():
    """LPIPS on a VGG with random weights; making it takes a second."""
    from lpips import LPIPS

    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return LPIPS(net="vgg", pnet_rand=True, verbose=False).eval().requires_grad_(False)


def run(dtype, kind, way):
    """Losses, picture and gradients of a new model in training, and what it is then."""
    perceptual = PerceptualLoss(distance(), kind) if kind else None
    torch.manual_seed(0)
    model = HumanViewSynthesis(SETTINGS).to(dtype)
    for layer in model.decoder.modules():
        if isinstance(layer, ModulatedConv):
            # Where no limb is, an input of zero and no bias would sit on the kink of the leaky ReLU.
            torch.nn.init.normal_(layer.bias)
    objective = SynthesisObjective(model, True, perceptual)
    batch = {
        name: value.to(dtype) if not torch.is_tensor(value) or value.is_floating_point() else value
        for name, value in make_pairs(3, 32, 64).items()
    }
    # The losses are float32 whatever the model is.
    batch["image_b"] = batch["image_b"].float()
    with way():
        losses, found = objective(batch)
    gradients = torch.autograd.grad(total(losses), list(model.parameters()))
    return losses, found["image"], dict(zip(dict(model.named_parameters()), gradients, strict=True)), model


@pytest.mark.parametrize("kind", [None, "lpips", "vgg"])
def test_losses_and_gradients_are_ours(kind):
    """In float64: the textbook rasteriser loses digits in float32, and says nothing there about the rest."""
    ours, theirs = (run(torch.float64, kind, way) for way in (nullcontext, as_the_original_is_built))
    torch.testing.assert_close(theirs[0], ours[0], rtol=1e-6, atol=0)
    torch.testing.assert_close(theirs[1], ours[1], rtol=1e-6, atol=1e-6)
    for name, wanted in ours[2].items():
        assert (theirs[2][name] - wanted).norm() <= 1e-6 * wanted.norm(), name
    torch.testing.assert_close(theirs[3].state_dict(), ours[3].state_dict(), rtol=1e-6, atol=1e-8)


def test_losses_in_single_precision():
    """But for the textbook rasteriser, whose error there is its own."""

    @contextmanager
    def but_for_the_rasteriser():
        with as_the_original_is_built(), patch.object(synthesis, "rasterize", hvs.rasterize):
            yield

    ours, theirs = (run(torch.float32, None, way)[0] for way in (nullcontext, but_for_the_rasteriser))
    torch.testing.assert_close(theirs, ours, rtol=1e-5, atol=0)
    theirs = run(torch.float32, None, as_the_original_is_built)[0]
    torch.testing.assert_close(theirs, ours, rtol=1e-2, atol=0)


def test_nothing_of_it_stays():
    before = layers.modulated_conv2d, PerceptualLoss.forward
    with as_the_original_is_built():
        assert synthesis.rasterize is not hvs.rasterize
    assert synthesis.rasterize is hvs.rasterize and (layers.modulated_conv2d, PerceptualLoss.forward) == before
