"""Scores of the model during training, and the best model so far."""

import math
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader, Subset

from .. import distribute
from ..checkpoint import save_model
from ..config import TrainSettings
from ..data import DataError, collate
from ..evaluation import evaluate
from ..models import Discriminator, HumanViewSynthesis
from ..runtime import UserError
from .capture import Capture
from .state import BEST


class Validation:
    """Scores on a few held-out pairs; the model with the best scores is kept in a file.

    LPIPS decides, or without its network the PSNR of the person. A run that goes on from a state without LPIPS keeps to
    PSNR, as nothing could be compared with the best model so far.

    Args:
        file: of the best model.
        capture: notes what has to be skipped.
        pairs: of the capture, to score on; if there are none, there are no scores and no file.
        batch_size: for scoring.
        lpips: from :func:`hvs.metrics.lpips_alex`, if available.
    """

    def __init__(
        self, file: Path, capture: Capture, pairs: Subset | None, batch_size: int, lpips: nn.Module | None = None
    ) -> None:
        self.file, self.capture, self.pairs, self.lpips = file, capture, pairs, lpips
        # Its own generator, as the random numbers of the training must not depend on it.
        self.loader = pairs and DataLoader(pairs, batch_size, collate_fn=collate, generator=torch.Generator())
        self.name, self.sign = ("lpips", -1) if lpips else ("psnr_foreground", 1)
        self.best: dict[str, float] = {}

    def __call__(
        self, step: int, model: HumanViewSynthesis, discriminator: Discriminator | None = None
    ) -> dict[str, float]:
        """The scores after ``step`` steps; the model is saved if they are the best so far.

        If too many files are broken, there are no scores from then on, and a warning.

        Must be called by all processes; the first one scores and saves, and for the others there are no scores.
        """
        scores: dict[str, float] = {}
        if not self.loader:
            return scores
        fault, dataset = None, self.pairs.dataset
        try:
            if distribute.is_first():
                scores = evaluate(model, self.capture.noting(self.loader, dataset), self.lpips)
        except (DataError, UserError) as error:
            fault = error
        faults = [fault for fault in distribute.gather(fault) if fault]
        try:
            self.capture.faults.tell(dataset)
        except UserError as error:
            faults.append(error)
        if faults:
            # A training does not end for what is not trained on.
            warnings.warn(f"no more validation: {faults[0]}", stacklevel=2)
            self.loader = None
            return {}
        if scores and self.sign * scores[self.name] > self.sign * self.best.get(self.name, -self.sign * math.inf):
            self.best = scores | {"step": step}
            extra = self.capture.origin | {"validation": scores, "step": step}
            save_model(self.file, model, extra, discriminator)
        return scores

    def state_dict(self) -> dict[str, Any]:
        return self.best

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state.

        Raises:
            AttributeError, ValueError: it is not one of scores.
        """
        if not all(type(score) in (int, float) for score in state.values()):
            raise ValueError("its best scores are no numbers")
        self.best = state
        if state and self.name not in state:
            self.name, self.sign = "psnr_foreground", 1


def make_validation(settings: TrainSettings, capture: Capture, lpips: nn.Module | None = None) -> Validation:
    """The validation of a run; one without scores, with a warning, if the capture has no pairs for it."""
    count = settings.data.validation_pairs
    chosen = None
    try:
        chosen = capture.examples(capture.pairs("val", "known"), count) if count else None
    except DataError as error:
        warnings.warn(f"no {BEST}, as there is nothing to select the best model by: {error}", stacklevel=2)
    # All of them report what one has to skip.
    distribute.agree(validation_pairs=chosen and len(chosen))
    return Validation(settings.run / BEST, capture, chosen, capture.at_once, lpips)
