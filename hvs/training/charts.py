"""Curves as SVG, for a page that supplies the style of its classes: lines, grid and text."""

import math
from collections.abc import Sequence
from html import escape
from itertools import accumulate, groupby

import numpy as np

from .curves import Curve

Points = Sequence[tuple[float, float]]

# Size of the SVG in its own units, and margins for the numbers on the axes.
WIDTH, HEIGHT = 360, 200
LEFT, RIGHT, TOP, BOTTOM = 52, 8, 8, 22
# A curve is drawn with about this many points at most; if it has more values, each point stands for several.
DRAWN = 400
# The smoothed curve is a running mean over this fraction of the steps.
SMOOTHING = 0.05
# Values that are all above zero and differ by more than this factor are drawn on a logarithmic axis.
LOGARITHMIC = 8
LARGEST = 1e300
# If there are at least MANY values, the fraction EXTREME of them at either end does not widen the axis.
MANY, EXTREME = 50, 0.01


def chart(title: str, curves: dict[str, Curve], smooth: bool = True) -> str:
    """An HTML figure of values over steps; empty if no value is finite.

    Args:
        title: text above it; if there is only one curve, its last value follows.
        curves: steps, ascending, and their values, by name. Values that are not finite or beyond 1e300 leave a gap.
        smooth: draw the values faintly, with a smoothed curve over them.
    """
    # Differences of larger values would not be finite.
    curves = {name: (steps, np.where(np.abs(ys) < LARGEST, ys, math.nan)) for name, (steps, ys) in curves.items()}
    finite = {name: np.isfinite(ys) for name, (_, ys) in curves.items()}
    curves = {name: curve for name, curve in curves.items() if finite[name].any()}
    if not curves:
        return ""
    steps = [xs[finite[name]] for name, (xs, _) in curves.items()]
    values = np.sort(np.concatenate([ys[finite[name]] for name, (_, ys) in curves.items()]))
    across = _Axis(float(min(map(np.min, steps))), float(max(map(np.max, steps))), LEFT, WIDTH - RIGHT)
    trimmed = round(EXTREME * len(values)) if len(values) >= MANY else 0
    low, high = float(values[trimmed]), float(values[-1 - trimmed])
    up = _Axis(low, high, HEIGHT - BOTTOM, TOP, values[0] > 0 and high > LOGARITHMIC * low)
    lines = []
    for number, (name, curve) in enumerate(curves.items()):
        strong, faint = f"line c{number % 6}", f"faint c{number % 6}"
        smoothed = smooth and np.count_nonzero(finite[name]) > 2
        lines.append(_path(_thin(curve), across, up, faint if smoothed else strong))
        if smoothed:
            lines.append(_path(_thin(_smooth(curve), ends_only=True), across, up, strong))
    # The only curve, if there is only one.
    name, (_, last) = next(iter(curves.items()))
    shown = _number(float(last[finite[name]][-1])) if len(curves) == 1 else ""
    legend = "".join(f'<span class="key c{i % 6}">{escape(name)}</span> ' for i, name in enumerate(curves))
    return (
        f"<figure><figcaption><b>{escape(title)}</b> {shown or legend}</figcaption>"
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">'
        f"{_grid(across, up)}{''.join(lines)}</svg></figure>"
    )


class _Axis:
    """Maps values to coordinates; values beyond the ends are drawn at the ends."""

    def __init__(self, low: float, high: float, start: float, stop: float, logarithmic: bool = False) -> None:
        if not high > low:
            # Room around the only value.
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


def _smooth(curve: Curve) -> Curve:
    """An exponential running mean; its first values are means of the values so far."""
    steps, values = curve
    keep = 1 - 1 / max(1.0, SMOOTHING * len(values))
    finite = np.isfinite(values)
    numbers = values[finite]
    totals = np.fromiter(accumulate(numbers.tolist(), lambda total, value: keep * total + value), float, len(numbers))
    # The weights 1 + keep + keep² + ... of the values so far.
    weights = (1 - keep ** np.arange(1, len(numbers) + 1)) / (1 - keep)
    smoothed = np.full(len(values), math.nan)
    smoothed[finite] = totals / weights
    return steps, smoothed


def _thin(curve: Curve, ends_only: bool = False) -> Points:
    """Fewer points: the lowest and the highest of each group of neighbours, or only the last."""
    steps, values = curve
    size = -(-len(values) // DRAWN)
    chosen: list[int] = []
    for start in range(0, len(values), size):
        (numbers,) = np.isfinite(values[start : start + size]).nonzero()
        group = values[start + numbers]
        if not len(group):
            chosen.append(start)
        elif ends_only:
            chosen.append(start + numbers[-1])
        else:
            chosen += sorted({start + numbers[group.argmin()], start + numbers[group.argmax()]})
    return list(zip(steps[chosen].tolist(), values[chosen].tolist(), strict=True))


def _path(points: Points, across: _Axis, up: _Axis, kind: str) -> str:
    """A line with gaps; a single point between two gaps becomes a dot."""
    lines, dots = [], []
    for numbers, piece in groupby(points, key=lambda point: math.isfinite(point[1])):
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
    """A number in at most four digits, with letters for thousands and millions."""
    for letter, size in (("M", 1e6), ("k", 1e3)):
        if abs(value) >= 10 * size or (abs(value) >= size and value % (size / 10) == 0):
            return f"{value / size:.4g}{letter}"
    return f"{value:.4g}"
