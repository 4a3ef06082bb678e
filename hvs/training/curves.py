"""The curves of a run's log, in no more memory than their numbers take: there may be an entry for every step."""

import math
from array import array
from collections.abc import Iterable
from typing import Any

import numpy as np

# Steps and values, [N] each; a value that is no number is NaN.
Curve = tuple[np.ndarray, np.ndarray]
# The names of an entry's values that belong to no dict of values.
ALONE = ""


class Curves:
    """All values of a log by the name of the dict that they are in, "losses" for instance, or by :data:`ALONE`.

    Args:
        entries: of a :class:`History`, in order.

    Attributes:
        last: stage and step of the last entry, if there is any.
    """

    def __init__(self, entries: Iterable[dict[str, Any]]) -> None:
        self.last: tuple[str, int] | None = None
        # Most entries are alike. Those of a stage with the same names make a table: an entry's number, step and values.
        tables: dict[tuple, array] = {}
        for number, entry in enumerate(entries):
            self.last = entry["stage"], entry["step"]
            names, values = [entry["stage"]], [number, entry["step"]]
            for name, value in entry.items():
                if isinstance(value, dict):
                    names.append((name, *value))
                    values += value.values()
                elif name not in ("stage", "step"):
                    names.append(name)
                    values.append(value)
            try:
                row = array("d", values)
            except (TypeError, OverflowError):
                row = array("d", map(_number, values))
            tables.setdefault(tuple(names), array("d")).extend(row)
        # Stage -> dict -> name -> the tables that have it, and in which column.
        self._places: dict[str, dict[str, dict[str, list[tuple[np.ndarray, int]]]]] = {}
        for (stage, *groups), numbers in tables.items():
            named = [(ALONE, group) if isinstance(group, str) else group for group in groups]
            columns = [(group, name) for group, *names in named for name in names]
            table = np.frombuffer(numbers).reshape(-1, 2 + len(columns))
            places = self._places.setdefault(stage, {})
            for column, (group, name) in enumerate(columns, 2):
                places.setdefault(group, {}).setdefault(name, []).append((table, column))

    def stages(self) -> list[str]:
        """All stages, in the order of their first entries."""
        return list(self._places)

    def of(self, stage: str, group: str) -> dict[str, Curve]:
        """A stage's curves by name, in the order in which the names first came up."""
        return {name: _join(places) for name, places in self._places.get(stage, {}).get(group, {}).items()}


def _join(places: list[tuple[np.ndarray, int]]) -> Curve:
    numbers, steps, values = (
        np.concatenate([table[:, column] for table, column in parts])
        for parts in zip(*(((table, 0), (table, 1), (table, column)) for table, column in places), strict=True)
    )
    order = np.argsort(numbers, kind="stable")
    return steps[order], values[order]


def _number(value: Any) -> float:
    try:
        return float(value) if isinstance(value, (int, float)) else math.nan
    except OverflowError:
        return math.nan
