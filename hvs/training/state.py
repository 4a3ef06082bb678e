"""What a training run needs to resume where it was stopped: a few files, each written whole and read as data only."""

import math
import random
import re
import shutil
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch

from ..config import Stage
from ..data.torch_files import read_torch_file
from ..runtime import UserError, make_folder, remove_leftovers, write_atomically

FOLDER = "checkpoints"
# In the run's folder itself: what earlier releases wrote, the result of a finished run, and the best model so far.
OLD_FILE, RESULT, BEST = "training.pt", "model.safetensors", "best.safetensors"
STAGES = get_args(Stage)
NAME = re.compile(rf"({'|'.join(STAGES)})-(\d+)\.pt")
# Parts that states of earlier versions do not have.
LATER = {"losses", "contents"}
# What every state holds, and the type of each entry.
KINDS = {"stage": str, "step": int, "seconds": float, "settings": str, "parts": dict, "random": list}


class Checkpoints:
    """The last states of a run, `checkpoints/<stage>-<step>.pt` in its folder.

    A state is a dict of the "stage"; the number of its steps done, "step"; the "seconds" of work in total; the model's
    "settings" as JSON; the state dicts of all "parts" by name; and the "random" states of all processes
    (:func:`random_state`).

    Args:
        run: the run's folder.
        keep: how many states to keep.

    Raises:
        UserError: the folder cannot be written to.
    """

    def __init__(self, run: Path, keep: int = 3) -> None:
        self.run, self.keep = run, keep
        self.folder = make_folder(run / FOLDER)
        for folder in (run, self.folder):
            remove_leftovers(folder)

    def files(self) -> list[Path]:
        """The existing states, oldest first."""
        found = [(path, NAME.fullmatch(path.name)) for path in self.folder.iterdir()]
        order = {path: (STAGES.index(match[1]), int(match[2])) for path, match in found if match}
        return sorted(order, key=order.__getitem__)

    def last(self) -> str:
        """Which state a run can resume from, for error messages."""
        files = self.files()
        return f"{files[-1]} is the last state, --resume continues from it" if files else "there is no state yet"

    def save(self, state: dict[str, Any]) -> None:
        """Write a state and delete surplus ones: older ones beyond ``keep``, and those of steps that it has not done.

        Raises:
            UserError: it cannot be written; the last state is still there.
        """
        path = self.folder / f"{state['stage']}-{state['step']:07d}.pt"
        try:
            write_atomically(path, lambda temporary: _write(state, temporary))
        except OSError as error:
            raise UserError(f"{path}: cannot be written ({error.strerror or error}); {self.last()}") from error
        files = self.files()
        kept = files[: files.index(path) + 1][-self.keep :]
        for file in files:
            if file not in kept:
                file.unlink()

    @staticmethod
    def found(run: Path, names: str = "*") -> bool:
        """Whether a run's folder holds states (with names of this pattern), of this release or an earlier one."""
        return any(run.glob(f"{FOLDER}/{names}.pt")) or (run / OLD_FILE).exists()

    def load(self) -> dict[str, Any]:
        """The newest state that can be read, on the CPU; empty if there is none. Warns about newer ones that cannot.

        Raises:
            UserError: there are states, but none can be read; or they are from an earlier release.
        """
        files = self.files()
        faults = []
        for file in reversed(files):
            try:
                state = read_torch_file(file)
                wrong = type(state) is not dict or any(
                    type(state.get(name)) is not kind for name, kind in KINDS.items()
                )
                if wrong or state["stage"] not in STAGES or state["step"] < 0 or not math.isfinite(state["seconds"]):
                    raise ValueError("it is not a training state")
            except ValueError as error:
                faults.append(f"{file}: {error}")
                continue
            if faults:
                warnings.warn(f"{'; '.join(faults)}; resuming from {file.name}, the one before", stacklevel=2)
            return state
        if faults:
            raise UserError(f"none of the {len(files)} states can be read: {'; '.join(faults)}; use another --run")
        if (self.run / OLD_FILE).exists():
            raise UserError(f"{self.run / OLD_FILE}: is from an earlier release, and only that can resume from it")
        return {}


def check_space(
    run: Path, keep: int, state: int, others: int, states: Iterable[Path] = (), written: Iterable[str] = ()
) -> None:
    """Check before training that the disk has room for everything the run will write that is not there already.

    Args:
        run: the run's folder.
        keep: how many states it keeps.
        state: bytes of one state.
        others: bytes of all other files.
        states: those that are there already.
        written: what the other files are called in the folder, as patterns.

    Raises:
        UserError: it has not.
    """
    # A new state is written before the oldest one is deleted.
    needed = (keep + 1) * state - _file_bytes(states)
    needed += max(0, others - _file_bytes(path for pattern in written for path in run.glob(pattern)))
    free = shutil.disk_usage(run).free
    if free < needed:
        raise UserError(
            f"{run}: {free / 2**20:.0f} MiB are free, and the run will write up to {needed / 2**20:.0f} MiB; "
            f"make room, or use another --run or a --keep below {keep}"
        )


def _file_bytes(files: Iterable[Path]) -> int:
    return sum(file.stat().st_size for file in files)


def _write(state: dict[str, Any], path: Path) -> None:
    try:
        with open(path, "wb") as file:
            torch.save(state, file)
    except RuntimeError as error:
        # torch raises an OSError for a full disk, and while handling that a RuntimeError that its file is too short.
        if isinstance(error.__context__, OSError):
            raise error.__context__ from error
        raise


def restore(state: dict[str, Any], parts: dict[str, Any], device: torch.device, rank: int = 0) -> int:
    """Restore parts and random states from a saved state; returns the number of steps done.

    Args:
        state: from :meth:`Checkpoints.load`; if it is empty, nothing is changed.
        parts: each with a ``load_state_dict``, by name; None is left out.
        device: of this process.
        rank: of this process. A rank that the saved training did not have keeps its random state.

    Raises:
        UserError: the state lacks one of the parts or does not fit it, because it was saved with other settings.
    """
    if not state:
        return 0
    for name, part in parts.items():
        if part is None or (name in LATER and name not in state["parts"]):
            continue
        if name not in state["parts"]:
            raise UserError(f"the last state has no {name}: it is from other settings, use another --run")
        try:
            part.load_state_dict(state["parts"][name])
        except (AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
            reason = str(error).partition("\n")[0]
            raise UserError(
                f"the last state does not fit the {name}: it is from other settings, use another --run ({reason})"
            ) from error
    if rank < len(state["random"]):
        try:
            restore_random_state(state["random"][rank], device)
        except (LookupError, OverflowError, RuntimeError, TypeError, ValueError) as error:
            raise UserError(f"the last state has broken random states ({error}); use another --run") from error
    return state["step"]


def random_state(device: torch.device) -> dict[str, Any]:
    """The states of all random number generators of this process: Python's, numpy's, torch's, and the device's."""
    kind, numbers, *rest = np.random.get_state()
    return dict(
        python=random.getstate(),
        numpy=(kind, numbers.tolist(), *rest),
        torch=torch.get_rng_state(),
        cuda=torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
    )


def restore_random_state(state: dict[str, Any], device: torch.device) -> None:
    """Set all random number generators of this process to a :func:`random_state`."""
    random.setstate(state["python"])
    # Python takes anything for the number that `gauss` has in store.
    if type(state["python"][2]) not in (float, type(None)):
        raise TypeError("a number in store that is none")
    np.random.set_state(state["numpy"])
    torch.set_rng_state(state["torch"])
    if state["cuda"] is not None and device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"], device)


def set_aside(run: Path, needed: Iterable[Path | None]) -> None:
    """Rename a folder that holds a run, with a warning, so that a new run can begin there and nothing is lost.

    Args:
        run: the folder.
        needed: files that the new run will read.

    Raises:
        UserError: one of those is in the folder, or it cannot be renamed.
    """
    run = run.absolute()
    if not (Checkpoints.found(run) or any((run / name).exists() for name in (RESULT, BEST))):
        return
    if Path.cwd().is_relative_to(run.resolve()):
        raise UserError(f"{run}: holds a run, and cannot be renamed from inside; use another --run, or start elsewhere")
    for path in needed:
        if path and path.resolve().is_relative_to(run.resolve()):
            raise UserError(f"{path}: is in the folder of the run, which would be renamed; use another --run")
    number = 1
    while (aside := run.with_name(f"{run.name}-{number}")).exists():
        number += 1
    try:
        run.rename(aside)
    except OSError as error:
        raise UserError(f"{run}: holds a run, and cannot be renamed ({error.strerror}); use another --run") from error
    warnings.warn(f"{run}: held a run, now renamed to {aside.name} (--resume continues a run instead)", stacklevel=2)
