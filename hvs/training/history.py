"""A run's log, one line of JSON per entry: a resumed run continues it, and the report draws its curves from it."""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..runtime import naming, write_atomically

FILE = "history.jsonl"
DIGITS = 6


class History:
    """The entries of a run, oldest first, in a file in its folder.

    An entry is a dict with the "stage", the number of its steps done ("step"), and further values, or dicts of values,
    by name; numbers that are not finite are stored as None.

    Args:
        folder: of the run.
    """

    def __init__(self, folder: Path) -> None:
        self.file = folder / FILE

    def append(self, entry: dict[str, Any]) -> None:
        """Add an entry to the file."""
        line = json.dumps(_plain(entry), allow_nan=False)
        with naming(self.file), open(self.file, "a", encoding="utf-8") as file:
            file.write(line + "\n")

    def cut(self, stage: str, step: int) -> None:
        """Drop what was logged after ``step`` steps of a stage, and the stages after it."""

        def kept() -> Iterator[dict[str, Any]]:
            reached = False
            for entry in self.read():
                reached = reached or entry["stage"] == stage
                if not reached or (entry["stage"] == stage and entry["step"] <= step):
                    yield entry

        def write(path: Path) -> None:
            with open(path, "w", encoding="utf-8") as file:
                file.writelines(json.dumps(entry) + "\n" for entry in kept())

        # Written even if all entries stay: the next entry must not be appended to half a line.
        if self.file.exists():
            write_atomically(self.file, write)

    def read(self) -> Iterator[dict[str, Any]]:
        """All entries, one by one, as there may be one for every step; lines that are not entries, such as a last line
        that was cut off, are skipped."""
        if not self.file.exists():
            return
        with open(self.file, encoding="utf-8", errors="replace") as lines:
            for line in lines:
                try:
                    entry = json.loads(line)
                except (ValueError, RecursionError):
                    continue
                if _is_entry(entry):
                    yield entry


def _is_entry(value: Any) -> bool:
    if not isinstance(value, dict) or not isinstance(value.get("stage"), str):
        return False
    # No run has as many steps as would not be exact as floating-point numbers.
    return type(value.get("step")) is int and abs(value["step"]) < 2**53


def _plain(value: Any) -> Any:
    """A value as JSON can express it."""
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None
    return value
