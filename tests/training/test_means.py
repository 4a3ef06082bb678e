import math

import torch

from hvs.training.means import Means


def test_means_are_over_what_was_added_since():
    means = Means()
    assert means.take() == {}
    for value in (1.0, 2.0, 6.0):
        means.add({"a": torch.tensor(value), "b": torch.tensor(-value).bfloat16()})
    assert means.take() == {"a": 3.0, "b": -3.0}
    means.add({"a": torch.tensor(5.0, requires_grad=True)})
    assert means.take() == {"a": 5.0} and means.take() == {}


def test_sums_have_more_digits_than_what_is_added():
    means = Means()
    for step in range(400):
        means.add({"a": torch.tensor(1.0 + 2.0 * (step % 2)).bfloat16()})
    assert means.take() == {"a": 2.0}


def test_means_of_what_comes_now_and_then():
    means = Means()
    for step in range(4):
        means.add({"a": torch.tensor(1.0 * step)} | ({"r1": torch.tensor(8.0)} if step % 2 else {}))
    assert means.take() == {"a": 1.5, "r1": 8.0}


def test_what_is_not_finite_is_no_part_of_a_mean():
    means = Means()
    for value in (1.0, math.nan, math.inf, -math.inf, 3.0):
        means.add({"a": torch.tensor(value), "b": torch.tensor(math.nan), "c": torch.tensor(1.0)})
    found = means.take()
    assert found["a"] == 2.0 and math.isnan(found["b"]) and found["c"] == 1.0


def test_adding_does_not_read_the_device():
    """Tensors without data have none that could be read."""
    means = Means()
    for _ in range(2):
        means.add({"a": torch.ones((), device="meta"), "b": torch.ones((), device="meta", dtype=torch.bfloat16)})
