"""Memory of an emulated launch: that of its arguments, what its programs share, and who accesses it in which order."""

import ctypes
from collections.abc import Iterator, Sequence

import numpy as np

WARP = 32
# Smallest piece of memory that a GPU reads or writes.
SECTOR = 32
# Alignment of the widest access, of two numbers of 128 bits.
WIDEST = 32
# What an access does.
READ, WRITTEN, ATOMIC = "read", "written", "atomically changed"
# Who does it is one number, see `identities`, in which the program and how often it has waited begin at these bits.
PROGRAM, WAITED = 32, 8
# In its place: nobody has, several warps since their program last waited (in these bits), or several programs.
NOBODY, SEVERAL_WARPS, SEVERAL = 0, (1 << WAITED) - 1, -1


class MachineError(RuntimeError):
    """Something that a GPU would not execute, or not with a defined result."""


class Memory:
    """The memory of a launch's arguments.

    Args:
        spans: first address and last plus one of each argument's memory; they may overlap.

    Attributes:
        accesses: those to each span. Spans that overlap are one.
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
        self.accesses = [Accesses(size) for size in sizes]

    def bytes_of(self, *kinds: str) -> int:
        """Size of the sectors that were accessed like this."""
        return SECTOR * sum(each.sectors(*kinds) for each in self.accesses)

    def access(
        self, who: np.ndarray, addresses: np.ndarray, size: int, type_: type, kind: str
    ) -> Iterator[tuple[np.ndarray | slice, np.ndarray, np.ndarray]]:
        """The accesses to each span: which they are, its memory as an array of the type, and where in it they begin.

        Args:
            who: see `identities`, [n] int64.
            addresses: of accesses of ``size`` bytes each, [n] int64.
            kind: READ, WRITTEN or ATOMIC.
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
            self.accesses[owner].enter(kind, who[chosen], offsets, size)
            yield chosen, self.bytes[owner].view(type_), offsets // type_().itemsize


class Accesses:
    """Who has accessed what in some memory, to tell of accesses that nothing puts in order.

    Those of one warp are taken to be in the order of the text, and those of one program are in order on both sides of a
    barrier. Those of several programs never are.

    Args:
        size: bytes of the memory, whole sectors.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        # Bytes that are told apart: those of the narrowest access so far.
        self.unit = WIDEST
        # Who has done what to each unit, by what it is, int64.
        self.by: dict[str, np.ndarray] = {}

    def enter(
        self, kind: str, who: np.ndarray, offsets: np.ndarray, size: int, changes: np.ndarray | None = None
    ) -> None:
        """Enter accesses of ``size`` bytes each, unless they are not in order with each other and earlier ones.

        Args:
            changes: whether each makes a difference to earlier ones, given where those that meet are known to write
                the same. Otherwise they must not meet at all.
        """
        if size < self.unit:
            self.by = {each: np.repeat(held, self.unit // size) for each, held in self.by.items()}
            self.unit = size
        count, places, matters = size // self.unit, offsets // self.unit, changes is None or changes
        if count > 1:
            places, who = (places[:, None] + np.arange(count)).ravel(), np.repeat(who, count)
            matters = changes is None or np.repeat(changes, count)
        for other, held in self.by.items():
            if other != kind:
                _check(other, held[places], kind, who, matters)
        if kind not in self.by:
            # What nobody accesses takes no memory of the CPU either.
            self.by[kind] = np.zeros(self.size // self.unit, np.int64)
        held = self.by[kind]
        # Of those that access a unit at once, one is entered at a time.
        while len(places):
            before = held[places]
            # Reads need no order among themselves, nor do atomics.
            if kind == WRITTEN:
                _check(kind, before, kind, who, matters)
            # Most have been entered before.
            left = np.flatnonzero((before != who) & (before != SEVERAL))
            places, who, before, matters = places[left], who[left], before[left], changes is None
            after = _together(before, who)
            new = after != before
            places, who = places[new], who[new]
            held[places] = after[new]

    def sectors(self, *kinds: str) -> int:
        """How many were accessed like this."""
        touched = np.zeros(self.size // SECTOR, bool)
        for kind in self.by.keys() & set(kinds):
            touched |= self.by[kind].reshape(len(touched), -1).any(1)
        return int(touched.sum())


def _check(earlier: str, before: np.ndarray, kind: str, who: np.ndarray, matters: np.ndarray | bool) -> None:
    """What was done earlier to each place is in order with what is done to it now, where it matters."""
    apart = ~_in_order(before, who) & matters
    if apart.any():
        if np.any((before ^ who)[apart] >> PROGRAM):
            raise MachineError(f"memory that another program has {earlier} is {kind}")
        raise MachineError(f"memory that another warp has {earlier} since the last barrier is {kind}")


def _in_order(before: np.ndarray, who: np.ndarray) -> np.ndarray:
    differs = before ^ who
    waited_since = (differs >= 1 << WAITED) & (differs < 1 << PROGRAM)
    return (before == NOBODY) | (differs == 0) | waited_since


def _together(before: np.ndarray, who: np.ndarray) -> np.ndarray:
    """What stands for those before and who joins them.

    Where they are in order it is the latter alone: whoever is in order with the latter is so with the former.
    """
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

    def _enter(self, kind, threads, places, size, changes=None) -> None:
        # A single warp is in order with itself.
        if self.threads > WARP:
            self.accesses.enter(kind, identities(threads, self.threads, self.waited), places, size, changes)


def identities(threads: np.ndarray, per_program: int, waited: int = 1) -> np.ndarray:
    """Who threads are, counted through all programs: in one int64 the program, how often it has waited, and the warp.

    The second is never 0, so that nobody is `NOBODY`.
    """
    return (threads // per_program << PROGRAM) + (waited << WAITED) + threads % per_program // WARP


def sectors(threads: np.ndarray, addresses: np.ndarray) -> int:
    """Sectors that warps ask for in one access; each different one counts once in a warp."""
    if not len(addresses):
        return 0
    keys = (threads // WARP << 48) + addresses // SECTOR
    if np.any(keys[1:] < keys[:-1]):
        keys.sort()
    return 1 + int(np.count_nonzero(keys[1:] != keys[:-1]))
