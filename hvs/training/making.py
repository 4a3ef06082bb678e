"""What the stage "synthesis" and its scores need besides the model, made according to the settings."""

import warnings

import torch
from torch import nn

from .. import distribute
from ..checkpoint import load_discriminator
from ..config import SynthesisSettings, TrainSettings
from ..data.sampling import share_of
from ..evaluation import load_lpips
from ..losses import CLASSIFIERS, SMALLEST, TERMS, AdaptiveAugmentation, PerceptualLoss, load_perceptual
from ..models import Discriminator, ModelSettings
from ..runtime import UserError
from .objectives import Critic, Terms
from .state import Checkpoints


def check_settings(settings: TrainSettings) -> None:
    """Check before the training what would otherwise end it only after its first stage.

    Raises:
        UserError: there is nothing to train, a lifter or a file of weights is missing, or a batch size does not suit
            the number of processes.
    """
    synthesis = settings.synthesis
    if not settings.to_train:
        raise UserError("stages: got only the lifter, which already comes from --synthesis.lifter-weights")
    resumed, begun = settings.resume == "auto" and Checkpoints.found(settings.run), resumes_in_synthesis(settings)
    for stage in settings.to_train:
        if stage == "lifter" and begun:
            continue
        try:
            share_of(getattr(settings, stage).batch_size, distribute.world())
        except ValueError as error:
            raise UserError(f"{stage}.{error}") from error
    if "synthesis" not in settings.stages:
        return
    if "lifter" not in settings.stages and not (synthesis.lifter_weights or settings.start_from or resumed):
        raise UserError(
            "stages: got only the synthesis, but its lifter has not been trained; train it as well, or give "
            "--synthesis.lifter-weights or --start-from"
        )
    others = () if begun else (synthesis.lifter_weights, synthesis.encoder_weights)
    for path in (synthesis.perceptual_weights, *others):
        if path and not path.is_file():
            raise UserError(f"{path}: no such file")


def resumes_in_synthesis(settings: TrainSettings) -> bool:
    """Whether the run resumes in its synthesis: then it has trained its lifter, and read all weights from files but for
    the classifier's."""
    return settings.resume == "auto" and Checkpoints.found(settings.run, "synthesis-*")


def warn_of_unheeded(arguments: list[str], given: ModelSettings, found: ModelSettings) -> None:
    """Warn of model settings on the command line in whose place a checkpoint has brought its own.

    Args:
        arguments: of the command line.
        given: the settings made of them; what comes from a preset was not asked for, and needs no warning.
        found: the settings of the model.
    """
    typed = [text.partition("=")[0] for text in arguments if text.startswith("--model.")]
    names = {text: text.removeprefix("--model.").replace("-", "_") for text in typed}
    unheeded = [text for text, name in names.items() if getattr(given, name) != getattr(found, name)]
    if unheeded:
        warnings.warn(f"--start-from brings its own model settings, in place of {', '.join(unheeded)}", stacklevel=2)


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
    return load_lpips(device) if model.target_resolution >= SMALLEST["alex"] else None


def make_critic(settings: TrainSettings, device: torch.device) -> Critic | None:
    """The discriminator's side of adversarial training, from the checkpoint to continue from if that has one."""
    if not settings.synthesis.adversarial:
        return None
    found = load_discriminator(settings.start_from) if settings.start_from else None
    augmentation = AdaptiveAugmentation() if settings.synthesis.image_loss == "adaptive" else None
    return Critic(found or Discriminator(), augmentation).to(device)
