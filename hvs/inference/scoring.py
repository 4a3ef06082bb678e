"""Scores of a model on novel views: a table, files of every score and of their means, pictures of the worst cases."""

import json
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, islice, pairwise
from pathlib import Path
from typing import Any, NamedTuple

import torch
from PIL.Image import Image
from torch import Tensor, nn
from torch.utils.data import ConcatDataset, Dataset, Subset
from tqdm import tqdm

from hvs import distribute
from hvs.data import NoSequencesError, PairDataset, collate, even_subset, find_sequences
from hvs.data.captures import GROUPS, Subjects
from hvs.data.layouts import Split
from hvs.evaluation import draw_pairs, score
from hvs.metrics import lpips_alex
from hvs.models import HumanViewSynthesis
from hvs.runtime import Precision, UserError, write_atomically

from .ahead import ahead
from .footage import require_skeleton
from .panels import WIDEST
from .scoresheet import LEGEND, Scoresheet
from .settings import WithModel
from .studio import Studio

NAME = "evaluation"
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
    """How many worst cases to draw, by picture and by pose; 0 draws none."""
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
        for name in ("pairs", "worst"):
            if getattr(self, name) < 0:
                raise UserError(f"{name}: got {getattr(self, name)}, wanted 0 or more")


def evaluate(settings: Evaluate) -> None:
    """Score a model on pairs of views of a capture, print the means and write everything into files."""
    with distribute.one_voice():
        device = distribute.start(settings.device)
        studio = Studio(replace(settings, device=str(device)))
        root = studio.root(settings.root)
        groups = choose_pairs(root, studio.model, settings)
        pairs = ConcatDataset(groups.values())
        distribute.agree(checkpoint=studio.checkpoint, root=root, pairs=len(pairs))
        notes, scores = score_pairs(studio, pairs, load_lpips(device))
        if distribute.is_first():
            unseen = [name == "unknown" for name, chosen in groups.items() for _ in range(len(chosen))]
            sheet = Scoresheet([note.where for note in notes], unseen, scores)
            pictures = draw_worst(studio, pairs, sheet, settings.worst)
            print(f"\n{sheet.table()}\n\n{LEGEND}\n")
            passed_over = tell_passed_over(notes)
            about = {
                "checkpoint": str(studio.checkpoint),
                "root": str(root.absolute()),
                "split": settings.split,
                "precision": str(studio.precision).removeprefix("torch."),
                "refine_steps": settings.refine_steps,
            }
            write(studio.folder, sheet, about | passed_over, pictures)


def choose_pairs(root: Path, model: HumanViewSynthesis, settings: Evaluate) -> dict[str, Subset]:
    """Pairs of two different views, as a view seen again is not novel, for each group of subjects with such frames.

    Raises:
        DataError: no such capture or subjects, or a broken one.
        UserError: it has another skeleton, or no such frames.
    """
    found = {}
    for group in GROUPS[settings.subjects]:
        try:
            sequences = find_sequences(root, group)
        except NoSequencesError:
            if settings.subjects != "all":
                raise
            continue
        require_skeleton(root, sequences[0].layout.skeleton, model.skeleton)
        if any(sequence.frames(settings.split) for sequence in sequences):
            sizes = model.settings.input_resolution, model.settings.target_resolution
            dataset = PairDataset(root, settings.split, group, *sizes, model.settings.resize, same_view=False)
            found[group] = even_subset(dataset, settings.pairs or len(dataset))
    if not found:
        raise UserError(f"{root}: no frames of split {settings.split!r}, subjects {settings.subjects!r}")
    return found


class Note(NamedTuple):
    """Which pair was scored, and what was skipped for it, as `PairDataset` reports."""

    where: tuple[str, int, str, str]
    skipped: int
    faults: list[str]


def score_pairs(studio: Studio, pairs: ConcatDataset, lpips: nn.Module | None) -> tuple[list[Note], dict[str, Tensor]]:
    """Notes and scores of every pair, [P] each, computed by all processes together."""
    notes: list[Note] = []

    def noted() -> Iterator[dict[str, Any]]:
        for batch in own_batches(pairs, studio.batch_size):
            notes.extend(map(Note, batch["where"], batch["skipped"].tolist(), batch["faults"]))
            yield batch

    scores = score(studio.model, noted(), lpips, studio.precision, studio.refine_steps)
    all_notes, all_scores = zip(*distribute.gather((notes, scores)), strict=True)
    # With more processes than batches some have nothing.
    parts = [part for part in all_scores if part]
    return list(chain(*all_notes)), {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def own_batches(pairs: ConcatDataset, size: int) -> Iterator[dict[str, Any]]:
    """This process's share of all batches.

    Like the scores, the batches are the same however many processes there are, and the same as in training.
    """
    groups = pairwise([0, *pairs.cumulative_sizes])
    batches = [range(i, min(i + size, end)) for start, end in groups for i in range(start, end, size)]
    own = [batches[i] for i in distribute.part(len(batches))]
    items = ahead(pairs.__getitem__, chain(*own))
    with tqdm(total=sum(map(len, own)), desc=NAME, unit="pair", disable=not distribute.is_first()) as bar:
        for batch in own:
            yield collate(list(islice(items, len(batch))))
            bar.update(len(batch))


def load_lpips(device: torch.device) -> nn.Module | None:
    """LPIPS on AlexNet; without its weights None, and a line that names the missing file."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            lpips = lpips_alex()
        except ValueError as error:
            raise UserError(str(error)) from error
    if distribute.is_first():
        for warning in caught:
            print(f"note: {warning.message}", file=sys.stderr)
    return lpips and lpips.to(device)


def draw_worst(studio: Studio, pairs: Dataset, sheet: Scoresheet, count: int) -> dict[str, Image]:
    """File -> picture of the worst pairs, one row each; files with nothing to draw are left out."""
    pictures = {}
    for file, (name, entries) in WORST.items():
        if worst := sheet.worst(name, count, entries):
            batch = collate([pairs[i] for i in worst])
            labels = [sheet.label(i) for i in worst]
            pictures[file] = draw_pairs(studio.model, batch, WIDEST, labels, studio.refine_steps)
    return pictures


def tell_passed_over(notes: list[Note]) -> dict[str, Any]:
    """Print what was skipped, and return it for the file."""
    skipped, faults = sum(note.skipped for note in notes), sorted(set(chain(*(note.faults for note in notes))))
    if skipped:
        print(f"note: skipped {skipped} pairs without a person in both images", file=sys.stderr)
    for fault in faults[:MOST_TOLD]:
        print(f"note: skipped {fault}", file=sys.stderr)
    if len(faults) > MOST_TOLD:
        print(f"note: and {len(faults) - MOST_TOLD} more broken files, see {NAME}.json", file=sys.stderr)
    return {"skipped": skipped, "faults": faults}


def write(folder: Path, sheet: Scoresheet, about: dict[str, Any], pictures: dict[str, Image]) -> None:
    texts = {f"{NAME}.csv": sheet.csv(), f"{NAME}.json": json.dumps(about | sheet.summary(), indent=1) + "\n"}
    for name, text in texts.items():
        write_atomically(folder / name, partial(Path.write_text, data=text, encoding="utf-8"))
    for name, picture in pictures.items():
        write_atomically(folder / name, partial(picture.save, format="PNG"))
    for name in texts | pictures:
        print(f"wrote  {folder / name}")
