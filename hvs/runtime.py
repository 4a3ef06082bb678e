"""What every command needs: a device, seeds, atomic files, and errors and warnings that fit in one line."""

import errno
import os
import random
import re
import shutil
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

Precision = Literal["auto", "bf16", "fp16", "fp32"]
KILLED_READER = "a process that reads ahead was killed, perhaps for want of memory; fewer --data.workers need less"


class UserError(Exception):
    """Something the user can fix; the message is one line that says what and where."""


def run_command(command: Callable[[], None]) -> None:
    """Run a command. Its warnings are notes on stderr; errors that the user can fix end it with one line there and exit
    code 2, no traceback."""
    from .checkpoint import CheckpointError
    from .data import DataError

    warnings.showwarning = show_warning
    try:
        command()
        return
    except (UserError, CheckpointError, DataError, ModuleNotFoundError, OSError) as error:
        message, code = f"error: {' '.join(str(error).split())}", 2
    except (RuntimeError, MemoryError) as error:
        reason = _reason(error)
        if not reason:
            raise
        message, code = f"error: {reason}", 2
    except KeyboardInterrupt:
        message, code = "interrupted", 130
    # By now a progress bar that the error came through has ended its line.
    print(message, file=sys.stderr)
    sys.exit(code)


def show_warning(message: Warning | str, *_: Any) -> None:
    """Print a warning as a note on stderr, above any progress bar, if this is the first of several processes."""
    from tqdm import tqdm

    from . import distribute

    if distribute.is_first():
        tqdm.write(f"note: {message}", file=sys.stderr)


def _reason(error: Exception) -> str:
    """What the user can do about an error of torch; empty if nothing."""
    text = str(error)
    # For a GPU the error has a class of its own, for a CPU only its text tells.
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "can't allocate memory" in text:
        # The rest of the message is about the allocator's settings.
        asked = re.search(r"allocate ([\d.]+ \w+)", text)
        more = f" for {asked[1]} more" if asked else ""
        return f"not enough memory{more}; smaller sizes, counts or batches need less"
    # Raised in the middle of anything, when the signal of the reader's end arrives.
    return KILLED_READER if re.match(r"DataLoader worker \(pid.*\) (is killed by signal|exited)", text) else ""


def select_device(name: str) -> torch.device:
    """The device of that name; "auto" is the first GPU, or the CPU if there is none.

    Raises:
        UserError: there is no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        probe = torch.empty(1, device=name)
        # Nothing can be copied back from "meta".
        probe.cpu()
        return probe.device
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"device: got {name!r}, which is not available ({str(error).partition(chr(10))[0]})") from error


def seed_everything(seed: int) -> None:
    """Seed Python, numpy and torch on all devices."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def choose_precision(name: Precision, device: torch.device) -> torch.dtype:
    """The type that a precision's name stands for; "auto" is bfloat16 if a GPU supports it, and float32 elsewhere."""
    if name == "auto":
        usable = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if usable else torch.float32
    return {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}[name]


def autocast(device: torch.device, precision: torch.dtype | None = None) -> torch.autocast:
    """An autocast context for the networks; by default at the precision that `choose_precision` takes for "auto"."""
    precision = precision or choose_precision("auto", device)
    half = precision is not torch.float32
    return torch.autocast(device.type, precision if half else torch.bfloat16, enabled=half)


def make_folder(path: Path) -> Path:
    """The folder, made if needed and known to be writable.

    Raises:
        UserError: it cannot be made or written to.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = hidden_beside(path / "probe")
        probe.touch()
        probe.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"{path}: not a folder that can be written to ({error.strerror})") from error
    return path


def refuse_folders(*files: Path) -> None:
    """Raise a UserError, before any work, if a folder is in the place of a file to write."""
    for file in files:
        if file.is_dir():
            raise UserError(f"{file}: is a folder, which is in the way of a file")


def refuse_inputs(inputs: Iterable[Path], *outputs: Path) -> None:
    """Raise a UserError, before any work, if something to write would replace a file to read, or a folder it is in."""
    for output in filter(Path.exists, outputs):
        for given in filter(Path.exists, inputs):
            if any(output.samefile(path) for path in (given, *given.resolve().parents)):
                raise UserError(f"out: {output} would replace {given}, which is read; wanted another folder")


@contextmanager
def naming(path: Path, hidden: Path | None = None) -> Iterator[None]:
    """Let file errors name this path if they name none, as for a full disk, or one in a hidden folder."""
    try:
        yield
    except OSError as error:
        if error.filename is not None and (hidden is None or str(hidden) not in str(error.filename)):
            raise
        raise OSError(error.errno or errno.EIO, error.strerror or str(error), str(path)) from error


def write_atomically(path: Path, write: Callable[[Path], Any]) -> None:
    """Let ``write`` make a file next to ``path`` and move it there: a reader sees the old file or the whole new one, no
    matter when the process or the machine is stopped."""
    # A folder, as some libraries make files of their own next to the one they are to write.
    folder = hidden_beside(path)
    temporary = folder / path.name
    try:
        with naming(path, folder):
            if path.is_dir():
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
            folder.mkdir(exist_ok=True)
            # Some libraries let nobody else read what they write, whatever the user's defaults are.
            temporary.touch()
            mode = temporary.stat().st_mode
            write(temporary)
            temporary.chmod(mode)
            _sync(temporary)
            os.replace(temporary, path)
            # The new name is part of the folder's content.
            _sync(path.parent)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def remove_leftovers(folder: Path) -> None:
    """Remove what :func:`write_atomically` left half written in a folder when its process was killed."""
    for path in folder.glob(".[0-9]*.*"):
        number = path.name.split(".")[1]
        # Inference may be writing a film into the folder of a run that is resumed.
        if number.isdecimal() and not _is_other_process(int(number)):
            # All processes of a training may do so at once.
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)


def hidden_beside(path: Path) -> Path:
    """Where this process, and no other, writes what is to become ``path``."""
    return path.with_name(f".{os.getpid()}.{path.name}")


def _is_other_process(number: int) -> bool:
    if number == os.getpid():
        return False
    try:
        os.kill(number, 0)
    except PermissionError:
        # It is somebody else's.
        return True
    except (ProcessLookupError, OverflowError):
        return False
    return True


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
