import math

import numpy as np

from hvs.training.curves import ALONE, Curves


def entry(step, stage="synthesis", **values):
    return {"stage": stage, "step": step, **values}


def curves(*entries):
    """Every curve, as a list of points."""
    found = Curves(entries)
    return {
        (stage, group, name): list(zip(steps.tolist(), values.tolist(), strict=True))
        for stage in found.stages()
        for group in ("losses", "rates", ALONE)
        for name, (steps, values) in found.of(stage, group).items()
    }


def test_of_no_entries_there_are_none():
    found = Curves([])
    assert found.last is None and found.stages() == [] and found.of("synthesis", "losses") == {}


def test_values_are_told_apart_by_stage_and_dict():
    found = curves(
        entry(1, "lifter", losses={"pose": 1.5}, rates={"pose": 0.1}, pose=7),
        entry(1, losses={"pose": 2.5}),
        entry(2, losses={"pose": 3.5}),
    )
    assert found == {
        ("lifter", "losses", "pose"): [(1, 1.5)],
        ("lifter", "rates", "pose"): [(1, 0.1)],
        ("lifter", ALONE, "pose"): [(1, 7)],
        ("synthesis", "losses", "pose"): [(1, 2.5), (2, 3.5)],
    }


def test_entries_that_differ_in_their_names_stay_in_order():
    """A loss that only some steps have, and scores in entries of their own."""
    several = [entry(step, losses={"pixel": step} | ({"r1": -step} if step % 3 == 0 else {})) for step in range(1, 8)]
    several.insert(4, entry(4, rates={"decoder": 0.5}))
    found = curves(*several)
    assert list(found) == [("synthesis", "losses", name) for name in ("pixel", "r1")] + [
        ("synthesis", "rates", "decoder")
    ]
    assert found["synthesis", "losses", "pixel"] == [(step, step) for step in range(1, 8)]
    assert found["synthesis", "losses", "r1"] == [(3, -3), (6, -6)]


def test_what_is_no_number_is_nan():
    values = [None, "text", [1], {"a": 1}, 10**400, math.inf, 1, True]
    (found,) = curves(*(entry(step, losses={"pixel": value}) for step, value in enumerate(values))).values()
    assert [step for step, _ in found] == list(range(8))
    np.testing.assert_array_equal([value for _, value in found], [math.nan] * 5 + [math.inf, 1, 1])


def test_the_last_entry_is_told():
    assert Curves([entry(7), entry(3, "lifter")]).last == ("lifter", 3)
