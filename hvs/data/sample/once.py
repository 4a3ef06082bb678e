"""Folders that are made once per machine, and are there as a whole or not at all."""

import fcntl
import os
import shutil
from collections.abc import Callable
from pathlib import Path


def cache_folder() -> Path:
    """Where this user's made-once folders lie: `$XDG_CACHE_HOME/hvs`, by default `~/.cache/hvs`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hvs"


def make_once(path: Path, make: Callable[[Path], None]) -> Path:
    """`path`, filled by `make` if nobody has yet.

    `make` fills a temporary folder beside it, which then takes the name. Other processes that want the same folder
    wait; what an interrupted one left behind is removed by the next.

    Args:
        path: the folder to make; an empty one is as good as none.
        make: called with an empty folder to fill, if at all.
    """
    if _is_made(path):
        return path
    path = Path(os.path.abspath(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.unfinished")
    # The lock is the kernel's and ends with the process, so the file that stays behind locks nobody out.
    with open(path.with_name(f".{path.name}.lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
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
