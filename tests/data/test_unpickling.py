"""The machine's bounds, each by itself."""

import pickle
from collections import OrderedDict

import pytest

from hvs.data import unpickling
from hvs.data.unpickling import PLACEHOLDER, Bounded, Budget, Refusal, leaves, to_bytes, to_dict, unpickle

SINGLE = [None, True, -1, 2**40, 1.5, "text", "ä" * 300, b"bytes" * 100]
VALUES = [*SINGLE, (), (1,), (1, 2, 3, 4), [1, [2]], {"a": {1: None}, (1, "b"): []}]


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_values_come_through(protocol):
    data = pickle.dumps(VALUES, protocol)
    assert unpickle(data, {"_codecs.encode": to_bytes(Budget(10**4))}) == VALUES


def test_several_pickles_in_one_file(tmp_path):
    (tmp_path / "a").write_bytes(pickle.dumps([1]) + pickle.dumps("two") + b"rest")
    with open(tmp_path / "a", "rb") as file:
        bounded = Bounded(file, 100)
        assert (unpickle(bounded), unpickle(bounded), bounded.read(100)) == ([1], "two", b"rest")


def test_only_what_is_given_is_called():
    data = pickle.dumps(OrderedDict(a=1), 2)
    assert unpickle(data, {"collections.OrderedDict": to_dict(Budget(10**3))}) == {"a": 1}
    with pytest.raises(Refusal, match="it asks for collections.OrderedDict, which is not allowed"):
        unpickle(data)
    assert unpickle(data, lenient=True) is PLACEHOLDER
    with pytest.raises(Refusal, match="it calls a Name"):
        unpickle(data, {"collections.OrderedDict": None})


def test_operations_are_counted(monkeypatch):
    monkeypatch.setattr(unpickling, "MAX_OPERATIONS", 10)
    assert unpickle(pickle.dumps([1], 2)) == [1]
    with pytest.raises(Refusal, match="more than 10 operations"):
        unpickle(pickle.dumps(list(range(10)), 2))


def test_budgets_are_kept():
    with pytest.raises(Refusal, match="more data than it holds"):
        unpickle(pickle.dumps(b"\xff" * 100, 2), {"_codecs.encode": to_bytes(Budget(99))})
    with pytest.raises(Refusal, match="more data than it holds"):
        to_dict(Budget(100))([("a", 1), ("b", 2)])


def test_leaves_are_those_of_the_tree(monkeypatch):
    assert list(leaves({"a": [1, (2,)], "b": {}})) == ["a", 1, 2, "b"]
    doubled: list = []
    for _ in range(30):
        doubled = [doubled, doubled]
    with pytest.raises(Refusal, match="more than 1000000 values"):
        list(leaves(doubled))
    deep: list = []
    for _ in range(33):
        deep = [deep]
    with pytest.raises(Refusal, match="more than 32 deep"):
        list(leaves(deep))


@pytest.mark.parametrize("data", [b"", b"\x80\x04", b"text", pickle.dumps({1, 2}), pickle.dumps(2**3000)], ids=str)
def test_errors_are_one_line(data):
    with pytest.raises(Refusal) as error:
        unpickle(data)
    assert str(error.value) and "\n" not in str(error.value)
