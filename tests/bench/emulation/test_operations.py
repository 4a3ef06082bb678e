"""What single instructions do to memory and to other threads."""

import numpy as np
import pytest

from bench.emulation.machine import MachineError
from tests.bench.emulation.snippets import aligned, execute, results

LANES = np.arange(32, dtype=np.uint32)


def test_moves_of_parts():
    found = results(
        "mov.b32 %r2, 0x00070003; mov.b32 {%rs1, %rs2}, %r2; mov.b32 %r1, {%rs2, %rs1};".replace("; ", ";\n")
    )
    assert (found == 0x00030007).all()
    body = "mov.b64 %rd1, {%r0, 5};\nmov.b64 {_, %r2}, %rd1;\nmov.b64 {%r3, _}, %rd1;\nmad.lo.u32 %r1, %r3, 10, %r2;"
    assert (results(body) == 10 * LANES + 5).all()


def test_numbers_that_are_said_to_have_no_sign():
    """As Triton 3.8 writes the selectors of permutations."""
    assert (results("shl.b32 %r2, %r0, 8;\nprmt.b32 %r1, %r2, %r0, 0x3241U;") == LANES * 0x101).all()


def test_a_copy_is_a_register_of_its_own():
    """Registers are changed in place where only some threads execute."""
    body = """
    add.u32 %r2, %r0, 100;
    mov.b32 %r3, %r2;
    mov.b32 {%rs1, %rs2}, %r2;
    setp.lt.u32 %p1, %r0, 16;
    @%p1 bra $L__BB0_1;
    mov.b32 %r2, 7;
    $L__BB0_1:
    mov.b32 %r3, %r2;
    @%p1 bra $L__BB0_2;
    mov.b32 %r2, 9;
    $L__BB0_2:
    mad.lo.u32 %r1, %r2, 1000, %r3;
    """
    assert results(body).tolist() == [1001 * (100 + i) for i in range(16)] + [9007] * 16


def test_wide_and_narrow_accesses():
    numbers, out = aligned(128, np.uint32), aligned(128, np.uint32)
    numbers[:] = np.arange(128)
    body = """
    ld.param.b64 %rd1, [snippet_param_1];
    mad.wide.u32 %rd2, %r0, 16, %rd1;
    mad.wide.u32 %rd3, %r0, 16, %rd99;
    ld.global.L1::evict_first.v4.b32 {%r1, %r2, %r3, %r4}, [ %rd2 + 0 ];
    st.global.v2.b32 [ %rd3 + 8 ], {%r1, %r2};
    st.global.v2.b32 [ %rd3 + 0 ], {%r3, %r4};
    """
    counts = execute(body, out, numbers)
    assert (out.reshape(32, 4) == numbers.reshape(32, 4)[:, [2, 3, 0, 1]]).all()
    assert (counts.load_sectors, counts.store_sectors) == (16, 32)
    assert counts.read_bytes == counts.written_bytes == 512
    halves = np.array([0xFFFF, 0x8001] * 16, np.uint16)
    body = """
    ld.param.b64 %rd1, [snippet_param_1];
    mad.wide.u32 %rd2, %r0, 2, %rd1;
    ld.global.b8 %rs1, [%rd2];
    ld.global.s8 %rs2, [%rd2+1];
    ld.global.s16 %r2, [%rd2];
    cvt.u32.u16 %r1, %rs1;
    cvt.s32.s16 %r3, %rs2;
    shl.b32 %r1, %r1, 16;
    and.b32 %r3, %r3, 0xFFFF;
    or.b32 %r1, %r1, %r3;
    shr.u32 %r2, %r2, 16;
    add.u32 %r1, %r1, %r2;
    """
    # The sign of a narrow number fills its register.
    assert (results(body, halves) == [0xFF0000 + 0xFFFF + 0xFFFF, 0x010000 + 0xFF80 + 0xFFFF] * 16).all()


def test_guards_choose_threads():
    out = np.full(32, 50, np.uint32)
    body = (
        "setp.lt.u32 %p1, %r0, 3;\n@%p1 st.global.b32 [%rd0], %r0;\nmov.b32 %r2, 8;\n@!%p1 ld.global.b32 %r2, [%rd0];\n"
    )
    execute(body + "add.u32 %r2, %r2, %r0;\n@!%p1 st.global.b32 [%rd0], %r2;", out)
    assert out.tolist() == [0, 1, 2, *range(53, 82)]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("st.global.b32 [%rd0+4], %r0;", "outside"),
        ("ld.global.b32 %r1, [%rd0+-4];", "outside"),
        ("ld.global.b64 %rd1, [%rd0];", "multiple"),
        ("st.shared.b32 [global_smem+64], %r0;", "outside"),
        ("add.s32 %r1, %r0, 0;\nld.shared.b32 %r2, [%r1];", "multiple"),
        ("ld.param.b64 %rd1, [snippet_param_7];", "parameter"),
        ("ld.global.v2.b32 %r1, [%rd0];", "2 registers"),
        ("mov.u32 %r1, %clock;", "clock"),
        ("add.f32 %r1, %r0, 0d3FF0000000000000;", "0d3FF"),
        ("add.u64 %rd1, %r0, 1;", "fewer bits"),
        ("cvt.u64.u32 %r1, %r0;", "%r1"),
        ("setp.lt.s32 %r1, %r0, 1;", "%r1"),
        ("setp.lt.s32 %p1|%p2, %r0, 1;", "p1.%p2"),
        ("selp.b32 %r1, %r0, 1, %r0;", "predicates"),
        ("add.sat.s32 %r1, %r0, 1;", "add.sat.s32"),
        ("add.s32 %r1, %r0, 1, 2;", "add.s32"),
        ("prmt.b32.f4e %r1, %r0, %r0, 1;", "prmt.b32.f4e"),
        ("atom.global.gpu.relaxed.add.f32 %r1, [%rd0], %r0;", "atom.global.gpu.relaxed.add.f32"),
        ("ld.volatile.global.b32 %r1, [%rd0];", "ld.volatile"),
        ("bar.sync 1;", "bar.sync"),
        ("bar.sync 0, 32;", "bar.sync"),
        ("@%p1 bar.sync 0;", "bar.sync"),
        ("shfl.sync.bfly.b32 %r1|%p1, %r0, 1, 31, -1;", "%r1.%p1"),
        ("shfl.sync.bfly.b32 %r1, %r0, 1, 31, 0x7FFFFFFF;", "part of a warp"),
        ("setp.lt.u32 %p1, %r0, 31;\n@%p1 shfl.sync.bfly.b32 %r1, %r0, 1, 31, -1;", "without all"),
        ("setp.lt.u32 %p1, %r0, 31;\n@%p1 redux.sync.add.s32 %r1, %r0, -1;", "without all"),
        ("setp.lt.u32 %p1, %r0, 31;\n@%p1 bra $L__BB0_1;\nbar.warp.sync -1;\n$L__BB0_1:", "without all"),
    ],
)
def test_what_is_wrong_or_not_emulated(body, words):
    with pytest.raises(MachineError, match=words):
        execute(body, aligned(32, np.uint32), shared=64)


def test_a_sum_in_memory():
    """Every thread finds what those before it have added."""
    out, total = np.zeros(64, np.uint32), np.array([5, 100], np.uint32)
    body = """
    ld.param.b64 %rd1, [snippet_param_1];
    and.b32 %r2, %r0, 1;
    mad.wide.u32 %rd2, %r2, 4, %rd1;
    setp.ge.u32 %p1, %r0, 2;
    @%p1 atom.global.gpu.relaxed.add.u32 %r1, [ %rd2 + 0 ], %r0;
    @%p1 st.global.b32 [%rd0], %r1;
    """
    execute(body, out, total, threads=64)
    even, odd = list(range(2, 64, 2)), list(range(3, 64, 2))
    assert total.tolist() == [5 + sum(even), 100 + sum(odd)]
    assert out[2::2].tolist() == [5 + sum(even[:i]) for i in range(31)]
    assert out[3::2].tolist() == [100 + sum(odd[:i]) for i in range(31)]


@pytest.mark.parametrize(
    ("opcode", "wanted"), [("add.u32", [sum(range(64)), 77]), ("max.s32", [63, 77]), ("min.u32", [0, 77])]
)
def test_threads_that_do_not_want_what_they_found_in_memory(opcode, wanted):
    total = aligned(2, np.uint32)
    total[1] = 77
    body = f"ld.param.b64 %rd1, [snippet_param_0];\nred.global.gpu.relaxed.{opcode} [ %rd1 + 0 ], %r0;"
    counts = execute(body, total, threads=64)
    assert total.tolist() == wanted
    assert (counts.read_bytes, counts.written_bytes) == (0, 32)


@pytest.mark.parametrize(
    ("opcode", "start", "sequence"),
    [
        ("max.s32", -5, [-5, -3, 7, 7, 7, 9]),
        ("min.u32", 2**32 - 5, [2**32 - 5, 2**32 - 5, 7, 1, 1, 1]),
    ],
)
def test_the_largest_and_the_smallest_in_memory(opcode, start, sequence):
    """Every thread finds what those before it have left, and the last one's is there."""
    own = np.array([-3, 7, 1, 4, 9, 2], np.int32).view(np.uint32)
    out, extreme, numbers = (
        np.zeros(32, np.uint32),
        np.array([start & 0xFFFFFFFF, 77], np.uint32),
        aligned(32, np.uint32),
    )
    numbers[:6] = own
    body = f"""
    ld.param.b64 %rd1, [snippet_param_1];
    ld.param.b64 %rd2, [snippet_param_2];
    mad.wide.u32 %rd3, %r0, 4, %rd2;
    ld.global.b32 %r2, [%rd3];
    setp.lt.u32 %p1, %r0, 6;
    @%p1 atom.global.gpu.relaxed.{opcode} %r1, [ %rd1 + 0 ], %r2;
    @%p1 st.global.b32 [%rd0], %r1;
    """
    execute(body, out, extreme, numbers)
    assert out[:6].tolist() == [v & 0xFFFFFFFF for v in sequence]
    assert extreme.tolist() == [9 if opcode == "max.s32" else 1, 77]


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("bfly.b32 %r1, %r0, 5, 31", lambda i: i ^ 5),
        ("up.b32 %r1, %r0, 3, 0", lambda i: i - 3 if i >= 3 else i),
        ("down.b32 %r1, %r0, 3, 31", lambda i: i + 3 if i + 3 < 32 else i),
        ("idx.b32 %r1, %r0, 37, 31", lambda i: 5),
        ("idx.b32 %r1, %r0, %r2, 31", lambda i: 2 * i % 32),
        # Segments of eight threads, and bounds within them.
        ("bfly.b32 %r1, %r0, 9, 0x181F", lambda i: i ^ 9 if i ^ 9 <= (i & 24) + 7 else i),
        ("up.b32 %r1, %r0, 3, 0x1800", lambda i: i - 3 if i % 8 >= 3 else i),
        ("down.b32 %r1, %r0, 3, 0x181F", lambda i: i + 3 if i % 8 < 5 else i),
        ("idx.b32 %r1, %r0, 10, 0x181F", lambda i: i // 8 * 8 + 2),
        ("down.b32 %r1, %r0, 1, 0x1805", lambda i: i + 1 if i % 8 + 1 <= 5 else i),
    ],
)
def test_shuffles(text, source):
    body = f"add.u32 %r2, %r0, %r0;\nshfl.sync.{text}, -1;"
    assert results(body, threads=64).tolist() == [i // 32 * 32 + source(i % 32) for i in range(64)]


def test_reductions_over_a_warp():
    numbers = np.random.default_rng(0).integers(0, 2**32, 64, dtype=np.uint32)

    def reduced(opcode, of=numbers):
        body = "ld.param.b64 %rd1, [snippet_param_1];\nmad.wide.u32 %rd2, %r0, 4, %rd1;\nld.global.b32 %r2, [%rd2];\n"
        return results(body + f"redux.sync.{opcode} %r1, %r2, -1;", of, threads=64).reshape(2, 32)

    each, signed = numbers.reshape(2, 32), numbers.view(np.int32).reshape(2, 32)
    wanted = {"add.s32": each.sum(1, dtype=np.uint32), "and.b32": np.bitwise_and.reduce(each, 1)}
    wanted |= {"min.s32": signed.min(1).view(np.uint32), "max.s32": signed.max(1).view(np.uint32)}
    wanted |= {"min.u32": each.min(1), "max.u32": each.max(1), "or.b32": np.bitwise_or.reduce(each, 1)}
    for opcode, value in wanted.items():
        assert (reduced(opcode) == value[:, None]).all(), opcode
    floats = np.arange(64, dtype=np.float32) - 40
    floats[5] = floats[40] = np.nan
    assert (reduced("max.f32", floats).view(np.float32) == [[-9], [23]]).all()
    assert (reduced("min.f32", floats).view(np.float32) == [[-40], [-8]]).all()


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("count", [1, 2, 4])
def test_matrices(count, transposed):
    """Threads hold two neighbours of a row, or of a column."""
    trans = ".trans" if transposed else ""
    opcode = f"sync.aligned.m8n8.x{count}{trans}.shared.b16"
    registers = [f"%r{10 + i}" for i in range(count)]
    names = ", ".join(registers)
    # The first eight threads have the addresses of the first matrix, and so on; those of the others are out of bounds.
    rows = f"""
    setp.lt.u32 %p1, %r0, {8 * count};
    shl.b32 %r2, %r0, 4;
    selp.b32 %r3, %r2, 1, %p1;
    mad.wide.u32 %rd2, %r0, 16, %rd99;
    """
    row = "%r4, %r5, %r6, %r7"
    fetch = f"@%p1 ld.global.v4.b32 {{{row}}}, [%rd2];\n@%p1 st.shared.v4.b32 [%r2], {{{row}}};\n"
    put = "".join(f"st.global.b32 [%rd0+{128 * i}], {name};\n" for i, name in enumerate(registers))
    matrices = aligned(64 * count, np.uint16).reshape(count, 8, 8)
    numbers = np.arange(64 * count).reshape(count, 8, 8)
    matrices[:] = numbers
    execute(f"{rows}{fetch}ldmatrix.{opcode} {{{names}}}, [%r3];\n{put}", matrices, shared=128 * count)
    assert (matrices == (numbers.swapaxes(1, 2) if transposed else numbers)).all()
    # Stored like this again, they are what they were.
    get = "".join(f"ld.global.b32 {name}, [%rd0+{128 * i}];\n" for i, name in enumerate(registers))
    back = f"@%p1 ld.shared.v4.b32 {{{row}}}, [%r2];\n@%p1 st.global.v4.b32 [%rd2], {{{row}}};\n"
    execute(f"{rows}{get}stmatrix.{opcode} [%r3], {{{names}}};\n{back}", matrices, shared=128 * count)
    assert (matrices == numbers).all()
