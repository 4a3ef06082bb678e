"""What the objective of appearances needs besides the model, as the settings say."""

import torch

from ..checkpoint import load_discriminator
from ..config import SynthesisSettings, TrainSettings
from ..losses import TERMS, AdaptiveAugmentation, PerceptualLoss, load_perceptual
from ..models import Discriminator
from ..runtime import UserError
from .objectives import Critic


def make_perceptual(settings: SynthesisSettings, device: torch.device) -> PerceptualLoss | None:
    """The classifier's side of the image loss, if it has one, and there are its weights.

    Raises:
        UserError: a path of weights was given, and is not such a file.
    """
    kinds = [term for term in TERMS[settings.image_loss] if term in ("vgg", "lpips")]
    try:
        found = load_perceptual(settings.perceptual_weights, *kinds) if kinds else None
    except ValueError as error:
        raise UserError(str(error)) from error
    return found.to(device) if found else None


def make_critic(settings: TrainSettings, device: torch.device) -> Critic | None:
    """The other side of an adversarial training, from the checkpoint that is gone on from if that has one."""
    if not settings.synthesis.adversarial:
        return None
    found = load_discriminator(settings.start_from) if settings.start_from else None
    augmentation = AdaptiveAugmentation() if settings.synthesis.image_loss == "adaptive" else None
    return Critic(found or Discriminator(), augmentation).to(device)
