"""Executes a kernel on the CPU, many programs at a time, and counts what it executes.

All threads of some programs advance together, as vectors of numpy: those whose next block comes first in the text
execute it. Accesses outside of the arguments, accesses that are not aligned and shuffles without all threads of a warp
are errors here; on a GPU they fault or have no defined result. Sums and products are rounded as on a GPU, divisions,
roots and powers need not be: a quotient is rounded twice here, so that x / x may differ from 1.
"""

import ctypes
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from .ptx import Instruction, Kernel, Operand

WARP = 32
# Smallest piece of memory that a GPU reads or writes.
SECTOR = 32
# Threads that advance together: enough to make numpy's overhead small, and few enough for the CPU's caches.
TOGETHER = 1 << 16
DONE = np.iinfo(np.int32).max
TYPES = {"pred": np.bool_, "f32": np.float32, "f64": np.float64, "f16": np.float16}
TYPES |= {f"{kind}{size}": np.dtype(f"u{size // 8}").type for kind in "ub" for size in (8, 16, 32, 64)}
TYPES |= {f"s{size}": np.dtype(f"i{size // 8}").type for size in (8, 16, 32, 64)}
REGISTERS = {"%p": np.bool_, "%rs": np.uint16, "%r": np.uint32, "%rd": np.uint64}


class MachineError(RuntimeError):
    """Something that a GPU would not execute, or not with a defined result."""


@dataclass
class Memory:
    """The memory of the arguments of a launch, and which of its sectors were read and written."""

    spans: Sequence[tuple[int, int]]
    read: list[np.ndarray] = field(init=False)
    written: list[np.ndarray] = field(init=False)

    def __post_init__(self) -> None:
        self.spans = sorted({span for span in self.spans if span[1] > span[0]})
        self.starts = np.array([start for start, _ in self.spans], np.uint64)
        self.stops = np.array([stop for _, stop in self.spans], np.uint64)
        self.read, self.written = (
            [np.zeros(stop // SECTOR - start // SECTOR + 1, bool) for start, stop in self.spans] for _ in range(2)
        )
        self.bytes = [
            np.frombuffer((ctypes.c_uint8 * (stop - start)).from_address(start), np.uint8) for start, stop in self.spans
        ]

    def access(self, addresses: np.ndarray, size: int, kind: type, touched: list[np.ndarray]):
        """Arrays of the kind, with the indices at which ``size`` bytes at each address begin."""
        if np.any(addresses % np.uint64(size)):
            raise MachineError(f"accesses {size} bytes at an address that is no multiple of {size}")
        owners = np.searchsorted(self.starts, addresses, "right") - 1
        outside = (owners < 0) | (addresses + np.uint64(size) > self.stops[owners])
        if outside.any():
            raise MachineError("accesses memory outside of its arguments")
        for owner in np.unique(owners):
            chosen = owners == owner
            start, _ = self.spans[owner]
            offsets = (addresses[chosen] - np.uint64(start)).astype(np.int64)
            touched[owner][(offsets + start % SECTOR) // SECTOR] = True
            whole = len(self.bytes[owner]) // kind().itemsize * kind().itemsize
            yield chosen, self.bytes[owner][:whole].view(kind), offsets // kind().itemsize


@dataclass
class Counts:
    """What one launch has executed.

    Attributes:
        instructions: warps that executed each opcode.
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
        """Instructions of warps, without those that only name a value again."""
        return sum(n for opcode, n in self.instructions.items() if not opcode.startswith(("mov", "ld.param", "ret")))


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
        arguments: values of the kernel's parameters; pointers are addresses.
        spans: first and last address plus one of each argument's memory.
        shared_bytes: shared memory of each program.

    Raises:
        MachineError: see there.
    """
    memory, counts = Memory(spans), Counts()
    parameters = dict(zip(kernel.parameters, arguments, strict=False))
    programs = math.prod(grid)
    step = max(1, TOGETHER // kernel.threads)
    with np.errstate(all="ignore"):
        for first in range(0, programs, step):
            few = np.arange(first, min(first + step, programs), dtype=np.uint32)
            _Threads(kernel, grid, few, parameters, memory, shared_bytes, counts).run()
    counts.read_bytes = SECTOR * sum(int(v.sum()) for v in memory.read)
    counts.written_bytes = SECTOR * sum(int(v.sum()) for v in memory.written)
    return counts


class _Threads:
    """The threads of some programs."""

    def __init__(self, kernel, grid, programs, parameters, memory, shared_bytes, counts) -> None:
        self.kernel, self.parameters, self.memory, self.counts = kernel, parameters, memory, counts
        size = len(programs) * kernel.threads
        thread = np.arange(size, dtype=np.int64) % kernel.threads
        program = np.repeat(programs, kernel.threads)
        x, y = np.uint32(grid[0]), np.uint32(grid[1])
        self.registers = {
            **{"%tid.x": thread.astype(np.uint32), "%ctaid.x": program % x},
            **{"%ctaid.y": program // x % y, "%ctaid.z": program // x // y},
            **{f"%nctaid.{axis}": np.uint32(n) for axis, n in zip("xyz", grid, strict=True)},
        }
        # Poisoned, and with the index at which each thread's program has its own.
        self.shared = np.full(len(programs) * shared_bytes, 0xFF, np.uint8)
        self.shared_bytes = shared_bytes
        self.shared_starts = np.arange(size, dtype=np.int64) // kernel.threads * shared_bytes
        self.next = np.zeros(size, np.int32)
        self.waiting = np.zeros(size, bool)

    def run(self) -> None:
        while True:
            runnable = np.where(self.waiting, DONE, self.next)
            block = int(runnable.min())
            if block == DONE:
                if not self.waiting.any():
                    return
                # Each program's threads have all arrived, or they never will.
                self.waiting[:] = False
                continue
            self.index = np.flatnonzero(runnable == block)
            self.is_all = len(self.index) == len(self.next)
            self.cache: dict[str, np.ndarray] = {}
            self.changed: dict[str, np.ndarray] = {}
            self.guard = None
            self.follow(block, self.kernel.blocks[block])

    def follow(self, block: int, instructions: tuple[Instruction, ...]) -> None:
        warps = len(np.unique(self.index // WARP))
        after = np.full(len(self.index), block + 1 if block + 1 < len(self.kernel.blocks) else DONE, np.int32)
        for instruction in instructions:
            self.counts.instructions[instruction.opcode] += warps
            self.guard = None
            if instruction.guard:
                guard = np.broadcast_to(self.read(instruction.guard, "pred"), self.index.shape)
                self.guard = ~guard if instruction.negated else guard
            if instruction.name == "bra":
                taken = np.ones(len(self.index), bool) if self.guard is None else self.guard
                after[taken] = self.kernel.labels[instruction.operands[0]]
            elif instruction.name == "ret":
                after[:] = DONE
            elif instruction.opcode == "bar.sync":
                self.waiting[self.index] = True
            elif instruction.opcode != "bar.warp.sync":
                self.execute(instruction)
        for name, value in self.changed.items():
            if self.is_all:
                self.registers[name] = value
                continue
            held = self.registers.get(name)
            if held is None or held.ndim == 0:
                held = np.full(len(self.next), 0 if held is None else held, value.dtype)
            else:
                held = held if held.base is None else held.copy()
            held[self.index] = value
            self.registers[name] = held
        self.next[self.index] = after

    def execute(self, instruction: Instruction) -> None:
        do = OPERATIONS.get(instruction.name)
        if do is None:
            raise MachineError(f"{instruction.opcode}: not an instruction that is emulated")
        do(self, instruction)

    def read(self, operand: Operand, kind: str) -> np.ndarray:
        """The values of an operand in the threads that execute, or one value if it is the same in all of them."""
        type_ = TYPES[kind]
        if isinstance(operand, tuple):
            raise MachineError(f"{operand}: not a single value")
        if operand.startswith("%"):
            value = self.changed.get(operand, self.cache.get(operand))
            if value is None:
                held = self.registers.get(operand)
                if held is None:
                    held = REGISTERS[operand.rstrip("0123456789")](0)
                value = held if self.is_all or held.ndim == 0 else held[self.index]
                self.cache[operand] = value
        elif operand in self.parameters:
            value = self.parameters[operand]
        elif operand.startswith("0f"):
            value = np.uint32(int(operand[2:], 16))
        elif operand.startswith("global_smem"):
            value = np.uint32(int(operand[len("global_smem") :] or 0))
        else:
            number = int(operand, 0)
            if type_ is np.bool_:
                return np.bool_(number)
            size = type_().itemsize
            value = np.dtype(f"u{size}").type(number & ((1 << (8 * size)) - 1))
        if value.dtype == type_:
            return value
        if value.dtype.itemsize == type_().itemsize:
            return value.view(type_)
        # Narrower types than the register take its lowest bits.
        return value.astype(np.dtype(f"u{type_().itemsize}")).view(type_)

    def write(self, operand: str, value: np.ndarray) -> None:
        """Set a register, in the threads that the guard admits."""
        if operand == "_":
            return
        type_ = REGISTERS[operand.rstrip("0123456789")]
        value = np.asarray(value)
        if value.dtype != type_:
            value = value.view(type_) if value.dtype.itemsize == type_().itemsize else value.astype(type_)
        if self.guard is not None:
            value = np.where(self.guard, value, self.read(operand, _kind_of(type_)))
        self.changed[operand] = value

    def whole(self, operand: Operand, kind: str) -> np.ndarray:
        """As `read`, one value per thread, warp by warp, [W, 32]."""
        if len(self.index) % WARP or np.any(self.index[::WARP] % WARP) or np.any(np.diff(self.index[::WARP]) < WARP):
            raise MachineError("exchanges values in a warp without all of its threads")
        return np.broadcast_to(self.read(operand, kind), self.index.shape).reshape(-1, WARP)

    def offset(self, operand: str) -> tuple[str, int]:
        """Register and constant of an address."""
        base, _, constant = operand.partition("+")
        return base, int(constant or 0)


def _kind_of(type_: type) -> str:
    return "pred" if type_ is np.bool_ else f"b{8 * type_().itemsize}"


def _flushed(value: np.ndarray) -> np.ndarray:
    return np.where(np.abs(value) < np.finfo(np.float32).tiny, np.copysign(np.float32(0), value), value)


def _calculate(function: Callable) -> Callable:
    """An instruction that computes its first operand from the others."""

    def do(threads: _Threads, at: Instruction) -> None:
        values = [threads.read(operand, at.type) for operand in at.operands[1:]]
        if "ftz" in at.modifiers:
            values = [_flushed(v) for v in values]
        result = function(at, *values)
        threads.write(at.operands[0], _flushed(result) if "ftz" in at.modifiers else result)

    return do


def _fma(at, x, y, z):
    return (x.astype(np.float64) * y + z).astype(np.float32)


def _multiply(at, x, y):
    if "hi" not in at.modifiers:
        return x * y
    return ((x.astype(np.int64) * y.astype(np.int64)) >> 32).astype(x.dtype)


def _wide(threads: _Threads, at: Instruction) -> np.ndarray:
    x, y = (threads.read(operand, at.type) for operand in at.operands[1:3])
    type_ = np.int64 if at.type.startswith("s") else np.uint64
    return x.astype(type_) * y.astype(type_)


def _mul(threads: _Threads, at: Instruction) -> None:
    if "wide" in at.modifiers:
        threads.write(at.operands[0], _wide(threads, at))
    else:
        _calculate(_multiply)(threads, at)


def _mad(threads: _Threads, at: Instruction) -> None:
    if "wide" in at.modifiers:
        product = _wide(threads, at)
        threads.write(at.operands[0], product + threads.read(at.operands[3], "b64").view(product.dtype))
    else:
        _calculate(lambda at, x, y, z: x * y + z)(threads, at)


def _divide(at, x, y):
    if at.type == "f32":
        mantissa, exponent = np.frexp(y.astype(np.float64))
        reciprocal = (1 / mantissa).astype(np.float32)
        return np.ldexp(x.astype(np.float64) * reciprocal, -exponent).astype(np.float32)
    y = np.where(y == 0, 1, y)
    remainder = np.fmod(x, y)
    return (x - remainder) // y


def _extreme(ordered: Callable, propagating: Callable) -> Callable:
    return _calculate(lambda at, *v: (propagating if "NaN" in at.modifiers else ordered)(*v))


COMPARISONS = {
    "eq": np.equal,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
    "ne": lambda x, y: np.less(x, y) | np.greater(x, y),
    "num": lambda x, y: ~(np.isnan(x) | np.isnan(y)),
    "nan": lambda x, y: np.isnan(x) | np.isnan(y),
}


def _compare(threads: _Threads, at: Instruction) -> None:
    x, y = (threads.read(operand, at.type) for operand in at.operands[1:])
    comparison = at.modifiers[0]
    if comparison in COMPARISONS:
        result = COMPARISONS[comparison](x, y)
    else:
        # Those that end in "u" also hold where a number is not comparable.
        result = COMPARISONS[comparison[:-1]](x, y) | COMPARISONS["nan"](x, y)
    threads.write(at.operands[0], result)


def _select(threads: _Threads, at: Instruction) -> None:
    x, y = (threads.read(operand, at.type) for operand in at.operands[1:3])
    threads.write(at.operands[0], np.where(threads.read(at.operands[3], "pred"), x, y))


def _shift(threads: _Threads, at: Instruction) -> None:
    x, by = threads.read(at.operands[1], at.type), threads.read(at.operands[2], "u32")
    bits = 8 * x.dtype.itemsize
    within = np.minimum(by, bits - 1).astype(x.dtype)
    result = x << within if at.name == "shl" else x >> within
    # An arithmetic shift fills up with the sign.
    threads.write(at.operands[0], result if at.type.startswith("s") else np.where(by < bits, result, x.dtype.type(0)))


def _extract(at, x, start, length):
    start, length = (np.asarray(v & v.dtype.type(0xFF)).astype(np.int64) for v in (start, length))
    if at.type == "u32":
        return ((x.astype(np.int64) >> start) & ((1 << length) - 1)).astype(np.uint32)
    up = np.maximum(64 - start - length, 0)
    return ((x.astype(np.int64) << up) >> (64 - length)).astype(np.int32)


def _move(threads: _Threads, at: Instruction) -> None:
    to, source = at.operands
    if isinstance(to, tuple):
        value = threads.read(source, at.type)
        part = 8 * value.dtype.itemsize // len(to)
        for i, name in enumerate(to):
            threads.write(name, (value >> value.dtype.type(i * part)).astype(np.dtype(f"u{part // 8}")))
    elif isinstance(source, tuple):
        type_ = TYPES[at.type]
        part = 8 * type_().itemsize // len(source)
        value = type_(0)
        for i, name in enumerate(source):
            value = value | (threads.read(name, f"b{part}").astype(type_) << type_(i * part))
        threads.write(to, value)
    else:
        # A copy: registers are changed in place.
        threads.write(to, threads.read(source, at.type).copy())


def _half(values: np.ndarray, kind: str) -> np.ndarray:
    """The bits of float32 numbers as numbers of a half type, rounded to nearest even."""
    if kind == "f16":
        return values.astype(np.float16).view(np.uint16)
    bits = values.view(np.uint32)
    rounded = (bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)
    return np.where(np.isnan(values), np.uint16(0x7FFF), rounded.astype(np.uint16))


def _convert(threads: _Threads, at: Instruction) -> None:
    to, source = at.modifiers[-2:]
    if to in ("bf16x2", "f16x2"):
        high, low = (_half(threads.read(v, "f32"), to[:-2]) for v in at.operands[1:])
        value = (high.astype(np.uint32) << np.uint32(16)) | low
    elif to in ("bf16", "f16"):
        value = _half(threads.read(at.operands[1], "f32"), to)
    elif source == "bf16":
        value = (threads.read(at.operands[1], "b16").astype(np.uint32) << np.uint32(16)).view(np.float32)
    else:
        value = threads.read(at.operands[1], source).astype(TYPES[to])
    threads.write(at.operands[0], value)


def _sectors(addresses: np.ndarray, size: int, index: np.ndarray) -> int:
    """Sectors that warps ask for: each different one counts once in a warp."""
    first = addresses // np.uint64(SECTOR)
    each = np.stack([index.astype(np.uint64) // np.uint64(WARP), first], 1)
    return len(np.unique(each, axis=0)) if size <= SECTOR else len(each)


def _layout(at: Instruction) -> tuple[type, int]:
    """Type of an element of a load or store, and how many there are."""
    count = next((int(v[1:]) for v in at.modifiers if v in ("v2", "v4", "v8")), 1)
    return np.dtype(f"u{int(at.type[1:]) // 8}").type, count


def _global(threads: _Threads, at: Instruction, operand: str) -> tuple[np.ndarray, np.ndarray]:
    """Which of the threads take part in an access of global memory, and their addresses."""
    base, constant = threads.offset(operand)
    addresses = np.broadcast_to(threads.read(base, "u64") + np.uint64(constant), threads.index.shape)
    chosen = np.arange(len(addresses)) if threads.guard is None else np.flatnonzero(threads.guard)
    return chosen, addresses[chosen]


def _shared(threads: _Threads, operand: str, size: int) -> np.ndarray:
    """Where an access begins in shared memory, in the threads that take part."""
    if operand.startswith("global_smem"):
        offsets = np.full(threads.index.shape, int(threads.read(operand, "u32")), np.int64)
    else:
        base, constant = threads.offset(operand)
        offsets = np.broadcast_to(threads.read(base, "u32").astype(np.int64) + constant, threads.index.shape)
    chosen = slice(None) if threads.guard is None else threads.guard
    offsets = offsets[chosen]
    if np.any(offsets % size) or np.any(offsets < 0) or np.any(offsets + size > threads.shared_bytes):
        raise MachineError("accesses shared memory outside of its own, or not aligned")
    return threads.shared_starts[threads.index][chosen] + offsets


def _load(threads: _Threads, at: Instruction) -> None:
    to, source = at.operands
    if "param" in at.modifiers:
        threads.write(to, threads.read(source, at.type))
        return
    names = to if isinstance(to, tuple) else (to,)
    type_, count = _layout(at)
    size = type_().itemsize * count
    registers = [np.zeros(threads.index.shape, type_) for _ in names]
    if "global" in at.modifiers:
        chosen, addresses = _global(threads, at, source)
        threads.counts.load_sectors += _sectors(addresses, size, threads.index[chosen])
        for part, values, start in threads.memory.access(addresses, size, type_, threads.memory.read):
            for i, register in enumerate(registers):
                register[chosen[part]] = values[start + i]
    else:
        chosen = slice(None) if threads.guard is None else threads.guard
        start = _shared(threads, source, size) // type_().itemsize
        for i, register in enumerate(registers):
            register[chosen] = threads.shared.view(type_)[start + i]
    for name, register in zip(names, registers, strict=True):
        threads.write(name, register)


def _store(threads: _Threads, at: Instruction) -> None:
    to, source = at.operands
    names = source if isinstance(source, tuple) else (source,)
    type_, count = _layout(at)
    size = type_().itemsize * count
    kind = f"b{8 * type_().itemsize}"
    registers = [np.broadcast_to(threads.read(name, kind), threads.index.shape) for name in names]
    if "global" in at.modifiers:
        chosen, addresses = _global(threads, at, to)
        threads.counts.store_sectors += _sectors(addresses, size, threads.index[chosen])
        for part, values, start in threads.memory.access(addresses, size, type_, threads.memory.written):
            for i, register in enumerate(registers):
                values[start + i] = register[chosen[part]]
    else:
        chosen = slice(None) if threads.guard is None else threads.guard
        start = _shared(threads, to, size) // type_().itemsize
        for i, register in enumerate(registers):
            threads.shared.view(type_)[start + i] = register[chosen]


def _add_to_memory(threads: _Threads, at: Instruction) -> None:
    _, where, source = at.operands
    if at.modifiers[-2:] != ("add", "u32"):
        raise MachineError(f"{at.opcode}: not an instruction that is emulated")
    chosen, addresses = _global(threads, at, where)
    values = np.broadcast_to(threads.read(source, "u32"), threads.index.shape)[chosen]
    threads.counts.store_sectors += _sectors(addresses, 4, threads.index[chosen])
    for part, held, start in threads.memory.access(addresses, 4, np.uint32, threads.memory.written):
        np.add.at(held, start, values[part])


def _shuffle(threads: _Threads, at: Instruction) -> None:
    mode = at.modifiers[1]
    values = threads.whole(at.operands[1], "b32")
    lane = np.arange(WARP)
    by = threads.whole(at.operands[2], "u32").astype(np.int64)
    source = {"bfly": lane ^ by, "up": lane - by, "down": lane + by, "idx": by % WARP}[mode]
    source = np.where((source >= 0) & (source < WARP), source, lane)
    threads.write(at.operands[0], np.take_along_axis(values, source, 1).reshape(-1))


def _reduce(threads: _Threads, at: Instruction) -> None:
    values = threads.whole(at.operands[1], at.type)
    reduce = {"add": np.sum, "min": np.min, "max": np.max, "or": np.bitwise_or.reduce}[at.modifiers[1]]
    result = np.broadcast_to(reduce(values, axis=1)[:, None].astype(values.dtype), values.shape)
    threads.write(at.operands[0], np.ascontiguousarray(result).reshape(-1))


def _load_matrix(threads: _Threads, at: Instruction) -> None:
    names, source = at.operands
    starts = _shared(threads, source, 16).reshape(-1, WARP)
    lane = np.arange(WARP)
    halves = threads.shared.view(np.uint16)
    for i, name in enumerate(names):
        parts = []
        for j in range(2):
            row, column = lane // 4, lane % 4 * 2 + j
            if "trans" in at.modifiers:
                row, column = column, row
            parts.append(halves[starts[:, 8 * i + row] // 2 + column].astype(np.uint32))
        threads.write(name, (parts[0] | parts[1] << np.uint32(16)).reshape(-1))


def _store_matrix(threads: _Threads, at: Instruction) -> None:
    to, names = at.operands
    starts = _shared(threads, to, 16).reshape(-1, WARP)
    lane = np.arange(WARP)
    halves = threads.shared.view(np.uint16)
    for i, name in enumerate(names):
        value = threads.whole(name, "b32")
        for j in range(2):
            row, column = lane // 4, lane % 4 * 2 + j
            if "trans" in at.modifiers:
                row, column = column, row
            halves[starts[:, 8 * i + row] // 2 + column] = (value >> np.uint32(16 * j)).astype(np.uint16)


OPERATIONS: dict[str, Callable[[_Threads, Instruction], None]] = {
    "add": _calculate(lambda at, x, y: x + y),
    "sub": _calculate(lambda at, x, y: x - y),
    "mul": _mul,
    "mad": _mad,
    "fma": _calculate(_fma),
    "div": _calculate(_divide),
    "rem": _calculate(lambda at, x, y: np.fmod(x, np.where(y == 0, 1, y).astype(y.dtype))),
    "neg": _calculate(lambda at, x: -x),
    "abs": _calculate(lambda at, x: np.abs(x)),
    "not": _calculate(lambda at, x: ~x),
    "min": _extreme(np.fmin, np.minimum),
    "max": _extreme(np.fmax, np.maximum),
    "and": _calculate(lambda at, x, y: x & y),
    "or": _calculate(lambda at, x, y: x | y),
    "xor": _calculate(lambda at, x, y: x ^ y),
    "popc": _calculate(lambda at, x: np.bitwise_count(x).astype(np.uint32)),
    "bfe": _calculate(_extract),
    "shl": _shift,
    "shr": _shift,
    "sqrt": _calculate(lambda at, x: np.sqrt(x)),
    "rsqrt": _calculate(lambda at, x: (1 / np.sqrt(x.astype(np.float64))).astype(np.float32)),
    "rcp": _calculate(lambda at, x: 1 / x),
    "ex2": _calculate(lambda at, x: np.exp2(x)),
    "lg2": _calculate(lambda at, x: np.log2(x)),
    "setp": _compare,
    "selp": _select,
    "mov": _move,
    "cvt": _convert,
    "ld": _load,
    "st": _store,
    "atom": _add_to_memory,
    "shfl": _shuffle,
    "redux": _reduce,
    "ldmatrix": _load_matrix,
    "stmatrix": _store_matrix,
}
