"""Scores of a model on novel views: a table, files of every score and of their means, pictures of the worst cases."""

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, groupby, islice
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from tqdm import tqdm

from hvs import distribute
from hvs.data import NoSequencesError, PairDataset, collate, even_subset, find_sequences
from hvs.data.captures import GROUPS, Subjects
from hvs.data.datasets import no_pairs
from hvs.data.frame_index import NoItemsError
from hvs.data.layouts import Split
from hvs.evaluation import draw_pairs, load_lpips, score
from hvs.models import HumanViewSynthesis
from hvs.runtime import Precision, UserError, refuse_folders, write_atomically

from .ahead import ahead
from .footage import require_skeleton
from .panels import WIDEST
from .scoresheet import LEGEND, Scoresheet
from .settings import WithModel
from .studio import Studio

NAME = "evaluation"
TABLES = f"{NAME}.csv", f"{NAME}.json"
# Picture of the worst cases -> the score that ranks them, and how many entries of `where` it depends on: a lifted pose
# is the same for every target view.
WORST = {"worst.png": ("psnr_foreground", 4), "worst_poses.png": ("mpjpe_mm", 3)}
# Broken files that are listed on the console.
MOST_TOLD = 5


@dataclass(frozen=True)
class Evaluate(WithModel):
    """Scores on novel views, next to those of the constant background and of the source image.

    Means are printed and written to evaluation.json, the scores of every pair to evaluation.csv, and the worst cases
    to worst.png and worst_poses.png. On eight GPUs: `torchrun --standalone --nproc-per-node 8 -- infer.py evaluate`.
    """

    root: Path | None = None
    """Folder of a capture. By default the one that the model was trained on."""
    split: Split = "test"
    """Which frames."""
    subjects: Subjects = "all"
    """People who were trained on, those who were not, or all."""
    pairs: int = 96
    """Pairs of views, spread evenly over sequences, frames and views, as many of known as of unknown subjects; 0 takes
    all pairs. With as many as training evaluates (96 by default) they are the same pairs."""
    worst: int = 8
    """How many worst cases to draw, by picture and by pose; 0 draws none, and earlier pictures are removed."""
    batch_size: int = 8
    """Pairs that the networks process at once."""
    precision: Precision = "fp32"
    """Precision of the networks, by default as training evaluates them; geometry and rasteriser always compute in
    float32. "auto" is bf16 where the GPU supports it."""
    refine_steps: int = 0
    """Steps of gradient descent that fit each pair's appearance to its input image, as in the other modes. With 0 the
    encoder's appearance is used as it is, and the scores are those of the training."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_at_least(0, "pairs", "worst")


def evaluate(settings: Evaluate) -> None:
    """Score a model on pairs of views of a capture, print the means and write everything into files."""
    with distribute.one_voice():
        device = distribute.start(settings.device)
        studio = Studio(replace(settings, device=str(device)))
        names = (*TABLES, *WORST) if settings.worst else TABLES
        refuse_folders(*(studio.folder / name for name in names))
        root = studio.root(settings.root)
        chosen = choose_pairs(root, studio.model, settings)
        distribute.agree(checkpoint=studio.checkpoint, root=root, pairs=len(chosen))
        outcomes, scores = score_pairs(studio, chosen, load_lpips(device))
        if distribute.is_first():
            scored = [pair for pair, outcome in zip(chosen, outcomes, strict=True) if outcome.where]
            where = [outcome.where for outcome in outcomes if outcome.where]
            sheet = Scoresheet(where, [pair.group == "unknown" for pair in scored], scores)
            about = {
                "checkpoint": str(studio.checkpoint),
                "root": str(root.absolute()),
                "split": settings.split,
                "precision": str(studio.precision).removeprefix("torch."),
                "refine_steps": settings.refine_steps,
            }
            # They show the worst cases of an earlier evaluation.
            for picture in filter(Path.is_file, (studio.folder / name for name in WORST)):
                picture.unlink()
            write_tables(studio.folder, sheet, about | tell_left_out(outcomes))
            # Last, as it needs more memory than the scores.
            draw_worst(studio, scored, sheet, settings.worst)


class Pair(NamedTuple):
    """A pair to score: the group of its person, and its place in a data set."""

    group: str
    dataset: PairDataset
    item: int


class Outcome(NamedTuple):
    """What became of a pair: where it is, if it was scored, or else what is wrong with its files.

    A pair has neither if nobody is in one of its images.
    """

    where: tuple[str, int, str, str] | None
    fault: str


def choose_pairs(root: Path, model: HumanViewSynthesis, settings: Evaluate) -> list[Pair]:
    """Pairs of two different views, as a view seen again is not novel, of each group of subjects that has any.

    Raises:
        DataError: no such capture or subjects, no pairs of theirs in the split, or a broken file.
        UserError: it has another skeleton, or no pairs of anybody.
    """
    chosen: list[Pair] = []
    for group in GROUPS[settings.subjects]:
        try:
            sequences = find_sequences(root, group)
        except NoSequencesError:
            if settings.subjects != "all":
                raise
            continue
        require_skeleton(root, sequences[0].layout.skeleton, model.skeleton)
        sizes = model.settings.input_resolution, model.settings.target_resolution
        try:
            dataset = PairDataset(root, settings.split, group, *sizes, model.settings.resize, same_view=False)
        except NoItemsError as error:
            if settings.subjects != "all":
                raise
            if distribute.is_first():
                print(f"note: left out {group} subjects: {error}", file=sys.stderr)
            continue
        items = even_subset(dataset, settings.pairs or len(dataset)).indices
        chosen += [Pair(group, dataset, item) for item in items]
    if not chosen:
        raise UserError(f"{root}: no pairs of views in split {settings.split!r} of any subjects")
    return chosen


def score_pairs(studio: Studio, chosen: list[Pair], lpips: nn.Module | None) -> tuple[list[Outcome], dict[str, Tensor]]:
    """What became of every pair, and the scores [P] of those that could be scored, computed by all processes together.

    Raises:
        DataError: no pair can be scored.
    """
    outcomes: list[Outcome] = []

    def usable() -> Iterator[dict[str, Any]]:
        for batch in own_batches(chosen, studio.batch_size):
            outcomes.extend(Outcome(pair and pair["where"], fault) for pair, fault in batch)
            if pairs := [pair for pair, _ in batch if pair]:
                yield collate(pairs)

    scores = score(studio.model, usable(), lpips, studio.precision, studio.refine_steps)
    all_outcomes, all_scores = zip(*distribute.gather((outcomes, scores)), strict=True)
    outcomes = list(chain(*all_outcomes))
    # With more processes than batches some have nothing.
    parts = [part for part in all_scores if part]
    if not parts:
        folder = chosen[0].dataset.sequences[0].folder
        raise no_pairs(folder, [outcome.fault for outcome in outcomes if outcome.fault])
    return outcomes, {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def own_batches(chosen: list[Pair], size: int) -> Iterator[list[tuple[dict[str, Any] | None, str]]]:
    """What :meth:`PairDataset.read` makes of this process's share of all batches.

    Like the scores, the batches are the same however many processes there are.
    """
    groups = [list(pairs) for _, pairs in groupby(chosen, lambda pair: pair.group)]
    batches = [pairs[i : i + size] for pairs in groups for i in range(0, len(pairs), size)]
    own = [batches[i] for i in distribute.part(len(batches))]
    items = ahead(lambda pair: pair.dataset.read(pair.item), chain(*own))
    with tqdm(total=sum(map(len, own)), desc=NAME, unit="pair", disable=not distribute.is_first()) as bar:
        for batch in own:
            yield list(islice(items, len(batch)))
            bar.update(len(batch))


def tell_left_out(outcomes: list[Outcome]) -> dict[str, Any]:
    """Print which pairs have no scores, and return it for the file."""
    skipped = sum(not outcome.where and not outcome.fault for outcome in outcomes)
    unreadable = sum(bool(outcome.fault) for outcome in outcomes)
    faults = sorted({outcome.fault for outcome in outcomes if outcome.fault})
    if skipped:
        print(f"note: skipped {skipped} pairs without a person in both images", file=sys.stderr)
    if unreadable:
        print(f"note: skipped {unreadable} pairs with broken files", file=sys.stderr)
    for fault in faults[:MOST_TOLD]:
        print(f"note: broken: {fault}", file=sys.stderr)
    if len(faults) > MOST_TOLD:
        print(f"note: and {len(faults) - MOST_TOLD} more broken files, see {NAME}.json", file=sys.stderr)
    return {"skipped": skipped, "unreadable": unreadable, "faults": faults}


def write_tables(folder: Path, sheet: Scoresheet, about: dict[str, Any]) -> None:
    """Write the scores of every pair and their means, with what they are of, and print the means."""
    texts = sheet.csv(), json.dumps(about | sheet.summary(), indent=1) + "\n"
    for name, text in zip(TABLES, texts, strict=True):
        write_atomically(folder / name, partial(Path.write_text, data=text, encoding="utf-8"))
    # After all is written, as nobody may be reading any more.
    print(f"\n{sheet.table()}\n\n{LEGEND}\n")
    for name in TABLES:
        print(f"wrote  {folder / name}")


def draw_worst(studio: Studio, scored: list[Pair], sheet: Scoresheet, count: int) -> None:
    """Draw the worst pairs, one row each; a picture with nothing to draw is left out."""
    for file, (name, entries) in WORST.items():
        if worst := sheet.worst(name, count, entries):
            batch = collate([scored[i].dataset.read(scored[i].item)[0] for i in worst])
            labels = [sheet.label(i) for i in worst]
            how = studio.refine_steps, studio.precision, studio.batch_size
            picture = draw_pairs(studio.model, batch, WIDEST, labels, *how)
            write_atomically(studio.folder / file, partial(picture.save, format="PNG"))
            print(f"wrote  {studio.folder / file}")
