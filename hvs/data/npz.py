"""Arrays in nested dicts as ``numpy.savez`` writes them, in object arrays; their pickles are read as data.

Human3.6M's published 2D poses are such a file: ``positions_2d[subject][action]`` is a list of four arrays [F, 17, 2].
"""

import io
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from .pickled_arrays import array_calls, check_dtype, shaped
from .stores import DataError
from .unpickling import Bounded, Budget, Refusal, leaves, unpickle

# What compressed entries may expand to: poses do not compress much, but a small file may hold nothing but zeros.
MOST_UNFOLDED, MOST_RATIO = 64 * 2**20, 20
MAX_HEADER = 1000
PLAIN = (str, int, float, bool, type(None), np.ndarray)


def read_object_npz(path: str | Path) -> dict[str, Any]:
    """The entries of an .npz file by name.

    Returns:
        For a numeric entry its array; for an object entry the dict, list, tuple, str, int, float, bool or None that it
        is, which may contain numeric arrays. Arrays are read-only.

    Raises:
        DataError: the file is missing, damaged, expands to far more than its size, or holds anything else; nothing in
            it is ever called or imported.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    name = "file"
    try:
        with zipfile.ZipFile(path) as archive:
            budget = Budget(max(MOST_UNFOLDED, MOST_RATIO * path.stat().st_size))
            found = {}
            for entry in archive.infolist():
                name, key = f"entry {entry.filename[:80]!r}", entry.filename.removesuffix(".npy")
                if key in found:
                    raise Refusal("it is there twice")
                budget.take(max(entry.file_size, entry.compress_size))
                with archive.open(entry) as file:
                    found[key] = _read_npy(Bounded(file, entry.file_size))
            if not found:
                raise Refusal("it is empty")
            return found
    # A damaged file can fail anywhere, with any error.
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{path}: {name} is not readable as arrays ({reason:.160})") from error


def _read_npy(file: Bounded) -> Any:
    magic = file.read(8)
    if magic[:6] != b"\x93NUMPY" or magic[6:] not in (b"\1\0", b"\2\0", b"\3\0"):
        raise Refusal("not a .npy file")
    length = file.read(2 if magic[6] == 1 else 4)
    header = file.read(min(int.from_bytes(length, "little"), MAX_HEADER + 1))
    if len(header) > MAX_HEADER:
        raise Refusal(f"its header is longer than {MAX_HEADER} bytes")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(
            io.BytesIO(len(header).to_bytes(2, "little") + header), max_header_size=MAX_HEADER
        )
    if dtype.kind != "O":
        check_dtype(dtype)
        return shaped(file.read(file.left), shape, dtype, fortran)
    value = unpickle(file, array_calls(Budget(file.left)))
    for leaf in leaves(value):
        if type(leaf) not in PLAIN:
            raise Refusal(f"it holds a {type(leaf).__name__}")
    return value
