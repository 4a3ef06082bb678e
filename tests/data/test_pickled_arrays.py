"""Calls that make arrays, by themselves; files of them: test_npz.py."""

import pickle

import numpy as np
import pytest

from hvs.data.pickled_arrays import array_calls, shaped
from hvs.data.unpickling import Budget, Refusal, unpickle


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_an_array_is_not_copied(protocol):
    array = np.arange(6, dtype=np.int16).reshape(2, 3)
    found = unpickle(pickle.dumps([array, array], protocol), array_calls(Budget(100)))
    assert np.array_equal(found[0], array) and found[0] is found[1] and not found[0].flags.writeable


@pytest.mark.parametrize("array", [np.array("a"), np.array(1j), np.array(b"a"), np.zeros(1, [("a", "f4")])], ids=str)
def test_what_is_not_of_numbers_is_refused(array):
    with pytest.raises(Refusal, match="not of numbers"):
        unpickle(pickle.dumps(array, 3), array_calls(Budget(100)))


def test_shapes_must_be_those_of_the_bytes():
    assert shaped(bytes(24), (2, 3), np.dtype("f4"), fortran=False).shape == (2, 3)
    with pytest.raises(Refusal, match=r"shape \[2, 4\] with 24 bytes, 32 wanted"):
        shaped(bytes(24), (2, 4), np.dtype("f4"), fortran=False)
