"""The end of a run: the model is evaluated, and everything to keep or to look at is written."""

import json
import math
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn
from torch.utils.data import Subset

from .. import distribute
from ..checkpoint import save_model
from ..config import TrainSettings
from ..data import DataError, NoSequencesError, PairDataset, collate
from ..evaluation import average, draw_pairs, score
from ..models import Discriminator, HumanViewSynthesis
from ..models.synthesis import REFINE_STEPS
from ..runtime import UserError, write_atomically
from .capture import Capture
from .progress import Progress
from .report import score_table, write_report
from .state import RESULT

# Pairs of held-out frames in the preview, and as many pairs of held-out subjects.
ROWS = 4


def finish(
    settings: TrainSettings,
    capture: Capture,
    progress: Progress,
    model: HumanViewSynthesis,
    discriminator: Discriminator | None = None,
    lpips: nn.Module | None = None,
) -> None:
    """Evaluate on held-out frames and held-out subjects, write the results and say where they are.

    Of a lifter alone, only its poses are scored, and there is no preview. Must be called by all processes; the first
    one writes. Ends the process if a signal asked for it.

    Args:
        settings: of the run.
        capture: of the run.
        progress: of the run.
        model: to evaluate and save.
        discriminator: of an adversarial training, saved with the model.
        lpips: from :func:`hvs.metrics.lpips_alex`, if available.
    """
    folder, device = settings.run, next(model.parameters()).device
    if progress.asked:
        progress.leave("after the training, before its evaluation")
    if distribute.is_first():
        # Saved before, in case the evaluation fails.
        save_model(folder / RESULT, model, capture.origin, discriminator)
    scores, examples = _evaluate(settings, capture, progress, model, lpips)
    if not distribute.is_first():
        return
    scores["seconds"] = progress.seconds
    # JSON cannot express NaN.
    plain = _without_nan(scores)
    write_atomically(folder / "metrics.json", lambda path: path.write_text(json.dumps(plain, indent=1)))
    save_model(folder / RESULT, model, capture.origin | dict(metrics=plain), discriminator)
    print(f"\n{score_table(scores)}\n\ntime        {scores['seconds']:.0f} s")
    if examples:
        # With refined appearances, as inference draws people; the scores are those of the encoder's appearances.
        preview = draw_pairs(model, collate(examples), refine_steps=REFINE_STEPS)
        write_atomically(folder / "preview.png", lambda path: preview.save(path, "PNG"))
        print(f"preview     {folder / 'preview.png'}")
    print(f"report      {write_report(folder, settings, device, progress.seconds, scores)}")
    print(f"checkpoint  {folder / RESULT}")


def _evaluate(
    settings: TrainSettings, capture: Capture, progress: Progress, model: HumanViewSynthesis, lpips: nn.Module | None
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The scores over the pairs of all processes, and a few of the pairs."""
    scores: dict[str, Any] = {}
    examples = []
    for subjects in ("known", "unknown"):
        if progress.asked:
            progress.leave("after the training, before its evaluation")
        try:
            chosen, found = _evaluate_group(subjects, settings, capture, model, lpips)
        except NoSequencesError:
            # A capture without held-out subjects needs no warning.
            continue
        except (DataError, UserError) as error:
            warnings.warn(f"{subjects} subjects are not evaluated: {error}", stacklevel=2)
            continue
        scores |= found if subjects == "known" else {"held_out_subjects": found}
        if settings.has_pictures and distribute.is_first():
            places = torch.linspace(0, len(chosen) - 1, ROWS).round().int().tolist()
            examples += filter(None, (chosen.dataset.read(chosen.indices[place])[0] for place in places))
    return scores, examples


def _evaluate_group(
    subjects: str, settings: TrainSettings, capture: Capture, model: HumanViewSynthesis, lpips: nn.Module | None
) -> tuple[Subset, dict[str, float]]:
    """The pairs of known or unknown subjects that were chosen, and the scores over those of all processes.

    Raises:
        DataError, UserError: they cannot be read, or too many cannot; raised in all processes.
    """
    from tqdm import tqdm

    chosen, scores, fault = None, {}, None
    try:
        chosen = capture.examples(capture.pairs("test", subjects), settings.data.evaluation_pairs)
        own = [chosen.indices[i] for i in distribute.part(len(chosen))]
        shown = dict(desc=f"evaluate {subjects} subjects", unit="pair", disable=not distribute.is_first())
        with tqdm(total=len(own), **shown) as bar:
            batches = _usable(own, chosen.dataset, capture, bar.update)
            scores = score(model, batches, lpips, pictures=settings.has_pictures)
    except (DataError, UserError) as error:
        fault = error
    # If one process cannot go on, none does.
    for other in distribute.gather(fault):
        if other:
            raise other
    capture.faults.tell(chosen.dataset)
    found = average(distribute.gather(scores))
    if not found:
        raise UserError(f"{capture.root}: no pair of views in test can be used; python -m hvs.data check finds out why")
    return chosen, found


def _usable(
    items: list[int], dataset: PairDataset, capture: Capture, tell_done: Callable[[int], Any]
) -> Iterator[dict[str, Any]]:
    """Batches of these pairs, each once; those that cannot be used are left out, and broken files noted."""
    for i in range(0, len(items), capture.at_once):
        part = items[i : i + capture.at_once]
        pairs, faults = zip(*map(dataset.read, part), strict=True)
        capture.faults.note(filter(None, faults), dataset)
        if pairs := [pair for pair in pairs if pair]:
            yield collate(pairs)
        tell_done(len(part))


def _without_nan(scores: dict[str, Any]) -> dict[str, Any]:
    """The same scores, with None for numbers that are not finite."""
    return {
        name: _without_nan(value) if isinstance(value, dict) else value if math.isfinite(value) else None
        for name, value in scores.items()
    }
