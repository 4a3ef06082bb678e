"""`capture.json`: what the cameras file cannot say about a sequence's world."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..files import as_numbers, read_json
from ..stores import DataError

MAX_BYTES = 2**16


@dataclass(frozen=True)
class Note:
    """What the file says.

    Attributes:
        scale: metres per unit of the cameras file and of the 3D poses; None if not given.
        up: the direction in the world that is up, a unit vector; None if not given.
    """

    scale: float | None = None
    up: tuple[float, float, float] | None = None


def read_note(file: Path) -> Note:
    """The content of the file; an empty note if there is no file."""
    if not file.exists():
        return Note()
    table = read_json(file, MAX_BYTES)
    if not isinstance(table, dict) or set(table) - {"scale", "up"}:
        raise DataError(f"{file}: wanted a table of scale, up, or both")
    scale, up = _numbers(file, table, "scale", 1), _numbers(file, table, "up", 3)
    if scale is not None and not 1e-9 <= scale[0] <= 1e9:
        raise DataError(f"{file}: scale is {scale[0]:g}, wanted metres per unit of the cameras file")
    if up is not None:
        length = np.linalg.norm(up)
        if not 1e-6 < length < 1e6:
            raise DataError(f"{file}: up is {up.tolist()}, wanted a direction")
        up = tuple((up / length).tolist())
    return Note(None if scale is None else float(scale[0]), up)


def _numbers(file: Path, table: dict[str, Any], name: str, count: int) -> np.ndarray | None:
    if name not in table:
        return None
    try:
        values = as_numbers(table[name]).reshape(-1)
    except ValueError as error:
        raise DataError(f"{file}: {name} does not consist of numbers") from error
    if len(values) != count or not np.isfinite(values).all():
        raise DataError(f"{file}: {name} has {len(values)} values, wanted {count} finite numbers")
    return values
