"""Threads go their own ways, wait for each other, and are counted."""

import numpy as np
import pytest

from bench.emulation.machine import MachineError
from tests.bench.emulation.snippets import aligned, execute, results


def test_uniform_values_and_special_registers():
    out = np.zeros(2 * 32, np.uint32)
    body = """
    mov.u32 %r1, %ctaid.x;
    mov.u32 %r2, %nctaid.x;
    mad.lo.u32 %r3, %r1, 32, %r0;
    mad.wide.u32 %rd1, %r3, 4, %rd99;
    mad.lo.u32 %r4, %r2, 1000, %r3;
    st.global.b32 [%rd1], %r4;
    """
    execute(body, out, programs=2)
    assert out.tolist() == [2000 + i for i in range(64)]


def test_loops_with_different_trip_counts():
    body = """
    mov.b32 %r1, 0;
    mov.b32 %r2, %r0;
    setp.eq.s32 %p1, %r0, 0;
    @%p1 bra $L__BB0_2;
    $L__BB0_1:
    add.s32 %r1, %r1, %r2;
    add.s32 %r2, %r2, -1;
    setp.gt.s32 %p2, %r2, 0;
    @%p2 bra $L__BB0_1;
    $L__BB0_2:
    """
    assert results(body, threads=64).tolist() == [i * (i + 1) // 2 for i in range(64)]
    out = np.zeros(64, np.uint32)
    counts = execute(body + "st.global.b32 [%rd0], %r1;", out, threads=64).instructions
    # The first warp goes around 31 times, the second 63 times; the others wait behind the loop.
    assert counts["setp.gt.s32"] == 31 + 63 and counts["st.global.b32"] == 2


def test_both_sides_of_a_branch():
    body = """
    shfl.sync.idx.b32 %r3, %r0, 0, 31, -1;
    setp.lt.u32 %p1, %r0, 48;
    mov.b32 %r2, 5;
    @!%p1 bra $L__BB0_1;
    add.u32 %r1, %r0, %r2;
    mov.b32 %r2, 6;
    bra.uni $L__BB0_2;
    $L__BB0_1:
    mul.lo.u32 %r1, %r0, %r2;
    $L__BB0_2:
    shfl.sync.bfly.b32 %r4, %r1, 1, 31, -1;
    mad.lo.u32 %r1, %r4, 100, %r2;
    """
    wanted = [i + 5 if i < 48 else 5 * i for i in range(64)]
    assert results(body, threads=64).tolist() == [100 * wanted[i ^ 1] + (6 if i < 48 else 5) for i in range(64)]


def test_some_threads_may_end_first():
    out = np.zeros(32, np.uint32)
    execute("setp.lt.u32 %p1, %r0, 9;\n@%p1 ret;\nst.global.b32 [%rd0], %r0;", out)
    assert out.tolist() == [0] * 9 + list(range(9, 32))


EXCHANGE = """
    shl.b32 %r2, %r0, 2;
    xor.b32 %r3, %r2, 128;
    st.shared.b32 [%r2], %r0;
    {barrier}
    ld.shared.b32 %r1, [%r3];
"""


def test_a_barrier():
    found = results(EXCHANGE.format(barrier="bar.sync 0;"), threads=64, shared=256)
    assert found.tolist() == [i ^ 32 for i in range(64)]
    with pytest.raises(MachineError, match="since the last barrier"):
        results(EXCHANGE.format(barrier=""), threads=64, shared=256)
    with pytest.raises(MachineError, match="since the last barrier"):
        results(EXCHANGE.format(barrier="bar.warp.sync -1;"), threads=64, shared=256)
    # A loop whose second round writes what the other warp may still be reading.
    loop = "mov.b32 %r4, 0;\n$L__BB0_1:" + EXCHANGE.format(barrier="bar.sync 0;") + "add.s32 %r4, %r4, 1;\n{end}"
    loop = loop.replace("[%r2], %r0", "[%r2], %r4") + "\nsetp.lt.s32 %p1, %r4, 2;\n@%p1 bra $L__BB0_1;"
    assert results(loop.format(end="bar.sync 0;"), threads=64, shared=256).tolist() == [1] * 64
    with pytest.raises(MachineError, match="since the last barrier"):
        results(loop.format(end=""), threads=64, shared=256)


@pytest.mark.parametrize(
    "body",
    [
        "@%p1 bra $L__BB0_1;\nbar.sync 0;\n$L__BB0_1:",
        "@%p1 ret;\nbar.sync 0;",
        "@%p1 bra $L__BB0_1;\nbar.sync 0;\nbra.uni $L__BB0_2;\n$L__BB0_1:\nbar.sync 0;\n$L__BB0_2:",
    ],
    ids=["passed by", "ended before", "another one"],
)
@pytest.mark.parametrize("threads", [32, 16])
def test_barriers_at_which_not_all_threads_arrive(body, threads):
    with pytest.raises(MachineError, match="same barrier"):
        execute(f"setp.lt.u32 %p1, %r0, {threads};\n{body}", np.zeros(64, np.uint32), threads=64)


def test_programs_wait_for_their_own_threads_alone():
    out = np.zeros(2 * 64, np.uint32)
    body = """
    mov.u32 %r5, %ctaid.x;
    mad.lo.u32 %r6, %r5, 64, %r0;
    mad.wide.u32 %rd1, %r6, 4, %rd99;
    setp.eq.u32 %p1, %r5, 1;
    @%p1 ret;
    """
    body += EXCHANGE.format(barrier="bar.sync 0;") + "st.global.b32 [%rd1], %r1;"
    execute(body, out, programs=2, threads=64, shared=256)
    assert out.tolist() == [i ^ 32 for i in range(64)] + [0] * 64


# %r8 is the program, and %rd2 the place of number %r9 in the first argument.
PLACE = "mov.u32 %r8, %ctaid.x;\n{number}\nmad.wide.u32 %rd2, %r9, 4, %rd99;\n"
OWN, COMMON = PLACE.format(number="mov.b32 %r9, %r8;"), PLACE.format(number="mov.b32 %r9, 0;")
NEXT = PLACE.format(number="add.u32 %r9, %r8, 1;\nrem.u32 %r9, %r9, {programs};")
ONE_THREAD = "setp.eq.u32 %p1, %r0, 0;\n"


# Of one batch, and of several.
@pytest.mark.parametrize("programs", [2, 4096])
def test_programs_are_in_no_order(programs):
    def run(body):
        numbers = np.zeros(programs, np.uint32)
        execute(ONE_THREAD + body.replace("{programs}", str(programs)), numbers, programs=programs)
        return numbers.tolist()

    write, read = "@%p1 st.global.b32 [%rd2], %r8;\n", "ld.global.b32 %r1, [%rd2];\n"
    add = "@%p1 atom.global.gpu.relaxed.add.u32 %r2, [%rd2], 1;\n"
    add_unseen = "@%p1 red.global.gpu.relaxed.add.u32 [%rd2], 1;\n"
    assert run(OWN + write + read + write) == list(range(programs))
    assert run(COMMON + read + NEXT + read) == [0] * programs
    assert run(COMMON + add + add_unseen) == [2 * programs] + [0] * (programs - 1)
    assert run(OWN + "mov.u32 %r8, 0;\n" + add + read + write) == [0] * programs
    for first, second in ((write, "written"), (add, "atomically changed")):
        for other in (read, write):
            with pytest.raises(MachineError, match=f"another program has {second} is"):
                run(OWN + first + NEXT + other)
    with pytest.raises(MachineError, match="another program has read is written"):
        run(OWN + read + NEXT + write)
    with pytest.raises(MachineError, match="another program has written is written"):
        run(COMMON + write)
    # Even of the same value: with other arguments it may be another one.
    with pytest.raises(MachineError, match="another program has written is written"):
        run(COMMON + "mov.b32 %r8, 7;\n" + write)
    # By two programs alone, which have the same place in their batches.
    two = f"rem.u32 %r9, %r8, {programs // 2};\nsetp.eq.u32 %p2, %r9, 0;\nand.pred %p1, %p1, %p2;\n"
    with pytest.raises(MachineError, match="another program has written is written"):
        run(COMMON + two + write)


def test_programs_may_write_parts_of_a_word():
    halves = np.zeros(6000, np.uint16)
    body = "mov.u32 %r8, %ctaid.x;\nmad.wide.u32 %rd2, %r8, 2, %rd99;\ncvt.u16.u32 %rs1, %r8;\n" + ONE_THREAD
    execute(body + "@%p1 st.global.b16 [%rd2], %rs1;\nld.global.b16 %rs2, [%rd2];", halves, programs=6000)
    assert (halves == np.arange(6000)).all()
    with pytest.raises(MachineError, match="another program has written is read"):
        execute(body + "@%p1 st.global.b16 [%rd2], %rs1;\nld.global.b16 %rs2, [%rd99];", halves, programs=6000)


def test_a_launch_is_in_order_with_the_next():
    numbers = np.zeros(4, np.uint32)
    for body in (
        OWN + "@%p1 st.global.b32 [%rd2], %r8;",
        COMMON + "ld.global.b32 %r1, [%rd2];",
        OWN + "@%p1 st.global.b32 [%rd2], %r0;",
    ):
        execute(ONE_THREAD + body, numbers, programs=4)


IN_MEMORY = """
    xor.b32 %r3, %r0, 32;
    mad.wide.u32 %rd3, %r3, 4, %rd99;
    st.global.b32 [%rd0], %r0;
    {barrier}
    ld.global.b32 %r1, [%rd3];
    {second}
    st.global.b32 [%rd0], %r1;
"""


def test_a_barrier_orders_what_is_in_the_arguments():
    numbers = np.zeros(64, np.uint32)
    execute(IN_MEMORY.format(barrier="bar.sync 0;", second="bar.sync 0;"), numbers, threads=64)
    assert numbers.tolist() == [i ^ 32 for i in range(64)]
    for barrier in ("", "bar.warp.sync -1;"):
        with pytest.raises(MachineError, match="another warp has written since the last barrier is read"):
            execute(IN_MEMORY.format(barrier=barrier, second="bar.sync 0;"), numbers, threads=64)
        with pytest.raises(MachineError, match="another warp has read since the last barrier is written"):
            execute(IN_MEMORY.format(barrier="bar.sync 0;", second=barrier), numbers, threads=64)


def test_threads_of_a_warp_write_the_same():
    numbers = np.zeros(1, np.uint32)
    for kind, value, bits in (("b32", "5", 5), ("f32", "0f7FC00000", 0x7FC00000)):
        execute(f"st.global.{kind} [%rd99], {value};", numbers)
        assert numbers.tolist() == [bits]
    with pytest.raises(MachineError, match="different values to the same memory"):
        execute("st.global.b32 [%rd99], %r0;", numbers)
    # By several warps it is none of theirs.
    with pytest.raises(MachineError, match="another warp has written"):
        execute("st.global.b32 [%rd99], 5;", numbers, threads=64)


def test_registers_that_nobody_has_set_are_no_numbers():
    assert (results("add.u32 %r1, %r9, 0;") == 0xFFFFFFFF).all()
    body = "setp.lt.u32 %p1, %r0, 16;\n@%p1 mov.b32 %r1, 3;"
    assert results(body).tolist() == [3] * 16 + [0xFFFFFFFF] * 16
    body = "setp.lt.u32 %p1, %r0, 16;\n@%p1 bra $L__BB0_1;\nmov.b32 %r1, 3;\n$L__BB0_1:"
    assert results(body).tolist() == [0xFFFFFFFF] * 16 + [3] * 16
    assert np.isnan(results("ld.shared.b32 %r1, [global_smem+4];", shared=8).view(np.float32)).all()


def test_counts():
    numbers = aligned(96, np.uint32)
    body = "setp.lt.u32 %p1, %r0, 0;\n@%p1 st.global.b32 [%rd0], %r0;\nld.global.b32 %r1, [%rd0];\nadd.s32 %r1, %r1, 1;"
    counts = execute(body, numbers, threads=96)
    # An instruction that no thread takes part in is executed, too.
    assert counts.instructions["st.global.b32"] == counts.instructions["ret"] == 3
    # The address, and what is above, but no move, no parameter and no end.
    assert counts.executed == 3 * 5 and counts.wide_integers == 3
    assert counts.store_sectors == counts.written_bytes == 0
    assert counts.load_sectors == 12 and counts.read_bytes == 384


def test_many_programs_are_executed_bit_by_bit():
    """More threads than advance together."""
    programs = 3000
    out = np.zeros(programs * 32, np.uint32)
    body = "mov.u32 %r5, %ctaid.x;\nmad.lo.u32 %r6, %r5, 32, %r0;\nmad.wide.u32 %rd1, %r6, 4, %rd99;\n"
    counts = execute(body + "st.global.b32 [%rd1], %r6;", out, programs=programs)
    assert (out == np.arange(programs * 32)).all() and counts.instructions["st.global.b32"] == programs
