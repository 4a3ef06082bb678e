import pytest
import torch
from torch import nn

from hvs.models import AppearanceEncoder
from hvs.models.encoder import VARIATION


@pytest.mark.parametrize(("depth", "width"), [(18, 512), (34, 512), (50, 2048)])
def test_depths(depth, width):
    encoder = AppearanceEncoder(limbs=7, features=3, depth=depth).eval()
    assert encoder.backbone.fc.in_features == width
    assert not any(isinstance(module, nn.BatchNorm2d) for module in encoder.modules())
    assert encoder(torch.rand(2, 3, 40, 33)).shape == (2, 7, 3)


def test_images_are_normalised_by_imagenet():
    encoder = AppearanceEncoder(2, 2, depth=18).eval()
    seen = []
    encoder.backbone.conv1.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    encoder(torch.tensor([0.485, 0.456 + 0.224, 0.406]).view(1, 3, 1, 1).expand(1, 3, 32, 32))
    torch.testing.assert_close(seen[0].mean((0, 2, 3)), torch.tensor([0.0, 1, 0]), rtol=0, atol=1e-6)


@pytest.mark.parametrize("count", [2, 5, 40])
def test_start_apart_makes_limbs_and_images_differ_in_appearance(count):
    torch.manual_seed(0)
    encoder = AppearanceEncoder(limbs=90, features=4, depth=18).eval()
    images = 0.5 + 0.02 * torch.randn(count, 3, 32, 32)
    encoder.start_apart(images)
    appearance = encoder(images)
    codes = appearance.mean(0)
    assert codes.mean().abs() < 0.2 and codes.std().item() == pytest.approx(1, abs=0.15)
    # Of a random mixture of components of one variance.
    assert appearance.var(0, unbiased=False).mean().sqrt().item() == pytest.approx(VARIATION, rel=0.15)


def test_start_apart_takes_no_rounding_for_variation():
    """The same few images again and again, as a small capture has them: others must not get giant appearances."""
    torch.manual_seed(0)
    encoder = AppearanceEncoder(limbs=90, features=4, depth=18).eval()
    images = 0.5 + 0.02 * torch.randn(4, 3, 32, 32)
    encoder.start_apart(images.repeat(16, 1, 1, 1))
    others = 0.5 + 0.02 * torch.randn(8, 3, 32, 32)
    assert encoder(others).abs().max() < 20
    assert encoder(images).var(0, unbiased=False).mean().sqrt().item() == pytest.approx(VARIATION, rel=0.2)
