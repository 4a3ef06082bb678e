"""What the stage "synthesis" needs besides the model, as the settings say."""

import torch

from .. import distribute
from ..checkpoint import load_discriminator
from ..config import SynthesisSettings, TrainSettings
from ..data.sampling import share_of
from ..losses import TERMS, AdaptiveAugmentation, PerceptualLoss, load_perceptual
from ..models import Discriminator
from ..runtime import UserError
from .objectives import Critic


def require_before(settings: TrainSettings) -> None:
    """A UserError for what would end the training only after its first stage."""
    synthesis = settings.synthesis
    if "synthesis" not in settings.stages:
        return
    for path in (synthesis.lifter_weights, synthesis.encoder_weights, synthesis.perceptual_weights):
        # A run that goes on has read them.
        if path and settings.resume == "never" and not path.is_file():
            raise UserError(f"{path}: no such file")
    try:
        share_of(synthesis.batch_size, distribute.world())
    except ValueError as error:
        raise UserError(f"synthesis.{error}") from error


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
