"""The optimisers of each stage, and their learning-rate schedules."""

import math
from typing import Any

import torch
from torch import nn

from ..config import LifterSettings, SynthesisSettings
from ..models import HumanViewSynthesis

# Of a cosine schedule: the fraction of steps for the warm-up if epochs are not counted, and the last learning rate as a
# fraction of the first.
WARM_UP, FINAL_RATE = 0.02, 0.05


def lifter_optimizer(model: HumanViewSynthesis, settings: LifterSettings) -> torch.optim.Optimizer:
    """AdamW with AMSGrad on the lifter alone."""
    options = dict(weight_decay=settings.weight_decay, amsgrad=True, fused=True)
    return torch.optim.AdamW(model.lifter.parameters(), settings.learning_rate, **options)


def synthesis_optimizer(model: HumanViewSynthesis, settings: SynthesisSettings) -> torch.optim.Optimizer:
    """AdamW on the whole model, each part at its own rate; parts with a rate of 0 are frozen from now on."""
    rates = {"decoder": 1.0, "encoder": settings.encoder_rate, "lifter": settings.lifter_rate}
    if settings.adversarial:
        # The discriminator must not be able to move the pose.
        rates["lifter"] = 0.0
    groups = []
    for name, rate in rates.items():
        part = model.get_submodule(name).requires_grad_(rate > 0)
        if rate > 0:
            groups.append(dict(params=part.parameters(), lr=rate * settings.learning_rate, name=name))
    return _adamw(groups, settings)


def train_mode(model: HumanViewSynthesis) -> None:
    """Training mode for the parts that are trained; dropout in others would only add noise to what they give."""
    for part in model.children():
        part.train(any(parameter.requires_grad for parameter in part.parameters()))


def critic_optimizer(discriminator: nn.Module, settings: SynthesisSettings) -> torch.optim.Optimizer:
    """AdamW on the discriminator, with the model's settings."""
    return _adamw([dict(params=discriminator.parameters(), lr=settings.learning_rate)], settings)


def set_rates(optimizer: torch.optim.Optimizer, step: int, steps: int, epochs: int | None = None) -> None:
    """Set the rates of a linear warm-up followed by a cosine; they depend on the step alone, so no state is saved.

    The warm-up is one epoch long, or a fiftieth of the steps if ``epochs`` is None.
    """
    warm_up = max(1, WARM_UP * steps if epochs is None else steps / epochs)
    progress = max(0.0, step - warm_up) / max(1.0, steps - warm_up)
    cosine = FINAL_RATE + (1 - FINAL_RATE) * 0.5 * (1 + math.cos(math.pi * progress))
    for group in optimizer.param_groups:
        group["lr"] = group.setdefault("initial_lr", group["lr"]) * min(1.0, (step + 1) / warm_up) * cosine


def _adamw(groups: list[dict[str, Any]], settings: SynthesisSettings) -> torch.optim.Optimizer:
    return torch.optim.AdamW(
        groups,
        betas=(settings.momentum, 0.99),
        weight_decay=settings.weight_decay,
        amsgrad=settings.amsgrad,
        fused=True,
    )
