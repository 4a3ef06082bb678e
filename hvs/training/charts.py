"""Curves as SVG, to be put into a page that brings the style: classes for lines, grid and text."""

import math
from collections.abc import Sequence
from html import escape
from itertools import groupby

Points = Sequence[tuple[int, float | None]]

# In units of the SVG: its size, and the margins for the axes' numbers.
WIDTH, HEIGHT = 360, 200
LEFT, RIGHT, TOP, BOTTOM = 52, 8, 8, 22
# A curve is drawn with at most about so many points, each for several values if there are more.
DRAWN = 400
# The smoothed curve is a running mean over such a part of the steps.
SMOOTHING = 0.05
# Values, all above zero, that differ by such a factor are drawn along a logarithm.
LOGARITHMIC = 8
LARGEST = 1e300
# With so many values, the few most extreme do not widen the axis.
MANY, EXTREME = 50, 0.01


def chart(title: str, curves: dict[str, Points], smooth: bool = True) -> str:
    """A figure of values over steps; empty where there is nothing finite.

    Args:
        title: text over it, with the last value beside it where there is one curve.
        curves: (step, value) in order, by name. Values that are None, not finite or beyond 1e300 leave a gap.
        smooth: draw the values faintly, and a smoothed curve over them.
    """
    finite = {name: [(x, y) for x, y in points if _is_number(y)] for name, points in curves.items()}
    finite = {name: points for name, points in finite.items() if points}
    if not finite:
        return ""
    steps = [x for points in finite.values() for x, _ in points]
    values = sorted(y for points in finite.values() for _, y in points)
    across = _Axis(min(steps), max(steps), LEFT, WIDTH - RIGHT)
    trimmed = round(EXTREME * len(values)) if len(values) >= MANY else 0
    low, high = values[trimmed], values[-1 - trimmed]
    up = _Axis(low, high, HEIGHT - BOTTOM, TOP, values[0] > 0 and high > LOGARITHMIC * low)
    lines = []
    for number, name in enumerate(finite):
        strong, faint = f"line c{number % 6}", f"faint c{number % 6}"
        smoothed = _smooth(curves[name])
        lines.append(_path(_thin(curves[name]), across, up, faint if smooth and len(finite[name]) > 2 else strong))
        if smooth and len(finite[name]) > 2:
            lines.append(_path(_thin(smoothed, ends_only=True), across, up, strong))
    shown = _number(finite[next(iter(finite))][-1][1]) if len(finite) == 1 else ""
    legend = "".join(f'<span class="key c{i % 6}">{escape(name)}</span> ' for i, name in enumerate(finite))
    return (
        f"<figure><figcaption><b>{escape(title)}</b> {shown or legend}</figcaption>"
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">'
        f"{_grid(across, up)}{''.join(lines)}</svg></figure>"
    )


class _Axis:
    """From values to places; what lies beyond the ends is drawn at them."""

    def __init__(self, low: float, high: float, start: float, stop: float, logarithmic: bool = False) -> None:
        if not high > low:
            # Room around the one value; a step has whole neighbours.
            room = max(abs(low) * 0.1, 1e-6)
            low, high = low - room, high + room
        self.low, self.high, self.start, self.stop, self.logarithmic = low, high, start, stop, logarithmic

    def place(self, value: float) -> float:
        value = min(max(value, self.low), self.high)
        low, high = self.low, self.high
        if self.logarithmic:
            low, high, value = math.log(low), math.log(high), math.log(value)
        return self.start + (self.stop - self.start) * (value - low) / (high - low)

    def ticks(self) -> list[float]:
        if self.logarithmic:
            decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            every = max(1, len(decades) // 5)
            factors = (1,) if len(decades) > 4 else (1, 3) if len(decades) > 2 else (1, 2, 5)
            found = [factor * 10.0**decade for decade in decades[::every] for factor in factors]
        else:
            rough = (self.high - self.low) / 5
            unit = 10.0 ** math.floor(math.log10(rough))
            unit *= next(factor for factor in (1, 2, 5, 10) if factor * unit >= rough)
            first = math.ceil(self.low / unit)
            found = [unit * (first + i) for i in range(8)]
        return [tick for tick in found if self.low <= tick <= self.high]


def _is_number(value: object) -> bool:
    # Differences of larger ones would not be finite.
    return isinstance(value, (int, float)) and abs(value) < LARGEST


def _smooth(points: Points) -> list[tuple[int, float | None]]:
    """A running mean that forgets exponentially; its first values are means of those there were."""
    keep = 1 - 1 / max(1.0, SMOOTHING * len(points))
    total = weight = 0.0
    found = []
    for step, value in points:
        if _is_number(value):
            total, weight = keep * total + value, keep * weight + 1
        found.append((step, total / weight if _is_number(value) else None))
    return found


def _thin(points: Points, ends_only: bool = False) -> list[tuple[int, float | None]]:
    """Fewer points: of each group of neighbours the lowest and the highest, or the last one."""
    size = -(-len(points) // DRAWN)
    if size == 1:
        return list(points)
    found: list[tuple[int, float | None]] = []
    for start in range(0, len(points), size):
        group = points[start : start + size]
        numbers = [point for point in group if _is_number(point[1])]
        if not numbers:
            found.append((group[0][0], None))
        elif ends_only:
            found.append(numbers[-1])
        else:
            extremes = {min(numbers, key=lambda point: point[1]), max(numbers, key=lambda point: point[1])}
            found += sorted(extremes)
    return found


def _path(points: Points, across: _Axis, up: _Axis, kind: str) -> str:
    """A line with gaps; a point between two of them is a dot."""
    lines, dots = [], []
    for numbers, piece in groupby(points, key=lambda point: _is_number(point[1])):
        places = [f"{across.place(step):.1f} {up.place(value):.1f}" for step, value in piece] if numbers else []
        if len(places) == 1:
            dots.append(f"M{places[0]}h0")
        elif places:
            lines.append("M" + "L".join(places))
    drawn = ((kind, lines), (f"{kind} dot", dots))
    return "".join(f'<path class="{name}" d="{"".join(parts)}"/>' for name, parts in drawn if parts)


def _grid(across: _Axis, up: _Axis) -> str:
    parts = []
    for tick in up.ticks():
        y = up.place(tick)
        parts.append(f'<path class="grid" d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"/>')
        parts.append(f'<text x="{LEFT - 5}" y="{y + 3.5:.1f}" text-anchor="end">{_number(tick)}</text>')
    for tick in across.ticks():
        if tick == round(tick):
            x = across.place(tick)
            anchor = "end" if x > WIDTH - RIGHT - 15 else "middle"
            parts.append(f'<text x="{x:.1f}" y="{HEIGHT - 6}" text-anchor="{anchor}">{_number(tick)}</text>')
    return "".join(parts)


def _number(value: float) -> str:
    """At most four digits, thousands and millions by letter."""
    for letter, size in (("M", 1e6), ("k", 1e3)):
        if abs(value) >= 10 * size or (abs(value) >= size and value % (size / 10) == 0):
            return f"{value / size:.4g}{letter}"
    return f"{value:.4g}"
