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
