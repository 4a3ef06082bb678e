"""Numpy arrays and numbers in pickles, read as data: the functions that a pickle may name to make them."""

import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np

from .unpickling import Budget, Name, Refusal, Unbuilt, to_bytes

MAX_AXES = 16
# The modules of numpy's functions before and since version 2.
MODULES = ("numpy.core", "numpy._core")


def array_calls(budget: Budget) -> dict[str, Callable | None]:
    """The calls of :func:`~.unpickling.unpickle` for numeric arrays, arrays of objects, and single numbers."""
    encode = to_bytes(budget)

    def reconstruct(kind: Any, *_: Any) -> Unbuilt:
        if type(kind) is not Name or kind.name != "numpy.ndarray":
            raise Refusal("it has an array of an unknown class")
        return Unbuilt(lambda state: _filled(state, encode))

    calls = {"numpy.ndarray": None, "numpy.dtype": _dtype, "_codecs.encode": encode}
    for module in MODULES:
        calls |= {f"{module}.multiarray._reconstruct": reconstruct, f"{module}.multiarray.scalar": _scalar}
    return calls


def check_dtype(dtype: Any) -> None:
    """Refuse a dtype that is not of plain numbers."""
    if not isinstance(dtype, np.dtype) or dtype.kind not in "biuf" or dtype.itemsize > 8:
        raise Refusal("it has an array that is not of numbers")


def shaped(data: bytes, shape: tuple, dtype: np.dtype, fortran: bool) -> np.ndarray:
    """An array over bytes, without a copy, as many arrays may name the same bytes."""
    if type(data) is not bytes or type(shape) is not tuple or len(shape) > MAX_AXES:
        raise Refusal("it has an array of an odd shape")
    if any(type(size) is not int or not 0 <= size < 2**62 for size in shape):
        raise Refusal("it has an array of an odd shape")
    wanted = math.prod(shape) * dtype.itemsize
    if wanted != len(data):
        raise Refusal(f"it has an array of shape {list(shape)} with {len(data)} bytes, {wanted} wanted")
    return np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C")


def _dtype(code: str, *_: Any) -> Unbuilt:
    if type(code) is not str or not re.fullmatch("[biuf][1248]|O8?", code):
        raise Refusal("it has an array that is not of numbers")
    dtype = np.dtype(code.removesuffix("8") if code[0] == "O" else code)

    def build(state: tuple) -> np.dtype:
        # (version, byte order, ...); the rest is for arrays of records.
        if type(state) is not tuple or len(state) < 2 or state[1] not in ("<", ">", "|", "="):
            raise Refusal("it has an array with an unknown byte order")
        return dtype.newbyteorder(state[1])

    return Unbuilt(build)


def _filled(state: Any, encode: Callable[[str, str], bytes]) -> Any:
    if type(state) is not tuple or len(state) != 5:
        raise Refusal("it has an array that is not filled the way numpy does it")
    # The first element is the version of the format.
    _, shape, dtype, fortran, data = state
    if isinstance(dtype, np.dtype) and dtype.kind == "O":
        if type(data) is not list or shape not in ((), (len(data),)) or (shape == () and len(data) != 1):
            raise Refusal("it has an array of objects of an odd shape")
        return data[0] if shape == () else data
    check_dtype(dtype)
    # Python 2 wrote bytes where Python 3 has text.
    return shaped(encode(data, "latin1") if type(data) is str else data, shape, dtype, fortran)


def _scalar(dtype: Any, data: Any) -> int | float | bool:
    check_dtype(dtype)
    return shaped(data, (), dtype, False).item()
