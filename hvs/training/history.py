"""A run's log, one line of JSON per entry: a resumed run continues it, and the report draws its curves from it."""

import json
import math
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
        entries = self.read()
        first = next((i for i, entry in enumerate(entries) if entry["stage"] == stage), len(entries))
        own = [entry for entry in entries[first:] if entry["stage"] == stage and entry["step"] <= step]
        # Written even if all entries stay: the next entry must not be appended to half a line.
        if self.file.exists():
            lines = "".join(json.dumps(entry) + "\n" for entry in entries[:first] + own)
            write_atomically(self.file, lambda path: path.write_text(lines, encoding="utf-8"))

    def read(self) -> list[dict[str, Any]]:
        """All entries; lines that are not entries, such as a last line that was cut off, are skipped."""
        try:
            lines = self.file.read_text(encoding="utf-8", errors="replace").splitlines()
        except FileNotFoundError:
            return []
        entries = []
        for line in lines:
            try:
                entry = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(entry, dict) and isinstance(entry.get("stage"), str) and type(entry.get("step")) is int:
                entries.append(entry)
        return entries


def _plain(value: Any) -> Any:
    """A value as JSON can express it."""
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None
    return value
