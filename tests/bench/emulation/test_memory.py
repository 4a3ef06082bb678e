"""Accesses go where they should, are told where they should not, and their sectors are counted."""

import itertools

import numpy as np
import pytest

from bench.emulation.memory import ATOMIC, READ, WRITTEN, MachineError, Memory, Shared, identities, sectors
from tests.bench.emulation.snippets import aligned


def span(array):
    return array.ctypes.data, array.ctypes.data + array.nbytes


def load(memory, addresses, size, type_=np.uint32):
    found = np.zeros(len(addresses), type_)
    who = identities(np.arange(len(addresses)), 32)
    for chosen, held, start in memory.access(who, np.array(addresses), size, type_, READ):
        found[chosen] = held[start]
    return found.tolist()


def test_several_arguments_at_once():
    numbers = aligned(64, np.uint32)
    numbers[:] = np.arange(64)
    start = numbers.ctypes.data
    memory = Memory([span(numbers[8:16]), span(numbers[32:34]), span(numbers[:0])])
    assert load(memory, [start + 4 * i for i in (33, 8, 15)], 4) == [33, 8, 15]
    assert memory.bytes_of(READ) == 2 * 32 and memory.bytes_of(WRITTEN) == 0
    for i in (7, 16, 31, 34, 63):
        with pytest.raises(MachineError, match="outside"):
            load(memory, [start + 4 * 9, start + 4 * i], 4)
    with pytest.raises(MachineError, match="outside"):
        load(memory, [start + 4 * 32], 16)
    assert load(memory, [], 4) == []


def test_addresses_are_multiples_of_the_size():
    numbers = aligned(16, np.uint32)
    memory = Memory([span(numbers)])
    for offset, size in ((2, 4), (4, 8), (8, 16)):
        with pytest.raises(MachineError, match="multiple"):
            load(memory, [numbers.ctypes.data + offset], size)


def test_arguments_may_begin_anywhere_and_overlap():
    halves = aligned(64, np.uint16)
    halves[:] = np.arange(64)
    start = halves.ctypes.data
    memory = Memory([span(halves[1:40]), span(halves[3:5]), span(halves[33:50])])
    assert len(memory.spans) == 1
    assert load(memory, [start + 2 * i for i in (1, 4, 34, 49)], 2, np.uint16) == [1, 4, 34, 49]
    assert load(memory, [start + 4], 4) == [2 | 3 << 16]
    for i in (0, 50):
        with pytest.raises(MachineError, match="outside"):
            load(memory, [start + 2 * i], 2, np.uint16)
    # Neighbours that only touch are two.
    assert len(Memory([span(halves[:8]), span(halves[8:])]).spans) == 2


class Accessed:
    """Memory of 64 bytes that programs of 64 threads access, as many at once as threads are given."""

    def __init__(self):
        self.numbers = aligned(64, np.uint8)
        self.memory, self.waited = Memory([span(self.numbers)]), 1

    def __call__(self, kind, threads, offset=0, size=4):
        who = identities(np.atleast_1d(threads), 64, self.waited)
        addresses = np.full(len(who), self.numbers.ctypes.data + offset)
        for _ in self.memory.access(who, addresses, size, np.uint8, kind):
            pass


# The first and the last thread of the first program, which are in different warps, and some of other programs.
FIRST, LAST, ELSEWHERE, FAR = 0, 63, 64, 64 * 100_000
KINDS = [(READ, READ), (READ, WRITTEN), (READ, ATOMIC), (WRITTEN, WRITTEN), (WRITTEN, ATOMIC), (ATOMIC, ATOMIC)]


@pytest.mark.parametrize("kinds", [*KINDS, *(pair[::-1] for pair in KINDS if pair[0] != pair[1])], ids=" ".join)
def test_accesses_that_nothing_puts_in_order(kinds):
    first, second = kinds
    harmless = kinds in ((READ, READ), (ATOMIC, ATOMIC))
    for other, words in (
        (ELSEWHERE, f"memory that another program has {first} is {second}"),
        (FAR, f"memory that another program has {first} is {second}"),
        (LAST, f"memory that another warp has {first} since the last barrier is {second}"),
    ):
        accessed = Accessed()
        accessed(first, FIRST)
        # Of the same warp.
        accessed(first, FIRST + 1)
        if harmless:
            accessed(second, other)
            continue
        with pytest.raises(MachineError, match=words):
            accessed(second, other)


@pytest.mark.parametrize("kinds", [*KINDS, *(pair[::-1] for pair in KINDS if pair[0] != pair[1])], ids=" ".join)
def test_a_barrier_puts_warps_in_order_and_no_programs(kinds):
    first, second = kinds
    for others in ([FIRST], [FIRST, LAST]):
        if others == [FIRST] or first != WRITTEN:
            accessed = Accessed()
            accessed(first, others)
            accessed.waited += 1
            accessed(second, LAST)
            if second == READ and first != READ:
                with pytest.raises(MachineError, match=f"another program has {first} is read"):
                    accessed(READ, ELSEWHERE)
    if kinds not in ((READ, READ), (ATOMIC, ATOMIC)):
        accessed = Accessed()
        accessed(first, FIRST)
        accessed.waited += 1
        with pytest.raises(MachineError, match=f"another program has {first} is {second}"):
            accessed(second, ELSEWHERE)


@pytest.mark.parametrize(("other", "words"), [(LAST, "another warp"), (ELSEWHERE, "another program")])
def test_several_at_once(other, words):
    with pytest.raises(MachineError, match=words):
        Accessed()(WRITTEN, [FIRST, other])
    with pytest.raises(MachineError, match=words):
        Accessed()(WRITTEN, [FIRST, FIRST + 1, FIRST, other, FIRST])
    for kind in (READ, ATOMIC):
        accessed = Accessed()
        accessed(kind, [FIRST, other, FIRST])
        # None of them is forgotten.
        for one in (FIRST, other):
            with pytest.raises(MachineError, match=f"{words} has {kind} .*is written"):
                accessed(WRITTEN, one)
    # Three at once, of which two are in one program.
    for three in itertools.permutations([FIRST, LAST, ELSEWHERE]):
        accessed = Accessed()
        accessed(READ, three)
        accessed.waited += 1
        with pytest.raises(MachineError, match="another program has read is written"):
            accessed(WRITTEN, FIRST)


def test_accesses_of_any_size_are_told_apart():
    accessed = Accessed()
    accessed(WRITTEN, FIRST, 0, 16)
    accessed(WRITTEN, ELSEWHERE, 16, 8)
    accessed(WRITTEN, 2 * ELSEWHERE, 24, 2)
    accessed(WRITTEN, 3 * ELSEWHERE, 26, 1)
    accessed(WRITTEN, 4 * ELSEWHERE, 27, 1)
    accessed(READ, FIRST, 15, 1)
    for offset in range(16, 28):
        with pytest.raises(MachineError, match="another program has written is read"):
            accessed(READ, FIRST, offset, 1)
    with pytest.raises(MachineError, match="another program has written is read"):
        accessed(READ, FIRST, 0, 32)
    accessed(WRITTEN, FIRST, 32, 32)


def test_sectors_of_warps():
    threads = np.arange(64)
    assert sectors(threads, 4096 + 4 * threads) == 8
    assert sectors(threads, np.full(64, 4100)) == 2
    assert sectors(threads[::-1], 4096 + 4 * threads) == sectors(threads, 4096 + 4 * threads[::-1]) == 8
    assert sectors(threads, 4096 + 32 * threads) == 64
    # Two warps that ask for the same, in another order.
    assert sectors(threads, 4096 + 32 * (threads * 7 % 4)) == 8
    assert sectors(threads[:0], threads[:0]) == 0


def numbered(count):
    return [np.arange(count, dtype=np.uint32)]


def test_every_program_has_its_own_shared_memory():
    shared, threads = Shared(2, 20, 32), np.array([0, 31, 32, 63])
    assert shared.load(threads, 4 * np.arange(4), np.uint32)[0].tolist() == [2**32 - 1] * 4
    shared.store(threads, np.array([0, 16, 0, 16]), numbered(4))
    assert shared.load(threads, np.array([16, 0, 16, 0]), np.uint32)[0].tolist() == [1, 0, 3, 2]
    for offset, words in ((20, "outside"), (-4, "outside"), (2, "multiple")):
        with pytest.raises(MachineError, match=words):
            shared.load(threads, np.array([0, 0, 0, offset]), np.uint32)
    with pytest.raises(MachineError, match="outside"):
        shared.load(threads, np.full(4, 16), np.uint32, 4)


# Threads 0 and 1 are in one warp, 32 in another.
ONE, ANOTHER, BOTH = np.array([0, 1]), np.array([32]), np.array([0, 32])


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (lambda s: s.store(ONE, 4 * ONE, numbered(2)), lambda s: s.load(ANOTHER, np.array([0]), np.uint8)),
        (lambda s: s.store(ONE, 4 * ONE, numbered(2)), lambda s: s.store(ANOTHER, np.array([0]), [np.uint8([9])])),
        (lambda s: s.load(ONE, 4 * ONE, np.uint32), lambda s: s.store(ANOTHER, np.array([4]), numbered(1))),
        (lambda s: s.load(BOTH, 0 * BOTH, np.uint32), lambda s: s.store(ONE[:1], ONE[:1], numbered(1))),
    ],
    ids=["read of what another warp wrote", "written twice", "written after it was read", "read by both"],
)
def test_a_barrier_puts_warps_in_order(first, second):
    shared = Shared(1, 16, 64)
    first(shared)
    with pytest.raises(MachineError, match="since the last barrier"):
        second(shared)
    shared = Shared(1, 16, 64)
    first(shared)
    shared.order()
    second(shared)


def test_warps_may_write_the_same_but_not_differ():
    shared = Shared(2, 16, 64)
    shared.store(BOTH, 0 * BOTH, [np.uint32([5, 5])])
    shared.store(ANOTHER, 0 * ANOTHER, [np.uint32([5])])
    for threads in (BOTH, ONE):
        with pytest.raises(MachineError, match="different values"):
            shared.store(threads, 0 * threads + 4, [np.uint32([5, 6])])


def test_what_needs_no_barrier():
    shared = Shared(2, 16, 64)
    # Of one warp, of other bytes, of another program, or reading alone.
    shared.store(ONE, 4 * ONE, numbered(2))
    shared.load(ONE, 0 * ONE, np.uint32)
    shared.store(ANOTHER, 0 * ANOTHER + 12, numbered(1))
    shared.store(ANOTHER + 64, 0 * ANOTHER, numbered(1))
    shared.load(BOTH, 0 * BOTH + 8, np.uint32)
