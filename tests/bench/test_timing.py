import time

import pytest
import torch

from bench.timing import Timing, measure, peak_mib


def test_calls_take_turns():
    calls = []
    functions = {name: lambda name=name: calls.append(name) or time.sleep(1e-3) for name in "ab"}
    found = measure(functions, "cpu", seconds=0.03)
    assert set(found) == {"a", "b"} and all(timing.low <= timing.median <= timing.high for timing in found.values())
    turns = [name for i, name in enumerate(calls) if i == 0 or calls[i - 1] != name]
    assert "".join(turns) == "ababab"


def test_median_and_quartiles():
    assert Timing.of([5.0, 1.0, 2.0, 4.0, 3.0]) == Timing(3.0, 2.0, 4.0)


def test_the_peak_counts_what_lives_at_a_time():
    def call():
        for _ in range(4):
            torch.empty(1024, 1024).fill_(1)
        return torch.empty(2, 1024, 1024)

    assert peak_mib(call, "cpu") == pytest.approx(8, rel=0.01)
