"""Scores of the model during training, and the best model so far."""

import math
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from ..checkpoint import save_model
from ..config import TrainSettings
from ..data import DataError, collate
from ..evaluation import evaluate
from ..models import Discriminator, HumanViewSynthesis
from .capture import Capture
from .state import BEST

# Of the best model, in the run's folder.


class Validation:
    """Scores on a few held-out pairs; the model with the best scores is kept in a file.

    LPIPS decides, or without its network the PSNR of the person.

    Args:
        file: of the best model.
        pairs: to score on; if there are none, there are no scores and no file.
        batch_size: for scoring.
        lpips: from :func:`hvs.metrics.lpips_alex`, if available.
    """

    def __init__(self, file: Path, pairs: Dataset, batch_size: int, lpips: nn.Module | None = None) -> None:
        self.file, self.lpips = file, lpips
        # Its own generator, as the random numbers of the training must not depend on it.
        self.loader = DataLoader(pairs, batch_size, collate_fn=collate, generator=torch.Generator())
        self.name, self.sign = ("lpips", -1) if lpips else ("psnr_foreground", 1)
        self.best: dict[str, float] = {}

    def __call__(
        self, step: int, model: HumanViewSynthesis, discriminator: Discriminator | None = None
    ) -> dict[str, float]:
        """The scores after ``step`` steps; the model is saved if they are the best so far."""
        if not len(self.loader):
            return {}
        scores = evaluate(model, self.loader, self.lpips)
        if self.sign * scores[self.name] > self.sign * self.best.get(self.name, -self.sign * math.inf):
            self.best = {self.name: scores[self.name], "step": step}
            save_model(self.file, model, {"validation": scores, "step": step}, discriminator)
        return scores

    def state_dict(self) -> dict[str, Any]:
        return self.best

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.best = state


def make_validation(settings: TrainSettings, capture: Capture, lpips: nn.Module | None = None) -> Validation:
    """The validation of a run; one without scores, with a warning, if the capture has no pairs for it."""
    try:
        count = settings.data.validation_pairs
        chosen = capture.examples(capture.pairs("val", "known"), count) if count else []
    except DataError as error:
        warnings.warn(f"no {BEST}, as there is nothing to select the best model by: {error}", stacklevel=2)
        chosen = []
    return Validation(settings.run / BEST, chosen, settings.synthesis.batch_size, lpips)
