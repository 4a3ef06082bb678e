"""Files that torch wrote, in today's format (a zip) and in the one before version 1.6, read as data.

torch's own reader makes storages and tensors of any size that a file declares. Here nothing is made that the file does
not hold.
"""

import io
import pickle
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .pickled_arrays import array_calls
from .unpickling import Bounded, Budget, Name, Refusal, to_dict, unpickle

MAGIC = torch.serialization.MAGIC_NUMBER
LEGACY_START = pickle.dumps(MAGIC, 2)
LEGACY_PROTOCOL = 1001
MAX_PICKLE_BYTES = 64 * 2**20
MAX_AXES = 16
# Tensors may share a storage, but all of them together may not exceed the storages by more than this factor.
SHARED = 4

STORAGES = {
    "torch.DoubleStorage": torch.float64,
    "torch.FloatStorage": torch.float32,
    "torch.HalfStorage": torch.float16,
    "torch.BFloat16Storage": torch.bfloat16,
    "torch.LongStorage": torch.int64,
    "torch.IntStorage": torch.int32,
    "torch.ShortStorage": torch.int16,
    "torch.CharStorage": torch.int8,
    "torch.ByteStorage": torch.uint8,
    "torch.BoolStorage": torch.bool,
}


def is_torch_file(path: Path) -> bool:
    """Whether a file is in either of torch's formats; safetensors are not."""
    with open(path, "rb") as file:
        start = file.read(len(LEGACY_START))
    # Numbers at the end of a safetensors file could look like the end of a zip.
    if start == LEGACY_START or start[8:9] == b"{":
        return start == LEGACY_START
    try:
        return zipfile.is_zipfile(path)
    except zipfile.BadZipFile:
        return True


def read_torch_file(path: Path, lenient: bool = False) -> Any:
    """What ``torch.save`` wrote: tensors on the CPU in lists, tuples and dicts, and plain values.

    Args:
        path: of a file in either format.
        lenient: whether objects of unknown classes become :data:`~.unpickling.PLACEHOLDER`; otherwise they are refused.

    Raises:
        ValueError: the file is of another kind, is damaged, or asks for more than data; the message is one line, to
            follow the path.
    """
    try:
        with open(path, "rb") as file:
            size = path.stat().st_size
            if file.read(len(LEGACY_START)) == LEGACY_START:
                file.seek(0)
                return _read_legacy(Bounded(file, size), size, lenient)
        with zipfile.ZipFile(path) as archive:
            return _read_zip(archive, size, lenient)
    # A damaged file can fail anywhere, with any error.
    except Exception as error:
        # Without the file that an OSError names too.
        reason = " ".join(str(getattr(error, "strerror", None) or error).split()) or type(error).__name__
        raise ValueError(f"not a readable PyTorch file ({reason:.200})") from error


def read_pickled_tensor(data: bytes) -> Any:
    """The content of a pickle of a tensor that was made without ``torch.save``.

    Raises:
        pickle.UnpicklingError: as :func:`~.unpickling.unpickle`.
    """
    reader, budget = _Reader(0), Budget(len(data))

    def load_storage(data: bytes) -> Tensor:
        # Storages are pickled in the older format. A zip could expand to any size.
        if type(data) is not bytes or not data.startswith(LEGACY_START):
            raise Refusal("its storage is not one that torch pickled")
        budget.take(len(data))
        storage = _read_legacy(Bounded(io.BytesIO(data), len(data)), len(data), lenient=False)
        if type(storage) is not Tensor or storage.ndim != 1:
            raise Refusal("its storage is not one that torch pickled")
        reader.share(storage)
        return storage

    return unpickle(data, reader.calls() | {"torch.storage._load_from_bytes": load_storage})


class _Reader:
    """Makes the storages (flat tensors) and tensors of one file, which holds ``size`` bytes of them."""

    def __init__(self, size: int, fetch: Callable[[str, int], bytearray] | None = None) -> None:
        self.unread, self.shared, self.fetch = Budget(size), Budget(0), fetch
        self.storages: dict[str, Tensor] = {}

    def calls(self) -> dict[str, Callable | None]:
        return {
            "collections.OrderedDict": to_dict(self.shared),
            "torch._utils._rebuild_tensor": self.tensor,
            "torch._utils._rebuild_tensor_v2": self.tensor,
            "torch._utils._rebuild_parameter": lambda tensor, *_: tensor,
            **dict.fromkeys(STORAGES),
        }

    def share(self, storage: Tensor) -> None:
        self.shared.left += SHARED * storage.nbytes

    def storage(self, pid: Any) -> Any:
        """The storage that torch names as ("storage", its class, key, device, number of elements)."""
        # The older format also writes ("module", class, source) for a class.
        if type(pid) is tuple and len(pid) > 1 and pid[0] == "module":
            return pid[1]
        view = pid[5:] if type(pid) is tuple else ()
        if type(pid) is not tuple or len(pid) < 5 or pid[0] != "storage" or any(part is not None for part in view):
            raise Refusal("it names a storage in a way that torch does not")
        kind, key, count = pid[1], pid[2], pid[4]
        if type(kind) is not Name or kind.name not in STORAGES:
            raise Refusal("it has a storage of an unknown type")
        if type(key) is not str or len(key) > 100 or type(count) is not int or count < 0:
            raise Refusal("it names a storage in a way that torch does not")
        dtype = STORAGES[kind.name]
        if key not in self.storages:
            size = count * dtype.itemsize
            self.unread.take(size)
            data = self.fetch(key, size)
            # There is no tensor over an empty buffer.
            self.storages[key] = torch.frombuffer(data, dtype=dtype) if size else torch.empty(0, dtype=dtype)
            self.share(self.storages[key])
        if self.storages[key].dtype != dtype or len(self.storages[key]) != count:
            raise Refusal("it uses a storage with two types or sizes")
        return self.storages[key]

    def tensor(self, storage: Tensor, offset: int, shape: tuple, strides: tuple, *_: Any) -> Tensor:
        if type(storage) is not Tensor or storage.ndim != 1:
            raise Refusal("it has a tensor without a storage")
        if type(shape) is not tuple or type(strides) is not tuple or not len(shape) == len(strides) <= MAX_AXES:
            raise Refusal("it has a tensor of an odd shape")
        if any(type(number) is not int or not 0 <= number < 2**62 for number in (offset, *shape, *strides)):
            raise Refusal("it has a tensor of an odd shape")
        count, last = 1, offset
        for size, stride in zip(shape, strides, strict=True):
            count *= size
            last += (size - 1) * stride
        # With strides of zero, a few bytes could pass for any number of elements.
        if count > len(storage) or (count and last >= len(storage)):
            raise Refusal(f"it has a tensor of shape {list(shape)} in a storage of {len(storage)}")
        self.shared.take(count * storage.element_size())
        return storage.as_strided(shape, strides, offset if count else 0)


def _read_zip(archive: zipfile.ZipFile, size: int, lenient: bool) -> Any:
    entries = {entry.filename: entry for entry in archive.infolist()}
    found = [name for name in entries if name.rpartition("/")[2] == "data.pkl" and name.count("/") <= 1]
    if len(found) != 1:
        raise Refusal("it has no data.pkl")
    folder = found[0].removesuffix("data.pkl")

    def read(name: str, most: int) -> bytes:
        entry = entries.get(name)
        if entry is None:
            raise Refusal(f"it has no {name}")
        # torch never compresses, and compressed entries could expand to any size.
        if entry.compress_type != zipfile.ZIP_STORED or not entry.file_size == entry.compress_size <= min(size, most):
            raise Refusal(f"its {name} is compressed, or not of the size that it declares")
        return archive.read(entry)

    def fetch(key: str, wanted: int) -> bytearray:
        data = bytearray(read(f"{folder}data/{key}", wanted))
        if len(data) != wanted:
            raise Refusal(f"its storage {key} has {len(data)} bytes, {wanted} wanted")
        return data

    if f"{folder}byteorder" in entries and read(f"{folder}byteorder", 16) != sys.byteorder.encode():
        raise Refusal("it was written on a machine of another byte order")
    reader = _Reader(size, fetch)
    calls = reader.calls() | array_calls(Budget(size))
    return unpickle(read(found[0], MAX_PICKLE_BYTES), calls, persistent=reader.storage, lenient=lenient)


def _read_legacy(file: Bounded, size: int, lenient: bool) -> Any:
    if unpickle(file) != MAGIC or unpickle(file) != LEGACY_PROTOCOL:
        raise Refusal("it is of an unknown version")
    system = unpickle(file)
    if type(system) is not dict or system.get("little_endian") is not (sys.byteorder == "little"):
        raise Refusal("it was written on a machine of another byte order")
    buffers: dict[str, bytearray] = {}
    # The contents of the storages come after the objects that refer to them.
    reader = _Reader(size, lambda key, wanted: buffers.setdefault(key, bytearray(wanted)))
    calls = reader.calls() | array_calls(Budget(size))
    content = unpickle(file, calls, persistent=reader.storage, lenient=lenient)
    keys = unpickle(file)
    if type(keys) is not list or len(keys) != len(buffers) or any(type(key) is not str for key in keys):
        raise Refusal("its list of storages is not that of its tensors")
    for key in keys:
        if key not in buffers:
            raise Refusal("its list of storages is not that of its tensors")
        buffer, count = buffers.pop(key), len(reader.storages[key])
        if int.from_bytes(file.read(8), "little") != count:
            raise Refusal("a storage has another size than its tensors say")
        data = file.read(len(buffer))
        if len(data) != len(buffer):
            raise Refusal("it is truncated")
        buffer[:] = data
    return content
