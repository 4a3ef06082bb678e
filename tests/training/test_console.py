import math

import pytest

from hvs.losses import WEIGHTS
from hvs.training.console import Table, clock


def test_all_losses_together_fit_on_the_console():
    table = Table("synthesis")
    # No training has a classifier's loss and a discriminator's.
    names = [name for name in WEIGHTS if name not in ("vgg", "lpips")] + ["total"]
    for value in (0.0, 1e-9, 0.000999, 0.123456, 9.99999, 12345.678, -0.5, 3.4e38, math.inf, math.nan):
        head, *lines = Table("synthesis").line(819_200, dict.fromkeys(names, value), 12345.6, 1e6).splitlines()
        assert len(head) <= 100 and [len(line) for line in lines] == [len(head)]
        # Columns do not run together.
        assert len(lines[0].split()) == len(names) + 3
        assert len(head.split()) == len(names) + 4
    assert "synthesis step" in table.line(1, {"total": 1.0}, 1.0, 1.0)


def test_the_header_is_repeated_every_twenty_lines():
    table = Table("lifter")
    written = [table.line(step, {"pose": 1.0, "total": 1.0}, 5.0, 60.0) for step in range(45)]
    assert [step for step, line in enumerate(written) if "lifter step" in line] == [0, 20, 40]


def test_a_loss_that_comes_now_and_then_keeps_its_column():
    table = Table("synthesis")
    assert "r1" not in table.line(1, {"total": 1.0}, 5.0, 60.0)
    head, line = table.line(2, {"total": 1.0, "r1": 2.0}, 5.0, 60.0).splitlines()
    assert head.split()[2:4] == ["total", "r1"] and line.split() == ["2", "1.0000", "2.0000", "5.0", "1:00"]
    assert table.line(3, {"total": 1.0}, 5.0, 60.0).split() == ["3", "1.0000", "-", "5.0", "1:00"]


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0:00"),
        (59.6, "1:00"),
        (61, "1:01"),
        (3600, "1:00:00"),
        (360_000, "100:00:00"),
        (-5, "0:00"),
        (math.inf, "-"),
    ],
)
def test_clock(seconds, shown):
    assert clock(seconds) == shown
