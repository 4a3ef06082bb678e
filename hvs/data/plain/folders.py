"""Folders with one file per frame."""

import os
import re
from pathlib import Path

from ..stores import DataError

# Longer numbers are not frame numbers, and might not fit into 64 bits.
MOST_DIGITS = 15
_NUMBERS = re.compile(r"[0-9]+")


def last_number(stem: str) -> int | None:
    """The last integer of a file's name without its ending, if it has one that may be a frame's."""
    numbers = _NUMBERS.findall(stem)
    return int(numbers[-1]) if numbers and len(numbers[-1]) <= MOST_DIGITS else None


def frame_number(stem: str, where: str) -> int:
    """The last integer of a file's name without its ending."""
    number = last_number(stem)
    if number is None:
        raise DataError(f"{where}: no frame number in the name, wanted one of at most {MOST_DIGITS} digits")
    return number


def numbered(folder: Path, endings: tuple[str, ...]) -> dict[int, str]:
    """Frame number -> name of its file, for all files with one of the endings, except hidden ones.

    Raises:
        DataError: no such folder, only files with other endings, a name without a number, or two files of the same
            frame.
    """
    found: dict[int, str] = {}
    names = _names(folder)
    for name in names:
        stem, ending = os.path.splitext(name)
        if ending.lower() in endings:
            frame = frame_number(stem, os.path.join(folder, name))
            if frame in found:
                raise DataError(f"{folder}: two files of frame {frame}, {found[frame]} and {name}")
            found[frame] = name
    if names and not found:
        raise DataError(f"{folder}: got {names[0]:.80}, wanted names that end in {' or '.join(endings)}")
    return found


def subfolders(folder: Path) -> tuple[str, ...]:
    """Sorted names of the folders in a folder, except hidden ones."""
    return tuple(name for name in _names(folder) if (folder / name).is_dir())


def files(folder: Path, ending: str) -> tuple[str, ...]:
    """Sorted names, without the ending, of the files in a folder that have it, except hidden ones."""
    return tuple(name.removesuffix(ending) for name in _names(folder) if name.endswith(ending))


def _names(folder: Path) -> list[str]:
    try:
        return sorted(name for name in os.listdir(folder) if not name.startswith("."))
    except OSError as error:
        reason = "no such folder" if isinstance(error, FileNotFoundError) else error.strerror
        raise DataError(f"{folder}: {reason}") from error
