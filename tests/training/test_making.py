from dataclasses import replace

import pytest
import torch

from hvs.config import SynthesisSettings
from hvs.models import Discriminator
from hvs.presets import PRESETS
from hvs.runtime import UserError
from hvs.training.making import make_critic, make_perceptual, make_terms

CPU = torch.device("cpu")


def test_pixels_alone_need_no_classifier():
    assert make_perceptual(SynthesisSettings(image_loss="pixel"), CPU) is None


def test_weights_that_were_given_must_be_there(tmp_path):
    settings = SynthesisSettings(image_loss="vgg", perceptual_weights=tmp_path / "vgg16.pth")
    with pytest.raises(UserError, match="vgg16.pth"):
        make_perceptual(settings, CPU)


def test_a_state_of_other_terms_is_refused():
    """Of a training whose classifier had no weights, or that had them."""
    with_weights = make_terms(SynthesisSettings(image_loss="lpips"), torch.nn.Identity())
    without = make_terms(SynthesisSettings(image_loss="lpips"), None)
    pixels = make_terms(SynthesisSettings(image_loss="pixel"), None)
    pixels.load_state_dict(without.state_dict())
    with pytest.raises(ValueError, match="it minimised pixel, lpips, and now it would be pixel"):
        without.load_state_dict(with_weights.state_dict())
    with pytest.raises(ValueError, match="it minimised pixel, and now it would be pixel, lpips"):
        with_weights.load_state_dict(without.state_dict())
    against = make_terms(SynthesisSettings(image_loss="adaptive"), None)
    assert against.names == ["pixel", "matching", "adversarial"]


def test_a_critic_is_made_where_the_loss_has_one():
    settings = PRESETS["sample"]
    assert make_critic(settings, CPU) is None
    for loss, augmented in (("adversarial", False), ("adaptive", True)):
        critic = make_critic(replace(settings, synthesis=replace(settings.synthesis, image_loss=loss)), CPU)
        assert isinstance(critic.discriminator, Discriminator)
        assert (critic.augmentation is not None) == augmented
