"""What instructions do to the threads that execute them: copy, calculate, access memory, exchange values in a warp."""

import itertools
from collections.abc import Callable
from functools import partial

import numpy as np

from .arithmetic import CALCULATIONS, TYPES, Calculation
from .memory import ATOMIC, READ, WARP, WIDEST, WRITTEN, MachineError, sectors
from .ptx import Instruction, Operand

# Where an access is kept in caches changes no value.
HINTS = ("", ".L1::evict_first", ".L1::evict_last", ".L1::no_allocate", ".ca", ".cg", ".cs")


def operation(at: Instruction) -> Callable:
    """A function that executes an instruction on a `machine.Threads`.

    Raises:
        MachineError: it is not emulated, and nothing like it takes its place.
    """
    form = at.opcode, len(at.operands)
    if form in OPERATIONS:
        return partial(OPERATIONS[form], at=at.operands)
    if form not in CALCULATIONS:
        raise MachineError(f"{at.opcode} with {len(at.operands)} operands: not an instruction that is emulated")
    return partial(_calculate, calculation=CALCULATIONS[form], at=at.operands)


def _calculate(threads, calculation: Calculation, at: tuple[Operand, ...]) -> None:
    to, *operands = at
    values = [threads.read(operand, kind) for operand, kind in zip(operands, calculation.types, strict=True)]
    threads.write(to, calculation.function(*values))


def _move(threads, kind: str, at: tuple[Operand, ...]) -> None:
    to, source = at
    type_ = TYPES[kind]
    if isinstance(to, tuple):
        value, part = threads.read(source, kind), 8 * type_().itemsize // len(to)
        for i, name in enumerate(to):
            threads.write(name, (value >> type_(i * part)).astype(TYPES[f"b{part}"]))
    elif isinstance(source, tuple):
        part = 8 * type_().itemsize // len(source)
        parts = [threads.read(name, f"b{part}").astype(type_) << type_(i * part) for i, name in enumerate(source)]
        threads.write(to, sum(parts[1:], parts[0]))
    else:
        # A copy: registers are changed in place.
        threads.write(to, threads.read(source, kind).copy())


def _taking_part(threads) -> np.ndarray | slice:
    return slice(None) if threads.guard is None else np.flatnonzero(threads.guard)


def _addresses(threads, operand: str, kind: str) -> np.ndarray:
    """Addresses in the threads that take part, [n] int64."""
    base, _, constant = operand.partition("+")
    addresses = threads.read(base, kind).astype(np.int64) + int(constant or 0)
    return np.broadcast_to(addresses, threads.index.shape)[_taking_part(threads)]


def _names(operand: Operand, count: int) -> tuple[str, ...]:
    names = operand if isinstance(operand, tuple) else (operand,)
    if len(names) != count:
        raise MachineError(f"{operand}: wanted {count} registers")
    return names


def _load_parameter(threads, kind: str, at: tuple[Operand, ...]) -> None:
    to, source = at
    if source not in threads.parameters:
        raise MachineError(f"{source}: a parameter without an argument")
    threads.write(to, threads.read(source, kind))


def _load(threads, space: str, kind: str, count: int, at: tuple[Operand, ...]) -> None:
    type_, names, chosen = TYPES[kind], _names(at[0], count), _taking_part(threads)
    size = type_().itemsize * count
    values = [np.zeros(threads.index.shape, type_) for _ in names]
    members = threads.index[chosen]
    if space == "global":
        addresses = _addresses(threads, at[1], "u64")
        threads.counts.load_sectors += sectors(members, addresses)
        # Threads that take part, as indices, so that some of them can be chosen again.
        positions = np.arange(len(threads.index))[chosen]
        for part, held, start in threads.memory.access(threads.who[members], addresses, size, type_, READ):
            for i, value in enumerate(values):
                value[positions[part]] = held[start + i]
    else:
        held = threads.shared.load(members, _addresses(threads, at[1], "u32"), type_, count)
        for value, found in zip(values, held, strict=True):
            value[chosen] = found
    for name, value in zip(names, values, strict=True):
        threads.write(name, value)


def _store(threads, space: str, kind: str, count: int, at: tuple[Operand, ...]) -> None:
    # As bits: what is no number differs from itself.
    kind = kind.replace("f", "b")
    type_, names, chosen = TYPES[kind], _names(at[1], count), _taking_part(threads)
    size = type_().itemsize * count
    values = [np.broadcast_to(threads.read(name, kind), threads.index.shape)[chosen] for name in names]
    members = threads.index[chosen]
    if space == "global":
        addresses = _addresses(threads, at[0], "u64")
        threads.counts.store_sectors += sectors(members, addresses)
        for part, held, start in threads.memory.access(threads.who[members], addresses, size, type_, WRITTEN):
            for i, value in enumerate(values):
                held[start + i] = value[part]
            if any(np.any(held[start + i] != value[part]) for i, value in enumerate(values)):
                raise MachineError("several threads write different values to the same memory")
    else:
        threads.shared.store(members, _addresses(threads, at[0], "u32"), values)


def _add_to_memory(threads, at: tuple[Operand, ...]) -> None:
    """Threads add one after the other, and each gets the number that it found if it wants it."""
    *to, where, source = at
    chosen, addresses = _taking_part(threads), _addresses(threads, where, "u64")
    values = np.broadcast_to(threads.read(source, "u32"), threads.index.shape)[chosen]
    members = threads.index[chosen]
    threads.counts.store_sectors += sectors(members, addresses)
    found, positions = np.zeros(threads.index.shape, np.uint32), np.arange(len(threads.index))[chosen]
    for part, held, start in threads.memory.access(threads.who[members], addresses, 4, np.uint32, ATOMIC):
        order = np.argsort(start, kind="stable")
        places, added = start[order], values[part][order]
        # Sums of what was added before, by all threads and by those of other places.
        before = np.cumsum(added, dtype=np.uint32) - added
        others = before[np.searchsorted(places, places)]
        found[positions[part][order]] = held[places] + (before - others)
        np.add.at(held, places, added)
    for name in to:
        threads.write(name, found)


def _replace_in_memory(threads, at: tuple[Operand, ...], kind: str, choose: Callable) -> None:
    """Threads choose between a number in memory and their own, one after the other; each gets the one that it found if
    it wants it."""
    *to, where, source = at
    chosen, addresses = _taking_part(threads), _addresses(threads, where, "u64")
    values = np.broadcast_to(threads.read(source, kind), threads.index.shape)[chosen]
    members = threads.index[chosen]
    threads.counts.store_sectors += sectors(members, addresses)
    found, positions = np.zeros(threads.index.shape, TYPES[kind]), np.arange(len(threads.index))[chosen]
    for part, held, start in threads.memory.access(threads.who[members], addresses, 4, TYPES[kind], ATOMIC):
        for position, place, value in zip(positions[part], start, values[part], strict=True):
            found[position] = held[place]
            held[place] = choose(held[place], value)
    for name in to:
        threads.write(name, found)


def _check_members(threads, mask: Operand) -> None:
    """All threads of the warps take part, and the mask says so."""
    threads.check_whole()
    if np.any(threads.read(mask, "u32") != 0xFFFFFFFF):
        raise MachineError("exchanges values in a part of a warp, which is not emulated")


def _shuffle(threads, mode: str, at: tuple[Operand, ...]) -> None:
    to, source, by, bounds, mask = at
    _check_members(threads, mask)
    values, by, bounds = (threads.by_warp(v, "b32") for v in (source, by, bounds))
    by, clamp, segment = ((v.astype(np.int64) & 31) for v in (by, bounds, bounds >> np.uint32(8)))
    lane = np.arange(WARP)
    low, high = lane & segment, (lane & segment) | (clamp & ~segment)
    wanted = {"bfly": lane ^ by, "up": lane - by, "down": lane + by, "idx": low | (by & ~segment)}[mode]
    # Who asks for a thread beyond the bounds gets its own value.
    wanted = np.where(wanted >= high if mode == "up" else wanted <= high, wanted, lane)
    if values.ndim == 0:
        found = values.copy()
    elif wanted.ndim == 1:
        found = values[:, wanted].flatten()
    else:
        found = np.take_along_axis(values, wanted, 1).flatten()
    threads.write(to, found)


def _reduce(threads, kind: str, reduce: Callable, at: tuple[Operand, ...]) -> None:
    to, source, mask = at
    _check_members(threads, mask)
    values = np.broadcast_to(threads.read(source, kind), threads.index.shape).reshape(-1, WARP)
    threads.write(to, np.repeat(reduce(values, axis=1, dtype=TYPES[kind]), WARP))


def _warp_barrier(threads, at: tuple[Operand, ...]) -> None:
    _check_members(threads, at[0])


def _rows(threads, operand: str, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Threads whose addresses are those of matrices' rows, and the rows' offsets: eight for each matrix in every warp.

    The other threads' addresses are not looked at.
    """
    threads.check_whole()
    named = threads.index % WARP < 8 * count
    return threads.index[named], np.broadcast_to(_addresses(threads, operand, "u32"), named.shape)[named]


def _load_matrix(threads, count: int, transposed: bool, at: tuple[Operand, ...]) -> None:
    """Every thread gets two neighbours of a row of each matrix of 8 by 8 numbers of 16 bits, or of a column."""
    columns = threads.shared.load(*_rows(threads, at[1], count), np.uint16, 8)
    matrices = np.stack(columns, -1).astype(np.uint32).reshape(-1, count, 8, 8)
    if transposed:
        matrices = matrices.swapaxes(2, 3)
    pairs = (matrices[..., ::2] | matrices[..., 1::2] << np.uint32(16)).reshape(-1, count, WARP)
    for i, name in enumerate(_names(at[0], count)):
        threads.write(name, pairs[:, i].flatten())


def _store_matrix(threads, count: int, transposed: bool, at: tuple[Operand, ...]) -> None:
    values = [np.broadcast_to(threads.read(name, "b32"), threads.index.shape) for name in _names(at[1], count)]
    pairs = np.stack([v.reshape(-1, 8, 4) for v in values], 1)
    matrices = np.stack((pairs & np.uint32(0xFFFF), pairs >> np.uint32(16)), -1).astype(np.uint16)
    matrices = matrices.reshape(-1, count, 8, 8)
    if transposed:
        matrices = matrices.swapaxes(2, 3)
    threads.shared.store(*_rows(threads, at[0], count), list(matrices.reshape(-1, 8).T))


# By the complete opcode, and the number of operands.
OPERATIONS: dict[tuple[str, int], Callable] = {
    ("bar.warp.sync", 1): _warp_barrier,
    ("mov.pred", 2): partial(_move, kind="pred"),
}


def _enter_accesses() -> None:
    kinds = [f"{kind}{size}" for kind in "bus" for size in (8, 16, 32, 64)] + ["f32"]
    for kind in kinds:
        OPERATIONS[f"ld.param.{kind}", 2] = partial(_load_parameter, kind=kind)
        OPERATIONS[f"mov.{kind}", 2] = partial(_move, kind=kind)
    for name, function in (("ld", _load), ("st", _store)):
        for space, hint, count, kind in itertools.product(("global", "shared"), HINTS, (1, 2, 4, 8), kinds):
            if TYPES[kind]().itemsize * count <= WIDEST:
                opcode = f"{name}.{space}{hint}{f'.v{count}' if count > 1 else ''}.{kind}"
                OPERATIONS[opcode, 2] = partial(function, space=space, kind=kind, count=count)


def _enter_atomics() -> None:
    # The second name is for those whose threads do not want what they found.
    for name, operands in (("atom", 3), ("red", 2)):
        OPERATIONS[f"{name}.global.gpu.relaxed.add.u32", operands] = _add_to_memory
        for how, kind, choose in (("max", "s32", max), ("min", "u32", min)):
            function = partial(_replace_in_memory, kind=kind, choose=choose)
            OPERATIONS[f"{name}.global.gpu.relaxed.{how}.{kind}", operands] = function


def _enter_exchanges() -> None:
    for mode in ("bfly", "up", "down", "idx"):
        OPERATIONS[f"shfl.sync.{mode}.b32", 5] = partial(_shuffle, mode=mode)
    reductions = [("min", "f32", np.fmin), ("max", "f32", np.fmax)]
    for kind in ("s32", "u32"):
        reductions += [("add", kind, np.add), ("min", kind, np.minimum), ("max", kind, np.maximum)]
    reductions += [("and", "b32", np.bitwise_and), ("or", "b32", np.bitwise_or), ("xor", "b32", np.bitwise_xor)]
    for name, kind, function in reductions:
        OPERATIONS[f"redux.sync.{name}.{kind}", 3] = partial(_reduce, kind=kind, reduce=function.reduce)
    for count, transposed in itertools.product((1, 2, 4), (False, True)):
        for name, function in (("ldmatrix", _load_matrix), ("stmatrix", _store_matrix)):
            opcode = f"{name}.sync.aligned.m8n8.x{count}{'.trans' if transposed else ''}.shared.b16"
            OPERATIONS[opcode, 2] = partial(function, count=count, transposed=transposed)


_enter_accesses()
_enter_atomics()
_enter_exchanges()
