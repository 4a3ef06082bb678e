"""Object arrays of .npz files, read by an unpickler that knows only numpy arrays, so that no file can run code."""

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from .stores import DataError, _unpickle

MAX_BYTES = 2**30


def read_object_npz(path: Path) -> dict[str, Any]:
    """The arrays of an .npz file; object arrays come as the Python object that they hold.

    Raises:
        DataError: it is missing, damaged, or asks for anything but arrays.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return {entry.filename.removesuffix(".npy"): _read(archive, entry, path) for entry in archive.infolist()}
    except (OSError, zipfile.BadZipFile, NotImplementedError, EOFError, RuntimeError) as error:
        raise DataError(f"{path}: not a readable .npz file ({error})") from error


def _read(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, path: Path) -> Any:
    where = f"{path}: {entry.filename}"
    if entry.file_size > MAX_BYTES:
        raise DataError(f"{where} unfolds to {entry.file_size} bytes")
    stream = io.BytesIO(archive.read(entry))
    try:
        version = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        _, _, dtype = read(stream)
        if not dtype.hasobject:
            stream.seek(0)
            return np.lib.format.read_array(stream, allow_pickle=False)
    except (ValueError, MemoryError) as error:
        raise DataError(f"{where} is not a readable array ({error})") from error
    content = _unpickle(stream.read(), where, _numpy_globals())
    return content.item() if isinstance(content, np.ndarray) and content.size == 1 else content


def _numpy_globals() -> dict[tuple[str, str], object]:
    reconstruct = lambda *args: np._core.multiarray._reconstruct(np.ndarray, (0,), b"b")  # noqa: E731
    found = {(f"numpy.{core}.multiarray", "_reconstruct"): reconstruct for core in ("core", "_core")}
    return {**found, ("numpy", "ndarray"): np.ndarray, ("numpy", "dtype"): np.dtype}
