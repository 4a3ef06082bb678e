"""The progress of a run: what it resumes from, what it saves, and whether it has been asked to stop."""

import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NoReturn, Self

import torch
from torch import nn

from .. import distribute
from ..config import TrainSettings
from ..models import Discriminator
from ..runtime import UserError
from . import history, report
from .interrupt import Interrupt
from .lock import FolderLock
from .monitor import BOARD, PICTURES, clear_logs, count_bytes
from .state import BEST, RESULT, Checkpoints, check_space, random_state, restore, set_aside

# What a run writes beside its states, in its folder.
WRITTEN = (RESULT, BEST, history.FILE, report.FILE, f"{BOARD}/*/*", f"{PICTURES}/*.png")


class Progress:
    """The states of a run, and its clock. While it is open (``with``), signals to stop are heeded by :meth:`save`.

    Args:
        settings: of the run. If it does not resume, a run that its folder holds is set aside.
        model: gets the weights of the state that the run resumes from.
        device: of the training.
        started: the start time by ``time.monotonic()``.
        reads: files and folders that the run will read.

    Attributes:
        stage: that the run is in; None at its beginning.

    Raises:
        UserError: another training is using the folder, its states are of another model or unreadable, or the disk is
            too small. On leaving the context it replaces an OSError that ends the training, and says which state can be
            resumed.
    """

    def __init__(
        self,
        settings: TrainSettings,
        model: nn.Module,
        device: torch.device,
        started: float,
        reads: Iterable[Path | None] = (),
    ) -> None:
        self._lock = FolderLock(settings.run) if distribute.is_first() else None
        # A finished run without its states cannot be resumed either.
        over = (settings.run / RESULT).exists() and not Checkpoints.found(settings.run)
        new = settings.resume == "never" or over
        self.settings, self.model, self.device = settings, model, device
        if new and distribute.is_first():
            # Before anything is renamed. What is there makes no room for a new run.
            self._check_space()
            set_aside(settings.run, reads)
        # All processes share the folder; they wait until the first one has cleared it.
        distribute.agree()
        self.checkpoints = Checkpoints(settings.run, settings.keep)
        self._state = self.checkpoints.load() if settings.resume == "auto" else {}
        found = self._state.get("settings")
        if found not in (None, settings.model.to_json()):
            raise UserError(f"{settings.run}: holds a run of a model with other settings ({found}); use another --run")
        self.stage: str | None = self._state.get("stage")
        distribute.agree(state=(self.stage, self._state.get("step")))
        restore(self._state, {"model": model}, device, distribute.rank())
        self._started = started - self._state.get("seconds", 0.0)
        self._interrupt = Interrupt()
        if distribute.is_first():
            if not new:
                self._check_space(self.checkpoints.files(), WRITTEN)
            if not self._state:
                clear_logs(settings.run)

    def __enter__(self) -> Self:
        self._interrupt.__enter__()
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._interrupt.__exit__()
        if self._lock:
            self._lock.release()
        # From anything else that is written during training: the log, the best model.
        if isinstance(error, OSError):
            raise UserError(f"{error}; {self.checkpoints.last()}") from error

    @property
    def seconds(self) -> float:
        """Seconds of work, in this run and in those that it resumes."""
        return time.monotonic() - self._started

    @property
    def asked(self) -> bool:
        """Whether a signal has asked any process to stop; must be read by all processes together."""
        return distribute.anywhere(self._interrupt.asked)

    def restore(self, stage: str, parts: dict[str, Any]) -> int:
        """Restore parts with a ``load_state_dict``, and all random states, if the run was stopped in this stage.

        Returns:
            The number of the stage's steps that are done.
        """
        if self.stage != stage:
            return 0
        # Of no more use: in the memory of each process it would take several times what the model does.
        state, self._state = self._state, {}
        return restore(state, parts, self.device, distribute.rank())

    def save(self, stage: str, done: int, steps: int, parts: dict[str, Any]) -> None:
        """Save the state after ``done`` of the stage's ``steps``; ends the process if a signal asked for it.

        Args:
            parts: what has a ``state_dict`` besides the model, by name; None is left out.
        """
        # A signal that arrives from here on is heeded after the next step.
        asked = self.asked
        random = distribute.gather(random_state(self.device))
        found = {"model": self.model, **parts}.items()
        if distribute.is_first():
            self.checkpoints.save(
                dict(
                    stage=stage,
                    step=done,
                    seconds=self.seconds,
                    settings=self.settings.model.to_json(),
                    parts={name: part.state_dict() for name, part in found if part is not None},
                    random=random,
                )
            )
        if asked:
            self.leave(f"after step {done} of {steps} of the stage {stage!r}")

    def leave(self, where: str) -> NoReturn:
        """End the process, as a signal asked, with one line and exit code 0; everything that matters is saved."""
        from tqdm import tqdm

        if distribute.is_first():
            tqdm.write(f"stopped {where}; the same command with --resume continues")
        sys.exit(0)

    def _check_space(self, states: Iterable[Path] = (), written: Iterable[str] = ()) -> None:
        """Check the disk against an upper bound, as if everything were trained at once."""
        settings = self.settings.synthesis
        model = weights = _module_bytes(self.model)
        if settings.adversarial:
            with torch.device("meta"):
                weights += _module_bytes(Discriminator())
        moments = 2 + settings.amsgrad
        shown = count_bytes(settings.steps, settings.log_every)
        state = (1 + moments) * weights + (model if settings.decay else 0)
        # The best model so far, the one that replaces it, and the final one.
        check_space(self.settings.run, self.settings.keep, state, 3 * weights + shown, states, written)


def _module_bytes(module: nn.Module) -> int:
    return sum(value.nbytes for value in module.state_dict().values())
