"""Executes a kernel on the CPU, many programs at a time, and counts what it executes.

All threads of some programs advance together, as vectors of numpy: those whose next block comes first in the text
execute it. What has no defined result on a GPU is an error here: accesses outside of the arguments or not aligned,
shuffles without all threads of a warp, barriers at which not all threads of a program arrive, and accesses to the same
memory, shared or not, that nothing puts in order. Registers and shared memory that nobody has written have all bits
set.
"""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from .arithmetic import TYPES
from .memory import ATOMIC, READ, WAITED, WARP, WRITTEN, MachineError, Memory, Shared, identities
from .operations import operation
from .ptx import Instruction, Kernel, Operand, is_free, is_wide_integer

# Threads that advance together: enough to make numpy's overhead small, and few enough for the CPU's caches.
TOGETHER = 1 << 16
REGISTERS = {"%p": np.bool_, "%rs": np.uint16, "%r": np.uint32, "%rd": np.uint64}
# In the place of a thread's next block: it has ended; more than any block, and added to one: it waits before it.
DONE, WAITING = np.iinfo(np.int32).max, 1 << 24


@dataclass
class Counts:
    """What one launch has executed.

    Attributes:
        instructions: warps that executed each opcode, with those whose guard admits none of their threads.
        load_sectors, store_sectors: sectors of 32 bytes that warps asked for, each warp's own counted once per access.
        read_bytes, written_bytes: size of the different sectors among them.
    """

    instructions: Counter = field(default_factory=Counter)
    load_sectors: int = 0
    store_sectors: int = 0
    read_bytes: int = 0
    written_bytes: int = 0

    @property
    def executed(self) -> int:
        """Instructions of warps, without those that are free."""
        return sum(n for opcode, n in self.instructions.items() if not is_free(opcode))

    @property
    def wide_integers(self) -> int:
        """Those that calculate with integers of 64 bits."""
        return sum(n for opcode, n in self.instructions.items() if is_wide_integer(opcode))


def run(
    kernel: Kernel,
    grid: tuple[int, int, int],
    arguments: Sequence[np.generic],
    spans: Sequence[tuple[int, int]],
    shared_bytes: int,
) -> Counts:
    """Execute one launch.

    Args:
        grid: programs along x, y and z.
        arguments: values of the kernel's first parameters; pointers are addresses. What Triton adds is not there.
        spans: first and last address plus one of each argument's memory.
        shared_bytes: shared memory of each program.

    Raises:
        MachineError: see there.
    """
    memory, counts = Memory(spans), Counts()
    parameters = dict(zip(kernel.parameters, arguments, strict=False))
    blocks = [[(each, _action(each)) for each in block] for block in kernel.blocks]
    programs = math.prod(grid)
    step = max(1, TOGETHER // kernel.threads)
    with np.errstate(all="ignore"):
        for first in range(0, programs, step):
            few = np.arange(first, min(first + step, programs), dtype=np.uint32)
            Threads(kernel, blocks, grid, few, parameters, memory, shared_bytes, counts).run()
    counts.read_bytes, counts.written_bytes = memory.bytes_of(READ), memory.bytes_of(WRITTEN, ATOMIC)
    return counts


def _action(instruction: Instruction) -> Callable | None:
    """What executes an instruction; none if it decides about the next block."""
    if instruction.opcode in ("bra", "bra.uni", "ret"):
        return None
    if instruction.opcode == "bar.sync" and instruction.operands == ("0",) and not instruction.guard:
        return None
    return operation(instruction)


class Threads:
    """The threads of some programs.

    Attributes:
        index: threads that execute the current block, in ascending order, int64.
        who: see `identities`, of all threads, int64.
        is_all: whether these are all threads.
        is_whole: whether these are all threads of some warps; none if nobody has asked.
        guard: which of them take part in the current instruction; all do if it is none.
    """

    def __init__(self, kernel, blocks, grid, programs, parameters, memory, shared_bytes, counts) -> None:
        self.kernel, self.blocks, self.parameters = kernel, blocks, parameters
        self.memory, self.counts = memory, counts
        size = len(programs) * kernel.threads
        program = np.repeat(programs, kernel.threads)
        x, y = np.uint32(grid[0]), np.uint32(grid[1])
        self.registers = {
            "%tid.x": np.arange(size, dtype=np.uint32) % np.uint32(kernel.threads),
            **{"%ctaid.x": program % x, "%ctaid.y": program // x % y, "%ctaid.z": program // x // y},
            **{f"%nctaid.{axis}": np.uint32(n) for axis, n in zip("xyz", grid, strict=True)},
        }
        self.who = identities(int(programs[0]) * kernel.threads + np.arange(size), kernel.threads)
        self.shared = Shared(len(programs), shared_bytes, kernel.threads)
        self.next = np.zeros(size, np.int32)
        self.guard: np.ndarray | None = None

    def run(self) -> None:
        while True:
            block = int(self.next.min())
            if block == DONE:
                return
            if block >= WAITING:
                self._release()
                continue
            self.index = np.flatnonzero(self.next == block)
            self.is_all = len(self.index) == len(self.next)
            self.is_whole: bool | None = None
            self.gathered: dict[str, np.ndarray] = {}
            self.changed: dict[str, np.ndarray] = {}
            self._follow(block)

    def _release(self) -> None:
        """Let the threads behind the barrier at which they wait."""
        each = self.next.reshape(-1, self.kernel.threads)
        if np.any(each != each[:, :1]):
            raise MachineError("not all threads of a program arrive at the same barrier")
        self.next[self.next < DONE] -= WAITING
        self.shared.order()
        self.who += 1 << WAITED

    def _follow(self, block: int) -> None:
        warp = self.index // WARP
        warps = 1 + int(np.count_nonzero(warp[1:] != warp[:-1]))
        after = np.full(len(self.index), block + 1 if block + 1 < len(self.blocks) else DONE, np.int32)
        for instruction, action in self.blocks[block]:
            self.counts.instructions[instruction.opcode] += warps
            self.guard = None
            if instruction.guard:
                guard = np.broadcast_to(self.read(instruction.guard, "pred"), self.index.shape)
                self.guard = ~guard if instruction.negated else guard
            if action:
                action(self)
            elif instruction.name == "bar":
                after += WAITING
            else:
                to = DONE if instruction.name == "ret" else self.kernel.labels[instruction.operands[0]]
                after[slice(None) if self.guard is None else self.guard] = to
        for name, value in self.changed.items():
            self.registers[name] = value if self.is_all else self._merged(name, value)
        self.next[self.index] = after

    def _merged(self, name: str, value: np.ndarray) -> np.ndarray:
        """A register's values with those of the threads that have just executed a block."""
        held = self.registers.get(name)
        if held is None:
            held = np.full(len(self.next), _poison(value.dtype.type))
        elif held.ndim == 0:
            held = np.full(len(self.next), held)
        # In place: no two registers share memory, see `write`.
        held[self.index] = value
        return held

    def read(self, operand: Operand, kind: str) -> np.ndarray:
        """The values of an operand in the threads that execute, or one value if it is the same in all of them.

        It may share memory with a register, and must not be changed.
        """
        type_ = TYPES[kind]
        if isinstance(operand, tuple):
            raise MachineError(f"{operand}: not a single value")
        if operand.startswith("%"):
            value = self._register(operand)
        elif operand in self.parameters:
            value = self.parameters[operand]
        else:
            value = _constant(operand, type_)
        if value.dtype == type_:
            return value
        if type_ is np.bool_ or value.dtype == np.bool_:
            raise MachineError(f"{operand}: predicates are no numbers")
        if value.dtype.itemsize == type_().itemsize:
            return value.view(type_)
        if value.dtype.itemsize < type_().itemsize:
            raise MachineError(f"{operand}: has fewer bits than {kind}")
        # Types narrower than the register take its lowest bits.
        return value.astype(np.dtype(f"u{type_().itemsize}")).view(type_)

    def _register(self, name: str) -> np.ndarray:
        value = self.changed.get(name, self.gathered.get(name))
        if value is None:
            held = self.registers.get(name)
            if held is None:
                held = _poison(_type_of(name))
            value = held if self.is_all or held.ndim == 0 else held[self.index]
            self.gathered[name] = value
        return value

    def write(self, name: str, value: np.ndarray) -> None:
        """Set a register, in the threads that the guard admits.

        The value becomes the register's own memory, and must not be that of another one. A narrower one is extended by
        its sign if its type has one, and by zeros otherwise.
        """
        if name == "_":
            return
        type_ = _type_of(name)
        value = np.asarray(value)
        if value.dtype.itemsize > type_().itemsize or (value.dtype == np.bool_) != (type_ is np.bool_):
            raise MachineError(f"{name}: set to values of type {value.dtype}")
        if value.dtype != type_:
            value = value.view(type_) if value.dtype.itemsize == type_().itemsize else value.astype(type_)
        if self.guard is not None:
            value = np.where(self.guard, value, self._register(name))
        self.changed[name] = value

    def check_whole(self) -> None:
        """All threads of the warps take part, as an exchange of values demands."""
        if self.is_whole is None:
            warps = self.index.reshape(-1, WARP) if len(self.index) % WARP == 0 else np.ones((1, WARP))
            self.is_whole = bool(np.all((warps[:, 0] % WARP == 0) & (warps[:, -1] - warps[:, 0] == WARP - 1)))
        if not self.is_whole or (self.guard is not None and not self.guard.all()):
            raise MachineError("exchanges values in a warp without all of its threads")

    def by_warp(self, operand: Operand, kind: str) -> np.ndarray:
        """As `read`, for whole warps: one value per thread [W, 32], or one value."""
        value = self.read(operand, kind)
        return value if value.ndim == 0 else value.reshape(-1, WARP)


def _type_of(register: str) -> type:
    type_ = REGISTERS.get(register.rstrip("0123456789"))
    if type_ is None:
        raise MachineError(f"{register}: not a register that is emulated")
    return type_


def _poison(type_: type) -> np.generic:
    """What a register holds before it is set: true, or all bits set, which is no number as a float."""
    return np.bool_(True) if type_ is np.bool_ else ~type_(0)


def _constant(text: str, type_: type) -> np.generic:
    if text.startswith("global_smem"):
        # The only shared memory, which begins at 0.
        return np.uint32(int(text.removeprefix("global_smem") or 0))
    if text.startswith("0f"):
        return np.uint32(int(text[2:], 16))
    try:
        # The suffix says that it has no sign.
        number = int(text.removesuffix("U"), 0)
    except ValueError as error:
        raise MachineError(f"{text}: neither a register, a parameter nor a number that is emulated") from error
    size = type_().itemsize
    return np.bool_(number) if type_ is np.bool_ else np.dtype(f"u{size}").type(number & ((1 << (8 * size)) - 1))
