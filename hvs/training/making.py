"""What the stage "synthesis" and its scores need besides the model, made according to the settings."""

import torch
from torch import nn

from .. import distribute
from ..checkpoint import load_discriminator
from ..config import SynthesisSettings, TrainSettings
from ..data.sampling import share_of
from ..losses import CLASSIFIERS, SMALLEST, TERMS, AdaptiveAugmentation, PerceptualLoss, load_perceptual
from ..metrics import lpips_alex
from ..models import Discriminator, ModelSettings
from ..runtime import UserError
from .objectives import Critic, Terms


def require_before(settings: TrainSettings) -> None:
    """Check before the training what would otherwise end it only after its first stage.

    Raises:
        UserError: a file of weights is missing, or the batch size does not suit the number of processes.
    """
    synthesis = settings.synthesis
    if "synthesis" not in settings.stages:
        return
    for path in (synthesis.lifter_weights, synthesis.encoder_weights, synthesis.perceptual_weights):
        # A resumed run has read them already.
        if path and settings.resume == "never" and not path.is_file():
            raise UserError(f"{path}: no such file")
    try:
        share_of(synthesis.batch_size, distribute.world())
    except ValueError as error:
        raise UserError(f"synthesis.{error}") from error


def make_perceptual(settings: SynthesisSettings, device: torch.device) -> PerceptualLoss | None:
    """The part of the image loss that uses a classifier, if the loss has one and its weights are available.

    Raises:
        UserError: a path was given, but the file does not hold these weights.
    """
    kinds = [term for term in TERMS[settings.image_loss] if term in CLASSIFIERS]
    try:
        found = load_perceptual(settings.perceptual_weights, *kinds) if kinds else None
    except ValueError as error:
        raise UserError(str(error)) from error
    return found.to(device) if found else None


def make_terms(settings: SynthesisSettings, perceptual: PerceptualLoss | None) -> Terms:
    """The terms of the image loss that are minimised; there is no perceptual loss without its weights."""
    return Terms([term for term in TERMS[settings.image_loss] if perceptual or term not in CLASSIFIERS])


def make_lpips(model: ModelSettings, device: torch.device) -> nn.Module | None:
    """LPIPS to score pictures by, if its weights are available and the model's pictures are large enough for it.

    Raises:
        UserError: the weights are broken.
    """
    if model.target_resolution < SMALLEST["alex"]:
        return None
    try:
        found = lpips_alex()
    except ValueError as error:
        raise UserError(str(error)) from error
    return found.to(device) if found else None


def make_critic(settings: TrainSettings, device: torch.device) -> Critic | None:
    """The discriminator's side of adversarial training, from the checkpoint to continue from if that has one."""
    if not settings.synthesis.adversarial:
        return None
    found = load_discriminator(settings.start_from) if settings.start_from else None
    augmentation = AdaptiveAugmentation() if settings.synthesis.image_loss == "adaptive" else None
    return Critic(found or Discriminator(), augmentation).to(device)
