"""PTX as Triton writes it is read, and other PTX is not."""

import pytest

from bench.emulation.ptx import Instruction, is_free, is_wide_integer, parse
from tests.bench.emulation.snippets import text

LOOP = """
	.reg .pred 	%p<2>;
	.loc	1 101 0                         // loop.py:101:0
$L__func_begin0:
// %bb.0:
	mov.u32 	%r1, %tid.x;
$L__BB0_1:                              // =>This Inner Loop Header: Depth=1
	// begin inline asm
	@!%p1 st.shared::cta.v2.b32 [ %r65 + -4 ], { %r1, %r2 };
	// end inline asm
	bar.sync 	0;
$L__tmp3:
	add.s32 	%r1, %r1, -1;
	@%p1 bra 	$L__BB0_1;
	ret;
$L__func_end0:
"""


def test_a_kernel_of_tritons_form():
    kernel = parse(text(LOOP, arguments=2, threads=64))
    assert (kernel.name, kernel.threads) == ("snippet", 64)
    assert kernel.parameters == ("snippet_param_0", "snippet_param_1")
    # Blocks end at labels that are branched to, and behind branches and barriers; other labels do not count.
    assert [[each.opcode for each in block] for block in kernel.blocks] == [
        ["mov.u32"],
        ["st.shared.v2.b32", "bar.sync"],
        ["add.s32", "bra"],
        ["ret"],
        [],
    ]
    assert kernel.labels == {"$L__BB0_1": 1}
    assert kernel.blocks[1][0] == Instruction("st.shared.v2.b32", ("%r65+-4", ("%r1", "%r2")), "%p1", negated=True)
    assert kernel.blocks[2][1] == Instruction("bra", ("$L__BB0_1",), "%p1")
    assert kernel.blocks[0][0].name == "mov"


@pytest.mark.parametrize(
    ("module", "words"),
    [
        ("", "no kernel"),
        (text("ret;") + text("ret;"), "several"),
        (text("ret;").replace(".reqntid 32\n", ""), "no kernel"),
        (text("add.s32 %r1, %r1, 1; ret;"), "not an instruction"),
        (text("@%q1 ret;"), "not an instruction"),
        (text(".shared .align 4 .b8 more[16];\nret;"), "not an instruction"),
        (text("bra $L__BB0_1;"), "labels"),
    ],
)
def test_another_form(module, words):
    with pytest.raises(ValueError, match=words):
        parse(module)


def test_kinds_of_instructions():
    assert is_free("mov.b32") and is_free("ld.param.b64") and is_free("ret")
    assert not any(map(is_free, ("ld.global.b32", "add.s32", "bra.uni", "bar.sync")))
    assert all(map(is_wide_integer, ("add.s64", "mad.wide.u32", "shl.b64", "setp.lt.u64", "cvt.s64.s32")))
    assert not any(map(is_wide_integer, ("add.s32", "ld.global.b64", "st.global.v2.b64", "mov.u64", "fma.rn.f32x2")))
