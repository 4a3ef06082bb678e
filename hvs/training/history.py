"""What a run has logged, a line of JSON each time, so that a run that goes on continues it, and a report draws it."""

import json
import math
from pathlib import Path
from typing import Any

from ..runtime import write_atomically

FILE = "history.jsonl"
DIGITS = 6


class History:
    """The entries of a run, oldest first, in its folder's file.

    An entry is a dict with "stage" and "step", how many of its steps were done, and with values by name or dicts of
    such; numbers that are not finite are kept as None.

    Args:
        folder: of the run.
    """

    def __init__(self, folder: Path) -> None:
        self.file = folder / FILE

    def append(self, entry: dict[str, Any]) -> None:
        """Add an entry to the file."""
        line = json.dumps(_plain(entry), allow_nan=False)
        with open(self.file, "a", encoding="utf-8") as file:
            file.write(line + "\n")

    def cut(self, stage: str, step: int) -> None:
        """Drop what was logged after ``step`` steps of a stage, and the stages that came after it."""
        entries = self.read()
        first = next((i for i, entry in enumerate(entries) if entry["stage"] == stage), len(entries))
        own = [entry for entry in entries[first:] if entry["stage"] == stage and entry["step"] <= step]
        # Even where all of them stay: what comes next must not be put behind half a line.
        if self.file.exists():
            lines = "".join(json.dumps(entry) + "\n" for entry in entries[:first] + own)
            write_atomically(self.file, lambda path: path.write_text(lines, encoding="utf-8"))

    def read(self) -> list[dict[str, Any]]:
        """All entries; lines that are none, such as a last one that was cut off, are passed over."""
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
    """As JSON has it."""
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None
    return value
