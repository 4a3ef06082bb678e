"""What a run shows as it progresses: TensorBoard, a history, pictures, and a bar and a table on the console.

Values are summed on the device; only :meth:`Watch.log`, called every so many steps, waits for it.
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
from ..evaluation import draw_pairs, evaluating, to_device
from ..losses import WEIGHTS
from ..models import HumanViewSynthesis
from ..models.layers import ModulatedConv
from ..runtime import remove_leftovers, write_atomically
from .console import Table
from .history import History
from .means import Means
from .stepper import Stepper

BOARD, PICTURES = "tensorboard", "pictures"
# What the names of TensorBoard's files begin with; seconds since 1970 in ten digits follow.
EVENTS = "events.out.tfevents."
# Pairs in a mosaic, the largest width of its pictures in pixels, the number of log entries per mosaic, and how many
# mosaics there are at most.
ROWS, WIDEST, PICTURE_EVERY, MOST_PICTURES = 6, 256, 10, 100
# A line of the table covers an epoch of the paper, or one part in this many of the stage if that is less.
LINES = 10
# Share of the time that steps wait for their batches, above which it is said once how to wait less.
MUCH_WAITING = 0.3
# Rough upper bounds: of an entry in the history and in TensorBoard; of a mosaic in its folder and in TensorBoard, with
# its histograms.
ENTRY_BYTES, PICTURE_BYTES = 2**11, 2**22
# What the discriminator minimises is not part of the model's total.
OPPOSED = {"discriminator", "r1"}


class Watch:
    """A stage's steps: iterate over it, :meth:`add` every step's losses, and :meth:`log` when that is due.

    All processes do so, and the first one writes and prints. Use it in a ``with`` statement.

    Args:
        folder: of the run. Whatever it holds of later steps is dropped, as those are repeated.
        stage: its name.
        steps: the steps to do.
        log_every: steps from one entry to the next; fewer in a stage of few steps.
        images: per step, in all processes together.
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
        # Seconds of other work since the last line of the table.
        self._aside = 0.0
        # Seconds of waiting for batches since the last entry, and the shares in entries since the last line.
        self._waited, self._waits = 0.0, []
        self._told = False
        # Values by name since the last line of the table.
        self._recent: dict[str, list[float]] = {}
        self._first = distribute.is_first()
        # None: only on a terminal. Bars would fill a file, in which the table says as much.
        hidden = None if self._first else True
        self._bar = tqdm(steps, stage, initial=steps.start, total=steps.stop, mininterval=1, disable=hidden)
        self._writer = None
        if self._first:
            from torch.utils.tensorboard import SummaryWriter

            remove_leftovers(folder / PICTURES)
            self._history = History(folder)
            self._history.cut(stage, steps.start)
            # TensorBoard hides what was written earlier for steps that are repeated. It goes by step numbers alone, so
            # each stage has its own folder.
            path = folder / BOARD / stage
            _put_first(path)
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
        """Add losses and other scalars of a pass or a step, by name; does not wait for the device."""
        self._means.add({**losses, **others})

    def is_due(self, step: int) -> bool:
        """Whether an entry is due after this step."""
        return (step + 1) % self.log_every == 0 or step + 1 == self.steps.stop

    def log(self, step: int, steppers: Iterable[Stepper], **others: float | Tensor) -> None:
        """Write an entry with the means since the last one, and other values by name.

        Waits for the device and the other processes.

        Raises:
            UserError: too many steps were not finite.
        """
        from tqdm import tqdm

        done = step + 1
        steppers = list(steppers)
        for stepper in steppers:
            if (count := stepper.check()) and self._first:
                tqdm.write(f"note: {stepper.name}: {count} steps were not finite and were skipped", file=sys.stderr)
        means = self._means.take()
        if not self._first:
            return
        losses = {name: value for name, value in means.items() if name in WEIGHTS}
        if len(losses) > 1:
            losses["total"] = sum(WEIGHTS[name] * value for name, value in losses.items() if name not in OPPOSED)
        now = time.monotonic()
        seconds = max(now - self._logged_at, 1e-9)
        speed, waiting = (done - self._logged) * self.images / seconds, self._waited / seconds
        self._waits.append(waiting)
        self._logged, self._logged_at, self._waited = done, now, 0.0
        entry = {
            "stage": self.stage,
            "step": done,
            "losses": losses,
            "rates": _rates(steppers),
            "images_per_second": speed,
            "waiting_for_data": waiting,
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

    def log_scores(self, done: int, scores: dict[str, float]) -> None:
        """Write an entry of scores on validation data, by name, after ``done`` steps."""
        if self._first and scores:
            self._write({"stage": self.stage, "step": done, "validation": scores})

    def show(self, done: int, model: HumanViewSynthesis, pairs: dict[str, Any] | None) -> None:
        """If it is due, draw a mosaic of what the model makes of a batch of pairs, with histograms of its modulations.

        Args:
            done: steps done.
            model: its mode is restored afterwards.
            pairs: always the same ones.
        """
        if self._first and pairs and (done % self._picture_every == 0 or done == self.steps.stop):
            with self.aside():
                self._draw(done, model, pairs)

    @contextmanager
    def aside(self) -> Iterator[None]:
        """For work between steps, which does not count in the training speed."""
        started = time.monotonic()
        yield
        seconds = time.monotonic() - started
        self._logged_at += seconds
        self._aside += seconds

    def wait_for(self, batches: Iterator[dict[str, Any]]) -> dict[str, Any]:
        """The next batch of a step. Entries say which share of the time is spent here."""
        started = time.monotonic()
        batch = next(batches)
        self._waited += time.monotonic() - started
        return batch

    def flush(self) -> None:
        """Flush the log before a state is saved: a run that resumes from it does not write earlier entries again."""
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
        mosaic = draw_pairs(model, pairs, WIDEST)
        factors = modulations(model, pairs)
        folder = self.folder / PICTURES
        folder.mkdir(exist_ok=True)
        write_atomically(folder / f"{done:07d}.png", lambda path: mosaic.save(path, "PNG"))
        self._writer.add_image("pictures", np.asarray(mosaic), done, dataformats="HWC")
        for name, values in factors.items():
            # TensorBoard refuses values that are not finite, and empty histograms.
            if len(values := values[values.isfinite()]):
                self._writer.add_histogram(f"modulation/{name}", values, done)

    def _line(self, done: int, now: float) -> None:
        from tqdm import tqdm

        steps, seconds = done - self._lined, now - self._lined_at
        losses = {name: float(np.nanmean(values)) for name, values in self._recent.items() if np.isfinite(values).any()}
        speed = steps * self.images / max(seconds - self._aside, 1e-9)
        # Other work comes again, so it counts here.
        left = (self.steps.stop - done) * seconds / steps
        tqdm.write(self._table.line(done, losses, speed, left))
        # The processes that read ahead start with the first steps, which wait for them.
        waiting = np.mean(self._waits)
        if self._lined > self.steps.start and waiting > MUCH_WAITING and not self._told:
            self._told = True
            advice = "more --data.workers read more of them ahead, if there are cores to do so"
            tqdm.write(f"note: steps wait for pictures {waiting:.0%} of the time; {advice}", file=sys.stderr)
        self._lined, self._lined_at, self._aside, self._recent, self._waits = done, now, 0.0, {}, []


def clear_logs(folder: Path) -> None:
    """Remove the logs and pictures that a run left which was killed before its first state: nothing can continue them,
    and they would mix with those of the run that begins."""
    history = History(folder).file
    # Anybody may have a folder of pictures, but only a run has this file.
    if history.exists():
        pictures = [path for path in folder.glob(f"{PICTURES}/*.png") if path.stem.isdecimal()]
        for path in (*folder.glob(f"{BOARD}/*/events.*"), *pictures, history):
            path.unlink()


def _put_first(folder: Path) -> None:
    """See to it that TensorBoard reads the events that are there before those to be written now: it goes by the files'
    names, which begin with the time, and the clock may have been set back."""
    files = sorted(folder.glob(f"{EVENTS}*"))
    if files and files[-1].name >= f"{EVENTS}{int(time.time()):010d}":
        for number, file in enumerate(files):
            *_, others = file.name.removeprefix(EVENTS).partition(".")
            file.rename(file.with_name(f"{EVENTS}{number:010d}.{others}"))


def count_bytes(steps: int, log_every: int) -> int:
    """Upper bound of the bytes that logs, pictures and final report of a stage with mosaics take on the disk."""
    _, log_every, picture_every = _rhythm(steps, log_every)
    # One more at the start and one at the end, the preview, and those in the report.
    pictures = steps // picture_every + 4
    return steps // log_every * ENTRY_BYTES + pictures * PICTURE_BYTES


@torch.no_grad()
def modulations(model: HumanViewSynthesis, pairs: dict[str, Any]) -> dict[str, Tensor]:
    """The factors by which each decoder layer scales its inputs for these pairs, by the layer's name, on the CPU."""
    with evaluating(model):
        style = model.encode(to_device(pairs, next(model.parameters()).device)["image_a"]).flatten(1)
    layers = {name: layer for name, layer in model.decoder.named_modules() if isinstance(layer, ModulatedConv)}
    return {name: layer.style(style).float().flatten().cpu() for name, layer in layers.items()}


def _rhythm(steps: int, log_every: int) -> tuple[int, int, int]:
    """Steps from one line of the table to the next, from one log entry to the next, and from one mosaic to the next."""
    epoch = max(1, min(EPOCH_STEPS, -(-steps // LINES)))
    log_every = min(log_every, epoch)
    return epoch, log_every, log_every * max(PICTURE_EVERY, -(-steps // (MOST_PICTURES * log_every)))


def _rates(steppers: Iterable[Stepper]) -> dict[str, float]:
    """Learning rates by the name of the parameter group, or of the stepper if the group has none."""
    groups = [(stepper, group) for stepper in steppers for group in stepper.optimizer.param_groups]
    return {group.get("name", stepper.name): group["lr"] for stepper, group in groups}
