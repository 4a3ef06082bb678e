"""Rows as a table and as plots.

python -m bench.report FILE.json FILE.png    plot what `python -m bench --json FILE.json` has written
"""

import argparse
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .scenes import LIMBS

COLUMNS = {
    "ms": "ms",
    "floor_ms": "floor",
    "ratio_to_floor": "× floor",
    "dense_ms": "dense",
    "compiled_ms": "compiled",
    "eager_ms": "eager",
    "gsplat_ms": "gsplat",
    "speedup_over_dense": "dense ×",
    "peak_mib": "MiB",
    "dense_peak_mib": "dense MiB",
    "error": "error",
}
PARTS = re.compile(r"(\w+)/b(\d+)/(\d+)x(\d+)/n(\d+)/c(\d+)/(\w+)")


def header() -> str:
    return f"{'':44s}" + "".join(f"{title:>11s}" for title in COLUMNS.values())


def lines(rows: list[dict[str, Any]]) -> str:
    """A line per row, under the header."""
    return "\n".join(
        f"{row['name']:44s}" + "".join(f"{_format(row.get(name)):>11s}" for name in COLUMNS) for row in rows
    )


def _format(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.1e}" if 0 < abs(value) < 1e-3 else f"{value:.4g}"


def plot(rows: list[dict[str, Any]], machine: dict[str, str], file: Path) -> None:
    """Plot latency and memory over one size at a time, and how much of the floor's speed is reached."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    rows = [_parse(row) for row in rows]
    axes = {
        "Gaussians in a cloud": lambda row: row["count"],
        "side of the image (pixels)": lambda row: row["height"],
        "channels": lambda row: row["channels"],
        "images": lambda row: row["batch"],
    }
    figure, panels = plt.subplots(3, len(axes), figsize=(4.2 * len(axes), 10), layout="constrained")
    for column, (title, along) in enumerate(axes.items()):
        clouds = [row for row in rows if row["count"] != LIMBS]
        found = _along(clouds if title.startswith("Gaussians") else rows, along)
        if not found:
            continue
        for name, key, style in (
            ("hvs", "ms", "o-"),
            ("floor", "floor_ms", "k:"),
            ("dense", "dense_ms", "s--"),
            ("dense, compiled", "compiled_ms", "^--"),
            ("gsplat", "gsplat_ms", "d-"),
        ):
            _line(panels[0, column], found["both"], along, key, style, name)
        for name, key, style in (("hvs", "peak_mib", "o-"), ("dense", "dense_peak_mib", "s--")):
            _line(panels[1, column], found["both"], along, key, style, name)
        for operation, style in (("forward", "o-"), ("backward", "s-")):
            points = [(along(row), 1 / row["ratio_to_floor"]) for row in found[operation]]
            panels[2, column].plot(*zip(*sorted(points), strict=True), style, label=operation)
        ticks = sorted({along(row) for row in found["both"]})
        for row in range(3):
            panels[row, column].set(xscale="log", yscale="log" if row < 2 else "linear")
            panels[row, column].set_xticks(ticks, [f"{tick:,}" for tick in ticks])
            panels[row, column].minorticks_off()
        panels[2, column].set(ylim=(0, None), xlabel=title)
    for row, label in enumerate(
        ("forward + backward (ms)", "peak beyond the result (MiB)", "part of the floor's speed")
    ):
        panels[row, 0].set_ylabel(label)
        # In the first panel with lines: the series of the first one may not have been measured.
        next(panel for panel in panels[row] if panel.lines).legend(frameon=False)
    figure.suptitle(f"{machine['device']}, torch {machine['torch']}, {machine['date']}, {machine['commit'][:10]}")
    figure.savefig(file, dpi=110)
    plt.close(figure)


def _parse(row: dict[str, Any]) -> dict[str, Any]:
    operation, batch, height, width, count, channels, dtype = PARTS.fullmatch(row["name"]).groups()
    sizes = dict(batch=int(batch), height=int(height), width=int(width), count=int(count), channels=int(channels))
    return row | sizes | dict(operation=operation, dtype=dtype)


def _along(rows: list[dict[str, Any]], along: Callable[[dict], int]) -> dict[str, list[dict[str, Any]]]:
    """For each operation, the longest series of rows that differ in nothing else."""
    sizes = ("batch", "height", "width", "count", "channels")
    series: dict[tuple, list[dict]] = {}
    for row in rows:
        rest = [row[name] for name in sizes if not _varies(along, name)]
        series.setdefault((row["operation"], row["dtype"], *rest), []).append(row)
    found: dict[str, list[dict]] = {}
    for (operation, *_), members in series.items():
        if len(members) > len(found.get(operation, [])):
            found[operation] = members
    return found


def _varies(along: Callable[[dict], int], name: str) -> bool:
    """Whether an axis depends on this size; images are square."""
    probe = dict(batch=1, height=2, width=2, count=3, channels=4)
    return probe[name] == along(probe)


def _line(panel, rows: list[dict], along: Callable[[dict], int], key: str, style: str, label: str) -> None:
    points = sorted((along(row), row[key]) for row in rows if row.get(key))
    if points:
        panel.plot(*zip(*points, strict=True), style, label=label)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, metavar="FILE.json")
    parser.add_argument("plots", type=Path, metavar="FILE.png")
    options = parser.parse_args()
    found = json.loads(options.results.read_text())
    if not found["rows"]:
        raise SystemExit(f"{options.results}: has no rows to plot")
    plot(found["rows"], found["machine"], options.plots)


if __name__ == "__main__":
    main()
