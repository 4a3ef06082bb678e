"""Memory of an emulated launch: that of its arguments, and what its programs share."""

import ctypes
from collections.abc import Iterator, Sequence

import numpy as np

WARP = 32
# Smallest piece of memory that a GPU reads or writes.
SECTOR = 32
# Alignment of the widest access, of two numbers of 128 bits.
WIDEST = 32
# What an access does.
READ, WRITTEN = "read", "written"
# Who does it is one number: from these bits on upwards, the program and how often it has waited at a barrier, and below
# them the warp.
PROGRAM, WAITED = 32, 8
# In its place: nobody has, several warps of a program have since it last waited (below that and the program), or several
# programs have.
NOBODY, SEVERAL_WARPS, SEVERAL = 0, (1 << WAITED) - 1, -1


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


class Accesses:
    """Who has accessed what in some memory, to tell of accesses that nothing puts in order.

    Those of one warp are in the order of the text, and those of one program's warps on both sides of a barrier.

    Args:
        size: bytes of the memory.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        # Bytes that are told apart, fewer as soon as an access is narrower.
        self.unit = 4
        # Who has done what to each unit, by what it is. Those that nobody accesses take no memory.
        self.by: dict[str, np.ndarray] = {}

    def enter(self, kind: str, who: np.ndarray, offsets: np.ndarray, size: int, changes: np.ndarray | bool = True) -> None:
        """Enter accesses of ``size`` bytes each, unless they are not in order with earlier ones.

        Args:
            changes: whether each makes a difference to earlier ones.
        """
        if size < self.unit:
            self.by = {kind: np.repeat(held, self.unit // size) for kind, held in self.by.items()}
            self.unit = size
        count = size // self.unit
        places = (offsets[:, None] // self.unit + np.arange(count)).ravel()
        who, changes = (np.repeat(np.broadcast_to(v, len(offsets)), count) for v in (who, changes))
        for other, held in self.by.items():
            # Reading alone needs no order.
            if kind == WRITTEN or other != kind:
                apart = changes & ~_in_order(held[places], who)
                if np.any(apart):
                    program = np.any((held[places] ^ who)[apart] >> PROGRAM)
                    by = "another program has {}" if program else "another warp has {} since the last barrier"
                    raise MachineError(f"memory that {by.format(other)} is {kind}")
        if kind not in self.by:
            self.by[kind] = np.zeros(self.size // self.unit, np.int64)
        held = self.by[kind]
        # Of those that access a unit at once, one can be entered at a time.
        while len(places):
            before = held[places]
            after = _together(before, who)
            left = after != before
            places, who = places[left], who[left]
            held[places] = after[left]


def _in_order(before: np.ndarray, who: np.ndarray) -> np.ndarray:
    differs = before ^ who
    same_program = (differs >= 1 << WAITED) & (differs < 1 << PROGRAM)
    return (before == NOBODY) | (differs == 0) | same_program


def _together(before: np.ndarray, who: np.ndarray) -> np.ndarray:
    """What stands for those of a place, and who joins them; only the last of those that are in order."""
    several = np.where((before ^ who) >> PROGRAM == 0, who | SEVERAL_WARPS, SEVERAL)
    return np.where(_in_order(before, who), who, several)


class Shared:
    """The memory that the threads of each of some programs share, poisoned at first.

    Args:
        size: bytes per program.
        threads: per program.
    """

    def __init__(self, programs: int, size: int, threads: int) -> None:
        self.size, self.threads, self.stride = size, threads, -(-size // WIDEST) * WIDEST
        self.bytes = np.full(programs * self.stride, 0xFF, np.uint8)
        self.accesses, self.waited = Accesses(len(self.bytes)), 1

    def order(self) -> None:
        """A barrier: what was accessed before is ordered."""
        self.waited += 1

    def load(self, threads: np.ndarray, offsets: np.ndarray, type_: type, count: int = 1) -> list[np.ndarray]:
        """The elements, one array for each of ``count``, that begin at offsets in the memory of threads' programs."""
        size = type_().itemsize * count
        places = self._places(threads, offsets, size)
        self._enter(READ, threads, places, size)
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
        # Several warps may write the same, or what is there.
        self._enter(WRITTEN, threads, places, size, changes)

    def _places(self, threads: np.ndarray, offsets: np.ndarray, size: int) -> np.ndarray:
        """Where in ``bytes`` accesses begin."""
        if np.any(offsets % size):
            raise MachineError(f"accesses {size} bytes of shared memory at an offset that is no multiple of {size}")
        if np.any((offsets < 0) | (offsets + size > self.size)):
            raise MachineError("accesses shared memory outside of its own")
        return threads // self.threads * self.stride + offsets

    def _enter(self, kind, threads, places, size, changes=True) -> None:
        # A single warp is in order with itself.
        if self.threads > WARP:
            self.accesses.enter(kind, _who(threads, self.threads, self.waited), places, size, changes)


def _who(threads: np.ndarray, per_program: int, waited: int) -> np.ndarray:
    """Who accesses memory, see ``PROGRAM``: threads of programs that have waited at as many barriers."""
    return (threads // per_program << PROGRAM) + (waited << WAITED) + threads % per_program // WARP


def sectors(threads: np.ndarray, addresses: np.ndarray) -> int:
    """Sectors that warps ask for in one access; each different one counts once in a warp."""
    if not len(addresses):
        return 0
    keys = (threads // WARP << 48) + addresses // SECTOR
    if np.any(keys[1:] < keys[:-1]):
        keys.sort()
    return 1 + int(np.count_nonzero(keys[1:] != keys[:-1]))
