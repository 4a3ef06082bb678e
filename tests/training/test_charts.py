import math
import re
from xml.etree import ElementTree

import numpy as np
import pytest

from hvs.training import charts
from hvs.training.charts import BOTTOM, DRAWN, HEIGHT, LEFT, RIGHT, TOP, WIDTH


def chart(title, curves, **options):
    """A chart of curves that are lists of points."""
    arrays = {name: tuple(np.array(points, float).reshape(-1, 2).T) for name, points in curves.items()}
    return charts.chart(title, arrays, **options)


def parse(figure):
    return ElementTree.fromstring(figure)


def lines(figure):
    """The curves: their class, and their points piece by piece."""
    found = []
    for path in parse(figure).iter("path"):
        if path.get("class") != "grid":
            pieces = [piece for piece in path.get("d").split("M") if piece]
            points = [[tuple(map(float, p.split())) for p in re.sub("h0", "", piece).split("L")] for piece in pieces]
            found.append((path.get("class"), points))
    return found


def labels(figure):
    return [text.text for text in parse(figure).iter("text")]


def test_a_curve_goes_from_corner_to_corner():
    ((kind, (points,)),) = lines(chart("loss", {"loss": [(0, 1.0), (50, 1.5), (100, 2.0)]}, smooth=False))
    assert kind == "line c0"
    assert points == [
        (LEFT, HEIGHT - BOTTOM),
        (LEFT + (WIDTH - RIGHT - LEFT) / 2, (HEIGHT - BOTTOM + TOP) / 2),
        (WIDTH - RIGHT, TOP),
    ]


def test_values_are_faint_and_their_mean_is_not():
    noisy = [(step, 2.0 + (-1) ** step) for step in range(200)]
    (faint, (raw,)), (strong, (mean,)) = lines(chart("loss", {"loss": noisy}))
    assert (faint, strong) == ("faint c0", "line c0")
    heights = [y for _, y in mean[50:]]
    assert max(heights) - min(heights) < 0.15 * (HEIGHT - BOTTOM - TOP) and len(raw) == 200


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, -1e308])
def test_what_is_not_finite_leaves_a_gap(bad):
    points = [(0, bad), (1, 1.0), (2, 2.0), (3, bad), (4, 3.0), (5, bad)]
    found = lines(chart("loss", {"loss": points}))
    assert [kind for kind, _ in found] == ["faint c0", "faint c0 dot", "line c0", "line c0 dot"]
    assert [[len(piece) for piece in pieces] for _, pieces in found] == [[2], [1]] * 2
    assert chart("loss", {"loss": [(0, bad), (1, bad)]}) == ""


@pytest.mark.parametrize(
    "points", [[(7, 3.0)], [(7, 0.0)], [(1, 2.0), (2, 2.0)], [(1, -1e-30), (2, 1e30)], [(0, 5e-324), (1, 1e299)]]
)
def test_odd_ranges_are_drawn_inside(points):
    figure = chart("loss", {"loss": points})
    ((_, pieces),) = lines(figure)
    assert all(LEFT <= x <= WIDTH - RIGHT and TOP <= y <= HEIGHT - BOTTOM for piece in pieces for x, y in piece)
    assert "nan" not in figure and "inf" not in figure


def test_nothing_is_drawn_of_nothing():
    assert chart("loss", {}) == "" and chart("loss", {"loss": []}) == ""


def test_wide_ranges_above_zero_are_logarithmic():
    ((_, ((*_, half, _),)),) = lines(chart("loss", {"loss": [(0, 1e-4), (1, 1e-2), (2, 1.0)]}, smooth=False))
    assert half[1] == pytest.approx((HEIGHT - BOTTOM + TOP) / 2, abs=0.1)
    assert {"0.001", "0.01", "0.1"} <= set(labels(chart("loss", {"loss": [(0, 1e-4), (2, 1.0)]})))
    ((_, ((_, half, _),)),) = lines(chart("loss", {"loss": [(0, 0.0), (1, 0.5), (2, 1.0)]}, smooth=False))
    assert half[1] == pytest.approx((HEIGHT - BOTTOM + TOP) / 2, abs=0.1)


def test_one_outlier_does_not_flatten_the_rest():
    points = [(step, 1.0 + step % 5) for step in range(500)]
    points[100] = (100, 1e9)
    raw = lines(chart("loss", {"loss": points}))[0][1][0]
    assert min(y for _, y in raw) == TOP and sum(y < HEIGHT / 2 for _, y in raw) > 100


def test_long_curves_are_thinned_and_keep_their_extremes():
    points = [(step, math.sin(step)) for step in range(20_000)]
    points[7777] = (7777, 0.9999 * math.sin(7777))
    figure = chart("loss", {"loss": points})
    assert len(figure) < 60_000
    (_, (raw,)), (_, (mean,)) = lines(figure)
    assert len(mean) <= DRAWN and len(raw) <= 2 * DRAWN
    assert min(y for _, y in raw) == TOP and max(y for _, y in raw) == HEIGHT - BOTTOM
    assert all(a <= b for (a, _), (b, _) in zip(raw, raw[1:], strict=False))


def test_names_are_shown_and_escaped():
    figure = chart("<b>", {"a & b": [(1, 1.0), (2, 2.0)], "other": [(1, 3.0), (2, 4.0)]}, smooth=False)
    text = "".join(parse(figure).itertext())
    assert "<b>" in text and "a & b" in text and "other" in text
    assert [kind for kind, _ in lines(figure)] == ["line c0", "line c1"]


def test_ticks_are_round_and_steps_whole():
    shown = labels(chart("loss", {"loss": [(0, 0.0), (819_200, 0.9)]}))
    assert {"0.2", "0.4", "0.6", "0.8", "200k", "400k", "600k", "800k"} <= set(shown)
    shown = labels(chart("loss", {"loss": [(1, 0.0), (2, 1.0)]}))
    assert {"1", "2"} <= set(shown) and "1.5" not in shown
