"""LMDB databases of one prepared sequence: `frame number -> bytes`, and the tensors pickled in them.

People already have these files on disk, so keys and labels are pickles. Keys are only written, and compared as bytes;
values are read by an unpickler that knows nothing but tensors, see ``unpickling.py``.
"""

import os
import pickle
import shutil
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable
from functools import cached_property, lru_cache
from pathlib import Path

import lmdb
import torch
from torch import Tensor

from .torch_files import read_pickled_tensor
from .unpickling import unpickle

# A real sequence has about a hundred databases and there are dozens of sequences: all open at once would exceed the
# usual limit of 1024 open files.
MAX_OPEN = 256
# A label that was pickled as a slice carries its whole storage along, so the limit is far above one pose's 3 kB.
MAX_LABEL_BYTES = 64 * 2**20
BATCH_BYTES = 16 * 2**20
# Most databases of a sequence have the same frames, so this many of their lists are kept.
KEPT_LISTS = 8


class DataError(ValueError):
    """A fault in data files: one line that names the file and, if there is one, the frame."""

    def __init__(self, message: str):
        # A DataLoader raises a worker's error again with the worker's traceback in the message; the last line is ours.
        lines = str(message).strip().splitlines() or [""]
        super().__init__(lines[-1].removeprefix(f"{__name__}.{type(self).__name__}: "))

    # KeyError, a base class of MissingFrameError, would show the message in quotes.
    __str__ = ValueError.__str__


class MissingFrameError(DataError, KeyError):
    """The database has no value for this frame."""


class _Environments:
    """This process's open LMDB environments, least recently used first: LMDB lets each file be open only once."""

    def __init__(self):
        self.opened: OrderedDict[str, lmdb.Environment] = OrderedDict()
        self.lock = threading.Lock()

    def get(self, path: str, key: bytes) -> bytes | None:
        with self.lock:
            try:
                if path not in self.opened:
                    self.opened[path] = self._open(path)
                self.opened.move_to_end(path)
                while len(self.opened) > MAX_OPEN:
                    self.opened.popitem(last=False)[1].close()
                with self.opened[path].begin() as transaction:
                    return transaction.get(key)
            except (lmdb.Error, OSError) as error:
                reason = str(error).removeprefix(f"{path}: ")
                raise DataError(f"{path}: not a readable LMDB database ({reason})") from error

    def close(self, path: str) -> None:
        with self.lock:
            if path in self.opened:
                self.opened.pop(path).close()

    def after_fork(self) -> None:
        # The parent's environments must not be used here, and their files count as open until they are closed.
        self._close_all()
        self.lock = threading.Lock()

    def _open(self, path: str) -> lmdb.Environment:
        try:
            return _open(path)
        except lmdb.Error:
            # Perhaps the file is open under another path: moved since, or a hard link.
            self._close_all()
            return _open(path)

    def _close_all(self) -> None:
        for environment in self.opened.values():
            environment.close()
        self.opened.clear()


def _open(path: str) -> lmdb.Environment:
    file = os.path.join(path, "data.mdb")
    if not os.path.isfile(file):
        raise DataError(f"{path}: no LMDB database here (no data.mdb)")
    if os.path.getsize(file) == 0:
        raise DataError(f"{path}: the LMDB database is empty (data.mdb has 0 bytes)")
    environment = lmdb.open(path, readonly=True, lock=False, readahead=False, create=False)
    needed = (environment.info()["last_pgno"] + 1) * environment.stat()["psize"]
    size = os.path.getsize(file)
    if size < needed:
        environment.close()
        # Reading the missing pages of a memory map would kill the process.
        raise DataError(f"{path}: the LMDB database is truncated (data.mdb has {size} bytes, {needed} wanted)")
    return environment


_environments = _Environments()
os.register_at_fork(after_in_child=_environments.after_fork)


class Store:
    """One read-only database. It is opened on first use, once per process; cheap to make, to pickle and to fork.

    Args:
        path: the LMDB folder.

    Raises:
        DataError: on first use, if the database is missing, empty, truncated or not of this kind.
    """

    def __init__(self, path: str | Path):
        self.path = os.path.realpath(path)

    def __repr__(self) -> str:
        return f"Store({self.path!r})"

    @cached_property
    def protocol(self) -> int:
        """The pickle protocol of the keys, which must be the writer's, as look-ups compare bytes."""
        protocol = self._unpickled(b"protocol", "protocol")
        if type(protocol) is not int or not 0 <= protocol <= pickle.HIGHEST_PROTOCOL:
            shown = repr(protocol) if type(protocol) is int else f"a {type(protocol).__name__}"
            raise DataError(f"{self.path}: entry 'protocol' is {shown:.40}, wanted a pickle protocol number")
        return protocol

    @property
    def frames(self) -> list[int]:
        """All frame numbers, ascending. Read again at each call, so that a store stays small."""
        return list(self._unpickled(pickle.dumps("keys", self.protocol), "keys", _read_frames))

    def __getitem__(self, frame: int) -> bytes:
        value = self._get(pickle.dumps(int(frame), self.protocol))
        if value is None:
            raise MissingFrameError(f"{self.path}: no frame {frame}")
        return value

    def __contains__(self, frame: int) -> bool:
        return self._get(pickle.dumps(int(frame), self.protocol)) is not None

    def _get(self, key: bytes) -> bytes | None:
        return _environments.get(self.path, key)

    def _unpickled(self, key: bytes, name: str, reader: Callable = unpickle):
        value = self._get(key)
        if value is None:
            raise DataError(f"{self.path}: no entry {name!r}, not a database of frames")
        return _read(reader, value, f"{self.path}: entry {name!r}")


@lru_cache(KEPT_LISTS)
def _read_frames(data: bytes) -> tuple[int, ...]:
    frames = unpickle(data)
    # Integers of any size could be made to collide in a set.
    if type(frames) is not list or any(type(frame) is not int or abs(frame) >= 2**63 for frame in frames):
        raise pickle.UnpicklingError("it is not a list of frame numbers")
    return tuple(sorted(set(frames)))


def write_store(path: str | Path, items: Iterable[tuple[int, bytes]], protocol: int = 4) -> None:
    """Write a database as a whole or not at all; an existing one is replaced.

    Args:
        path: the LMDB folder to make; its parents are made too.
        items: (frame number, bytes), in any order, each frame once.
        protocol: pickle protocol of the keys.

    Raises:
        DataError: LMDB cannot write it, for instance on a full disk.
    """
    path = Path(os.path.realpath(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh, old = (path.with_name(f".{path.name}.{os.getpid()}.{kind}") for kind in ("new", "old"))
    try:
        _fill(fresh, items, protocol)
        _environments.close(str(path))
        if path.exists():
            path.rename(old)
        fresh.rename(path)
    except lmdb.Error as error:
        raise DataError(f"{path}: cannot be written ({error})") from error
    finally:
        for leftover in (fresh, old):
            shutil.rmtree(leftover, ignore_errors=True)


def _fill(path: Path, items: Iterable[tuple[int, bytes]], protocol: int) -> None:
    frames: set[int] = set()
    batch: list[tuple[bytes, bytes]] = [(b"protocol", pickle.dumps(protocol, protocol))]
    batch_bytes = 0
    with lmdb.open(str(path), map_size=2**20, lock=False, sync=False) as environment:
        for frame, value in items:
            if frame in frames:
                raise ValueError(f"items: frame {frame} came twice, wanted each frame once")
            frames.add(int(frame))
            batch.append((pickle.dumps(int(frame), protocol), value))
            batch_bytes += len(value)
            if batch_bytes > BATCH_BYTES:
                _put(environment, batch)
                batch, batch_bytes = [], 0
        batch.append((pickle.dumps("keys", protocol), pickle.dumps(sorted(frames), protocol)))
        _put(environment, batch)
        environment.sync(True)


def _put(environment: lmdb.Environment, batch: list[tuple[bytes, bytes]]) -> None:
    while True:
        try:
            with environment.begin(write=True) as transaction:
                for key, value in batch:
                    transaction.put(key, value)
            return
        except lmdb.MapFullError:
            environment.set_mapsize(2 * environment.info()["map_size"])


def pack_label(tensor: Tensor) -> bytes:
    """The bytes of a label for a tensor of any shape; the same values always give the same bytes."""
    # A slice would be pickled with its whole storage.
    tensor = tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
    function, arguments = tensor.__reduce_ex__(4)
    load_storage, (data,) = arguments[0].__reduce__()
    # torch names the storage in the pickle by its address; any name will do if it is the same in both places.
    key = str(arguments[0]._cdata).encode()
    data = data.replace(_unicode(key), _unicode(b"0"))
    return pickle.dumps(_Reduced(function, (_Reduced(load_storage, (data,)), *arguments[1:])), protocol=4)


class _Reduced:
    """Pickles as a call."""

    def __init__(self, function: Callable, arguments: tuple) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple:
        return self.call


def _unicode(text: bytes) -> bytes:
    """A string as pickle's protocol 2 writes it."""
    return b"X" + len(text).to_bytes(4, "little") + text


def read_label(data: bytes, where: str) -> Tensor:
    """The float32 tensor that `pack_label` or torch's own pickling wrote. Nothing in it is ever called or imported.

    Args:
        data: the pickle.
        where: names file and frame in errors.

    Raises:
        DataError: not a pickle, not a tensor, or a pickle that asks for anything but tensors.
    """
    if len(data) > MAX_LABEL_BYTES:
        raise DataError(f"{where}: label of {len(data)} bytes, wanted at most {MAX_LABEL_BYTES}")
    tensor = _read(read_pickled_tensor, data, where)
    if not isinstance(tensor, Tensor):
        raise DataError(f"{where}: label is a {type(tensor).__name__}, wanted a tensor")
    if not tensor.is_floating_point():
        raise DataError(f"{where}: label has dtype {tensor.dtype}, wanted a floating point tensor")
    return tensor.detach().to(torch.float32, copy=True)


def _read(reader: Callable, data: bytes, where: str):
    try:
        return reader(data)
    except pickle.UnpicklingError as error:
        raise DataError(f"{where}: unreadable pickle ({error})") from error
