"""What a run shows while it goes on: TensorBoard, a history, pictures, and a bar and a table on the console.

Values are summed where they are, on the device; only :meth:`Watch.log` waits for it, every so many steps.
"""

import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from .. import distribute
from ..config import EPOCH_STEPS
from ..evaluation import draw_pairs, to_device
from ..losses import WEIGHTS
from ..models import HumanViewSynthesis
from ..models.layers import ModulatedConv
from ..runtime import remove_leftovers, write_atomically
from .console import Table
from .history import History
from .stepper import Stepper

PICTURES = "pictures"
# Pairs of a mosaic, and pixels of its pictures. It comes with every so many entries of the log, and not more often than
# so many times.
ROWS, WIDEST, PICTURE_EVERY, MOST_PICTURES = 6, 256, 10, 100
# A line of the table is an epoch of the paper's, or so small a part of the stage.
LINES = 10
# At most, and about: of an entry in the history and in TensorBoard; of a mosaic in its folder and in TensorBoard, with
# the histograms beside it.
ENTRY_BYTES, PICTURE_BYTES = 2**11, 2**22
# What the discriminator minimises is no part of the model's total.
OPPOSED = {"discriminator", "r1"}


class Means:
    """Means of scalars added step by step, without waiting for their device; those not finite are left out."""

    def __init__(self) -> None:
        # By the names that come together, as some come only now and then: sums and counts [2, n].
        self._sums: dict[tuple[str, ...], Tensor] = {}

    @torch.no_grad()
    def add(self, values: dict[str, Tensor]) -> None:
        """Add scalars by name."""
        found = torch.stack([value.detach().float() for value in values.values()])
        finite = found.isfinite()
        sums = torch.stack((found.nan_to_num(0.0, 0.0, 0.0), finite.to(found.dtype)))
        key = tuple(values)
        self._sums[key] = self._sums[key].add_(sums) if key in self._sums else sums

    def take(self) -> dict[str, float]:
        """The means over what was added since the last time and over all processes; NaN where nothing was finite.

        Waits for the device and for the other processes.
        """
        sums: dict[str, Tensor] = {}
        for key, found in self._sums.items():
            for name, value in zip(key, found.unbind(1), strict=True):
                sums[name] = sums[name] + value if name in sums else value
        self._sums = {}
        if not sums:
            return {}
        totals, counts = distribute.average(torch.stack(list(sums.values()), 1)).tolist()
        return {
            name: value / count if count else float("nan")
            for name, value, count in zip(sums, totals, counts, strict=True)
        }


class Watch:
    """A stage's steps: iterate over it, :meth:`add` every step's losses, and :meth:`log` when that is due.

    Of many processes all do so, and the first one writes and prints. To be opened (``with``).

    Args:
        folder: of the run. What it has of later steps is dropped, as those are done again.
        stage: its name.
        steps: that are to be done.
        log_every: steps from one entry to the next; more often in a stage of few steps.
        images: of a step, in all processes together.
        device: of the training.
    """

    def __init__(
        self, folder: Path, stage: str, steps: range, log_every: int, images: int, device: torch.device
    ) -> None:
        from tqdm import tqdm

        self.folder, self.stage, self.steps, self.images, self.device = folder, stage, steps, images, device
        self._epoch, self.log_every, self._picture_every = _rhythm(steps.stop, log_every)
        self._means, self._table = Means(), Table(stage)
        self._lined = self._logged = steps.start
        self._lined_at = self._logged_at = time.monotonic()
        # Since the last line of the table: values by name.
        self._recent: dict[str, list[float]] = {}
        self._first = distribute.is_first()
        self._bar = tqdm(steps, stage, initial=steps.start, total=steps.stop, mininterval=1, disable=not self._first)
        self._writer = None
        if self._first:
            from torch.utils.tensorboard import SummaryWriter

            remove_leftovers(folder / PICTURES)
            self._history = History(folder)
            self._history.cut(stage, steps.start)
            # TensorBoard hides what was written before of steps that are done again. That goes by steps alone, so each
            # stage has a folder.
            path = folder / "tensorboard" / stage
            self._writer = SummaryWriter(str(path), purge_step=steps.start + 1 if steps.start else 0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()
        if self._writer:
            self._writer.close()

    def __iter__(self) -> Iterator[int]:
        return iter(self._bar)

    def add(self, losses: dict[str, Tensor], **others: Tensor) -> None:
        """Losses and other scalars of a pass or a step, by name; does not wait for the device."""
        self._means.add({**losses, **others})

    def is_due(self, step: int) -> bool:
        """Whether there is to be an entry after this step."""
        return (step + 1) % self.log_every == 0 or step + 1 == self.steps.stop

    def log(self, step: int, steppers: Iterable[Stepper], **others: float | Tensor) -> None:
        """An entry: the means since the last one, and others by name; waits for the device and the other processes.

        Raises:
            UserError: too many steps were not finite.
        """
        from tqdm import tqdm

        done = step + 1
        steppers = list(steppers)
        for stepper in steppers:
            if (count := stepper.check()) and self._first:
                tqdm.write(f"note: {stepper.name}: {count} steps were not finite and left out", file=sys.stderr)
        means = self._means.take()
        if not self._first:
            return
        losses = {name: value for name, value in means.items() if name in WEIGHTS}
        if len(losses) > 1:
            losses["total"] = sum(WEIGHTS[name] * value for name, value in losses.items() if name not in OPPOSED)
        now = time.monotonic()
        speed = (done - self._logged) * self.images / max(now - self._logged_at, 1e-9)
        self._logged, self._logged_at = done, now
        entry = {
            "stage": self.stage,
            "step": done,
            "losses": losses,
            "rates": _rates(steppers),
            "images_per_second": speed,
            "left_out": sum(stepper.skipped for stepper in steppers),
            **{name: value for name, value in means.items() if name not in WEIGHTS},
            **{name: value.item() if isinstance(value, Tensor) else value for name, value in others.items()},
        }
        if self.device.type == "cuda":
            entry["memory_gib"] = torch.cuda.max_memory_allocated(self.device) / 2**30
        self._write(entry)
        name, value = next(reversed(losses.items()))
        self._bar.set_postfix_str(f"{name} {value:.4g}", refresh=False)
        for name, value in losses.items():
            self._recent.setdefault(name, []).append(value)
        if done // self._epoch > self._lined // self._epoch or done == self.steps.stop:
            self._line(done, now)

    def score(self, done: int, scores: dict[str, float]) -> None:
        """An entry of scores on validation data, by name, after so many steps."""
        if self._first and scores:
            self._write({"stage": self.stage, "step": done, "validation": scores})

    def show(self, done: int, model: HumanViewSynthesis, pairs: dict[str, Any] | None) -> None:
        """Now and then, a mosaic of what the model makes of a batch of pairs, and how strongly it modulates.

        Args:
            done: steps.
            model: its mode is restored afterwards.
            pairs: always the same ones.
        """
        if self._first and pairs and (done % self._picture_every == 0 or done == self.steps.stop):
            with self.aside():
                self._draw(done, model, pairs)

    @contextmanager
    def aside(self) -> Iterator[None]:
        """For what comes between steps: the speed is that of the training."""
        started = time.monotonic()
        yield
        self._logged_at += time.monotonic() - started

    def flush(self) -> None:
        """Before a state is saved: a run that goes on from it will not write again what was before."""
        if self._writer:
            self._writer.flush()

    def _write(self, entry: dict[str, Any]) -> None:
        self._history.append(entry)
        for name, value in entry.items():
            if isinstance(value, dict):
                for inner, number in value.items():
                    self._writer.add_scalar(f"{name}/{inner}", number, entry["step"])
            elif name not in ("stage", "step"):
                self._writer.add_scalar(f"run/{name}", value, entry["step"])

    def _draw(self, done: int, model: HumanViewSynthesis, pairs: dict[str, Any]) -> None:
        # Another batch size in another mode would be compiled anew.
        with torch.compiler.set_stance("force_eager"):
            mosaic = draw_pairs(model, pairs, WIDEST)
            factors = modulations(model, pairs)
        folder = self.folder / PICTURES
        folder.mkdir(exist_ok=True)
        write_atomically(folder / f"{done:07d}.png", lambda path: mosaic.save(path, "PNG"))
        self._writer.add_image("pictures", np.asarray(mosaic), done, dataformats="HWC")
        for name, values in factors.items():
            # TensorBoard refuses what is not finite, and nothing at all.
            if len(values := values[values.isfinite()]):
                self._writer.add_histogram(f"modulation/{name}", values, done)

    def _line(self, done: int, now: float) -> None:
        from tqdm import tqdm

        seconds = max(now - self._lined_at, 1e-9)
        speed = (done - self._lined) / seconds
        losses = {name: float(np.nanmean(values)) for name, values in self._recent.items() if np.isfinite(values).any()}
        left = (self.steps.stop - done) / speed
        tqdm.write(self._table.line(done, losses, speed * self.images, left))
        self._lined, self._lined_at, self._recent = done, now, {}


def count_bytes(steps: int, log_every: int) -> int:
    """What the logs and pictures of a stage with mosaics will take of the disk, at most; with the final report."""
    _, log_every, picture_every = _rhythm(steps, log_every)
    # One at each end, the preview, and those in the report.
    pictures = steps // picture_every + 4
    return steps // log_every * ENTRY_BYTES + pictures * PICTURE_BYTES


@torch.no_grad()
def modulations(model: HumanViewSynthesis, pairs: dict[str, Any]) -> dict[str, Tensor]:
    """The factors by which each layer of the decoder scales its inputs for the pairs, by its name, on the CPU."""
    was_training = model.training
    model.eval()
    style = model.encode(to_device(pairs, next(model.parameters()).device)["image_a"]).flatten(1)
    model.train(was_training)
    layers = {name: layer for name, layer in model.decoder.named_modules() if isinstance(layer, ModulatedConv)}
    return {name: layer.style(style).float().flatten().cpu() for name, layer in layers.items()}


def _rhythm(steps: int, log_every: int) -> tuple[int, int, int]:
    """Steps from one line of the table to the next, from one entry of the log, and from one mosaic."""
    epoch = max(1, min(EPOCH_STEPS, -(-steps // LINES)))
    log_every = min(log_every, epoch)
    return epoch, log_every, log_every * max(PICTURE_EVERY, -(-steps // (MOST_PICTURES * log_every)))


def _rates(steppers: Iterable[Stepper]) -> dict[str, float]:
    """Learning rates, by the name of the group if it has one, else by that of what is trained."""
    groups = [(stepper, group) for stepper in steppers for group in stepper.optimizer.param_groups]
    return {group.get("name", stepper.name): group["lr"] for stepper, group in groups}
