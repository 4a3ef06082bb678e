"""Folders that are made once per machine, and exist complete or not at all."""

import errno
import fcntl
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from hvs.data.files import naming


def cache_folder() -> Path:
    """Where this user's made-once folders are: `$XDG_CACHE_HOME/hvs`, by default `~/.cache/hvs`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hvs"


def make_once(path: Path, make: Callable[[Path], None]) -> Path:
    """`path`, filled by `make` if it is not filled yet.

    `make` fills a temporary folder next to it, which then takes its name. Other processes that want the same folder
    wait, and say so on stderr; what an interrupted one left behind is removed by the next.

    Args:
        path: the folder to make; an empty one counts as missing.
        make: called with an empty folder to fill, if `path` has to be made.

    Raises:
        NotADirectoryError: something else has the name.
        ValueError: `path` is a mount point.
    """
    # A link to an empty folder stays a link; the folder it points to is filled.
    path = Path(os.path.realpath(path))
    if _is_made(path):
        return path
    # Neither a file nor a mount point could be replaced in the end.
    if os.path.lexists(path) and not path.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path))
    if os.path.ismount(path):
        raise ValueError(f"{path}: is a mount point, wanted a folder inside it")
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.unfinished")
    with naming(path), _locked(path.with_name(f".{path.name}.lock"), path):
        if not _is_made(path):
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir()
            try:
                make(unfinished)
                unfinished.rename(path)
            finally:
                shutil.rmtree(unfinished, ignore_errors=True)
    return path


def _is_made(path: Path) -> bool:
    return path.is_dir() and any(path.iterdir())


@contextmanager
def _locked(file: Path, wanted: Path) -> Iterator[None]:
    """Let in one process at a time. The system ends the lock with its process, so a killed one locks nobody out."""
    while True:
        with open(file, "w") as handle:
            _lock(handle, wanted)
            # The previous holder of the lock has removed the file, and another process may have made it again.
            if _same_file(handle.fileno(), file):
                try:
                    yield
                finally:
                    file.unlink()
                return


def _lock(handle: IO, wanted: Path) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print(f"waiting for another process that is making {wanted} ...", file=sys.stderr)
        fcntl.flock(handle, fcntl.LOCK_EX)


def _same_file(descriptor: int, file: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(file))
    except FileNotFoundError:
        return False
