"""Reading small files of any origin, whole but never beyond a limit, and checking the numbers and names in them."""

import errno
import json
import stat
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from .stores import DataError

MAX_BYTES = 128 * 2**20
# Commas and opening brackets together: what Python makes of each takes some hundred bytes.
MAX_VALUES = 5_000_000
MAX_NAME = 255


def read_bounded(file: Path, most: int = MAX_BYTES) -> bytes:
    """The content of a regular file of at most ``most`` bytes.

    Raises:
        DataError: there is no such file, it is not a regular file, or it is larger.
    """
    try:
        # A named pipe would wait for its writer forever.
        if not stat.S_ISREG(file.stat().st_mode):
            raise DataError(f"{file}: not a regular file")
        with open(file, "rb") as handle:
            data = handle.read(most + 1)
    except (OSError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{file}: cannot be read ({getattr(error, 'strerror', None) or error})") from error
    if len(data) > most:
        raise DataError(f"{file}: larger than {most} bytes, the most that is read")
    return data


def read_json(file: Path, most: int = MAX_BYTES) -> Any:
    """The content of a JSON file of at most ``most`` bytes; if it is missing or broken, a DataError names it."""
    data = read_bounded(file, most)
    try:
        values = sum(map(data.count, (b",", b"[", b"{")))
        if values > MAX_VALUES:
            raise DataError(f"{values} values, wanted at most {MAX_VALUES}")
        return json.loads(data, object_pairs_hook=_table)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{file}: not a readable JSON file ({str(error):.200})") from error


def _table(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) < len(pairs):
        ((twice, _),) = Counter(name for name, _ in pairs).most_common(1)
        # The last one would be taken, and the others be missing without a word.
        raise ValueError(f"the name {twice!r:.80} is there twice")
    return table


def as_numbers(value: Any) -> np.ndarray:
    """Numbers from a JSON file as float64: a single one, or nested lists of one length on each level. NaN for null.

    Raises:
        ValueError: it is anything else. Text, true and false, which numpy and torch make numbers of, are none here.
    """
    table = np.array(value, dtype=object)
    if value is None or not set(map(type, table.ravel().tolist())) <= {int, float, type(None)}:
        raise ValueError("not a table of numbers")
    try:
        return table.astype(np.float64)
    except OverflowError as error:
        raise ValueError("an integer that is too large") from error


def _encodable(name: str) -> bool:
    """Whether a file system can hold the name, which JSON can spell with half a character in it."""
    try:
        return len(name.encode()) <= MAX_NAME
    except UnicodeEncodeError:
        return False


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """File errors that do not say which file, such as those of a full disk, name this one."""
    try:
        yield
    except OSError as error:
        if error.filename is not None:
            raise
        raise OSError(error.errno or errno.EIO, error.strerror or str(error), str(path)) from error


def inner_name(name: Any, where: str, folders: bool = False) -> str:
    """The given name of a file or folder, unchanged, if it cannot lead out of the folder in which it is looked up.

    Args:
        name: as it was read from a file.
        where: names that file in errors.
        folders: whether the name may be a path of several names.

    Raises:
        DataError: not a string, empty, absolute, with a step upwards, or no name that a file system can hold.
    """
    parts = name.split("/") if isinstance(name, str) else []
    usable = all(part not in ("", ".", "..") and _encodable(part) for part in parts)
    if not parts or not usable or "\0" in name or PurePosixPath(name).is_absolute() or (len(parts) > 1 and not folders):
        wanted = "a path inside the capture" if folders else "a name without a path"
        raise DataError(f"{where}: got the name {name!r:.80}, wanted {wanted}")
    return name
