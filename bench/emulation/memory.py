"""Memory of an emulated launch: that of its arguments, and what its programs share."""

import ctypes
from collections.abc import Iterator, Sequence

import numpy as np

WARP = 32
# Smallest piece of memory that a GPU reads or writes.
SECTOR = 32
# Alignment of the widest access, of two numbers of 128 bits.
WIDEST = 32
# In the place of a warp: none has accessed a byte since the last barrier, or several have.
NONE, SEVERAL = -1, -2


class MachineError(RuntimeError):
    """Something that a GPU would not execute, or not with a defined result."""


class Memory:
    """The memory of a launch's arguments.

    Args:
        spans: first address and last plus one of each argument's memory; they may overlap.

    Attributes:
        read, written: which sectors of each span were, [sectors] bool. Spans that overlap are one.
    """

    def __init__(self, spans: Sequence[tuple[int, int]]) -> None:
        self.spans: list[tuple[int, int]] = []
        for start, stop in sorted(span for span in spans if span[1] > span[0]):
            if self.spans and start < self.spans[-1][1]:
                start, before = self.spans.pop()
                stop = max(stop, before)
            self.spans.append((start, stop))
        self.starts, self.stops = (np.array([span[i] for span in self.spans], np.int64) for i in range(2))
        # From an address on at which every type is aligned; what is around a span is never looked at.
        self.origins = [start // WIDEST * WIDEST for start, _ in self.spans]
        sizes = [
            -(-(stop - origin) // WIDEST) * WIDEST for origin, (_, stop) in zip(self.origins, self.spans, strict=True)
        ]
        self.bytes = [
            np.frombuffer((ctypes.c_uint8 * size).from_address(origin), np.uint8)
            for origin, size in zip(self.origins, sizes, strict=True)
        ]
        self.read, self.written = ([np.zeros(size // SECTOR, bool) for size in sizes] for _ in range(2))

    def access(
        self, addresses: np.ndarray, size: int, type_: type, touched: list[np.ndarray]
    ) -> Iterator[tuple[np.ndarray | slice, np.ndarray, np.ndarray]]:
        """The accesses to each span: which they are, its memory as an array of the type, and where in it they begin.

        Args:
            addresses: of accesses of ``size`` bytes each, [n] int64.
            touched: ``read`` or ``written``, in which they are entered.
        """
        if not len(addresses):
            return
        if np.any(addresses % size):
            raise MachineError(f"accesses {size} bytes at an address that is no multiple of {size}")
        low, high = int(addresses.min()), int(addresses.max()) + size
        owner = int(np.searchsorted(self.starts, low, "right")) - 1
        if owner >= 0 and high <= self.spans[owner][1]:
            parts = [(owner, slice(None))]
        else:
            owners = np.searchsorted(self.starts, addresses, "right") - 1
            if owner < 0 or np.any(addresses + size > self.stops[owners]):
                raise MachineError("accesses memory outside of its arguments")
            parts = [(owner, owners == owner) for owner in np.unique(owners)]
        for owner, chosen in parts:
            offsets = addresses[chosen] - self.origins[owner]
            touched[owner][offsets // SECTOR] = True
            yield chosen, self.bytes[owner].view(type_), offsets // type_().itemsize


class Shared:
    """The memory that the threads of each of some programs share, poisoned at first.

    Knows who has accessed what since the last barrier, to tell of accesses of several warps that are not ordered.
    Accesses of threads of the same warp are taken to be in the order of the text.

    Args:
        size: bytes per program.
        threads: per program.
    """

    def __init__(self, programs: int, size: int, threads: int) -> None:
        self.size, self.threads, self.stride = size, threads, -(-size // WIDEST) * WIDEST
        self.bytes = np.full(programs * self.stride, 0xFF, np.uint8)
        # Warps that have read and written each byte.
        self.reader, self.writer = (np.full(len(self.bytes) if threads > WARP else 0, NONE, np.int32) for _ in range(2))

    def order(self) -> None:
        """A barrier: what was accessed before is ordered."""
        self.reader.fill(NONE)
        self.writer.fill(NONE)

    def load(self, threads: np.ndarray, offsets: np.ndarray, type_: type, count: int = 1) -> list[np.ndarray]:
        """The elements, one array for each of ``count``, that begin at offsets in the memory of threads' programs."""
        size = type_().itemsize * count
        places = self._places(threads, offsets, size)
        if self.threads > WARP:
            self._enter(threads, places, size, self.reader, others=[self.writer])
        held, start = self.bytes.view(type_), places // type_().itemsize
        return [held[start + i] for i in range(count)]

    def store(self, threads: np.ndarray, offsets: np.ndarray, values: list[np.ndarray]) -> None:
        type_ = values[0].dtype
        size = type_.itemsize * len(values)
        places = self._places(threads, offsets, size)
        held, start = self.bytes.view(type_), places // type_.itemsize
        changes = np.zeros(len(places), bool)
        for i, value in enumerate(values):
            changes |= held[start + i] != value
            held[start + i] = value
        if any(np.any(held[start + i] != value) for i, value in enumerate(values)):
            raise MachineError("several threads write different values to the same shared memory")
        if self.threads > WARP:
            # Several warps may write the same, or what is there.
            self._enter(threads, places, size, self.writer, [self.writer, self.reader], changes)

    def _places(self, threads: np.ndarray, offsets: np.ndarray, size: int) -> np.ndarray:
        """Where in ``bytes`` accesses begin."""
        if np.any(offsets % size):
            raise MachineError(f"accesses {size} bytes of shared memory at an offset that is no multiple of {size}")
        if np.any((offsets < 0) | (offsets + size > self.size)):
            raise MachineError("accesses shared memory outside of its own")
        return threads // self.threads * self.stride + offsets

    def _enter(self, threads, places, size, mine, others, changes=True) -> None:
        """Enter accesses into ``mine``, unless those in ``others`` by another warp are not in order with them.

        Args:
            changes: whether each makes a difference to earlier ones.
        """
        places = (places[:, None] + np.arange(size)).ravel()
        warps, changes = (np.repeat(np.broadcast_to(v, len(threads)), size) for v in (threads // WARP, changes))
        for before in others:
            if np.any(changes & (before[places] != NONE) & (before[places] != warps)):
                raise MachineError("accesses shared memory that another warp has accessed since the last barrier")
        several = (mine[places] != NONE) & (mine[places] != warps)
        mine[places] = np.where(several, SEVERAL, warps)
        # Of warps that access a byte at once, only one could be entered.
        mine[places[mine[places] != warps]] = SEVERAL


def sectors(threads: np.ndarray, addresses: np.ndarray) -> int:
    """Sectors that warps ask for in one access; each different one counts once in a warp."""
    if not len(addresses):
        return 0
    keys = (threads // WARP << 48) + addresses // SECTOR
    if np.any(keys[1:] < keys[:-1]):
        keys.sort()
    return 1 + int(np.count_nonzero(keys[1:] != keys[:-1]))
