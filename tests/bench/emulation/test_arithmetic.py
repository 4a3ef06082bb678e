"""Instructions calculate what the PTX ISA says, bit by bit where it does."""

import math
import operator
from fractions import Fraction

import numpy as np
import pytest
import torch

from bench.emulation.arithmetic import CALCULATIONS, TYPES

TINY, LARGEST = np.finfo(np.float32).tiny, np.finfo(np.float32).max
NUMBERS = np.array([0.0, -0.0, 1.0, -1.5, 2.5, TINY, TINY / 4, -TINY / 4, LARGEST, math.inf, -math.inf, math.nan], "f4")
CORNERS = [0, 1, 2, 3, 7, 31, 32, 33, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xDEADBEEF, 0xFFFFFFFF]


@pytest.fixture(autouse=True)
def quiet():
    with np.errstate(all="ignore"):
        yield


def calculate(opcode, *values):
    values = [np.atleast_1d(v) for v in values]
    return CALCULATIONS[opcode, 1 + len(values)].function(*values)


def floats(*values):
    return np.array(values, np.float32)


def same(found, wanted):
    """Bits are the same, but of what is not a number."""
    found, wanted = np.asarray(found), np.asarray(wanted)
    assert found.dtype == wanted.dtype
    if found.dtype.kind == "f":
        assert (np.isnan(found) == np.isnan(wanted)).all()
        found, wanted = (np.where(np.isnan(v), 0, v).astype(v.dtype).view(f"u{v.itemsize}") for v in (found, wanted))
    assert found.tolist() == wanted.tolist()


def pairs(kind):
    """All pairs of some integers of a type."""
    type_ = np.dtype(TYPES[kind])
    size = 8 * type_.itemsize
    values = np.array([v << k & ((1 << size) - 1) for v in CORNERS for k in {0, size - 32} if k >= 0], f"u{size // 8}")
    x, y = np.meshgrid(values.view(type_), values.view(type_))
    return x.ravel(), y.ravel()


def wrapped(value, kind):
    """A Python integer as one of a type, without what does not fit."""
    type_ = np.dtype(TYPES[kind])
    size = 8 * type_.itemsize
    return np.array(value & ((1 << size) - 1), f"u{size // 8}").view(type_)[()]


def towards_zero(x, y):
    return abs(x) // abs(y) * (1 if (x < 0) == (y < 0) else -1)


INTEGER_OPERATIONS = {
    "add": operator.add,
    "sub": operator.sub,
    "mul.lo": operator.mul,
    "min": min,
    "max": max,
    "div": lambda x, y: towards_zero(x, y) if y else -1,
    "rem": lambda x, y: x - y * towards_zero(x, y) if y else x,
}


@pytest.mark.parametrize("kind", ["s16", "u16", "s32", "u32", "s64", "u64"])
def test_integers(kind):
    x, y = pairs(kind)
    both = list(zip(x.tolist(), y.tolist(), strict=True))
    for name, function in INTEGER_OPERATIONS.items():
        same(calculate(f"{name}.{kind}", x, y), np.array([wrapped(function(a, b), kind) for a, b in both]))
    z = x[::-1].copy()
    wanted = [wrapped(a * b + c, kind) for (a, b), c in zip(both, z.tolist(), strict=True)]
    same(calculate(f"mad.lo.{kind}", x, y, z), np.array(wanted))
    for name in ("lt", "le", "gt", "ge", "eq", "ne"):
        same(calculate(f"setp.{name}.{kind}", x, y), np.array([getattr(operator, name)(a, b) for a, b in both]))


@pytest.mark.parametrize(("kind", "wide"), [("s16", "s32"), ("u16", "u32"), ("s32", "s64"), ("u32", "u64")])
def test_wide_products(kind, wide):
    x, y = pairs(kind)
    z = np.arange(len(x)).astype(TYPES[wide]) - 99
    products = [a * b for a, b in zip(x.tolist(), y.tolist(), strict=True)]
    same(calculate(f"mul.wide.{kind}", x, y), np.array([wrapped(v, wide) for v in products]))
    size = 8 * x.itemsize
    same(calculate(f"mul.hi.{kind}", x, y), np.array([wrapped(v >> size, kind) for v in products]))
    sums = [wrapped(v + int(c), wide) for v, c in zip(products, z, strict=True)]
    same(calculate(f"mad.wide.{kind}", x, y, z), np.array(sums))


@pytest.mark.parametrize("kind", ["b16", "b32", "b64", "s16", "s32", "s64", "u32"])
def test_shifts_beyond_the_width(kind):
    x, _ = pairs(kind)
    size = 8 * x.itemsize
    for by in (0, 1, size - 1, size, size + 1, 200, 0xFFFFFFFF):
        right = calculate(f"shr.{kind}", x, np.uint32(by))
        same(right, np.array([wrapped(v >> min(by, 64), kind) for v in x.tolist()]))
        if kind.startswith("b"):
            left = calculate(f"shl.{kind}", x, np.uint32(by))
            same(left, np.array([wrapped(v << min(by, 64), kind) for v in x.tolist()]))


@pytest.mark.parametrize("kind", ["u32", "s32"])
def test_extracted_bits(kind):
    def extract(value, start, length):
        """Bits beyond the end are the sign, or zero."""
        if not length:
            return 0
        bits = (value >> start) & ((1 << length) - 1)
        sign = kind == "s32" and value >> min(start + length - 1, 31) & 1
        return bits - (1 << length) if sign else bits

    values = np.array(CORNERS, np.uint32).view(TYPES[kind])
    for start in (0, 1, 5, 31, 32, 70, 255, 256):
        for length in (0, 1, 2, 8, 31, 32, 40, 100, 255, 257):
            found = calculate(f"bfe.{kind}", values, np.uint32(start), np.uint32(length))
            wanted = [wrapped(extract(v, start & 255, length & 255), kind) for v in values.tolist()]
            same(found, np.array(wanted))


def test_permuted_bytes():
    low, high = np.uint32([0x83828180, 0x44434241]), np.uint32([0x07060504, 0xC8C7C6C5])
    same(calculate("prmt.b32", low, high, np.uint32(0x3210)), low)
    same(calculate("prmt.b32", low, high, np.uint32(0x7654)), high)
    same(calculate("prmt.b32", low, high, np.uint32(0x5410)), np.uint32([0x05048180, 0xC6C54241]))
    # Each thread has a selector of its own; bits above the lowest 16 are ignored.
    same(calculate("prmt.b32", low, high, np.uint32([0x60, 0xFFFF0721])), np.uint32([0x80800680, 0x41C84342]))
    same(calculate("prmt.b32", low, high, np.uint32(0xFB88)), np.uint32([0x00FFFFFF, 0xFF000000]))


def test_bits():
    x = np.array(CORNERS, np.uint32)
    same(calculate("popc.b32", x), np.array([v.bit_count() for v in x.tolist()], np.uint32))
    same(calculate("popc.b64", x.astype(np.uint64) << np.uint64(9)), calculate("popc.b32", x))
    same(calculate("not.b32", x), x ^ np.uint32(0xFFFFFFFF))
    same(calculate("not.pred", np.array([True, False])), np.array([False, True]))
    same(calculate("neg.s32", x.view(np.int32)), (np.uint32(0) - x).view(np.int32))
    same(calculate("abs.s32", np.array([-5, 5, -(2**31)], np.int32)), np.array([5, 5, -(2**31)], np.int32))
    p = np.array([True, False])
    same(calculate("selp.b16", np.uint16([1, 2]), np.uint16([3, 4]), p), np.uint16([1, 4]))


def nearest(exact):
    """The float32 number that is nearest to a fraction, the even one of two."""
    about = np.float32(float(exact))
    near = [np.nextafter(about, np.float32(-math.inf)), about, np.nextafter(about, np.float32(math.inf))]
    return min(near, key=lambda v: (abs(Fraction(float(v)) - exact), int(v.view(np.uint32)) & 1))


def test_fused_products_are_rounded_once():
    unit, half = 2.0**-18, 2.0**-12
    # Almost halfway between two numbers: the first rounding of two would put it there.
    x, y = floats(half * (1 + unit)), floats(half * (1 - unit))
    odd = floats(1 + 2.0**-23)
    same(calculate("fma.rn.f32", x, y, odd), odd)
    same(calculate("fma.rn.f32", -x, y, -odd), -odd)
    generator = np.random.default_rng(0)
    x, y, z = (generator.standard_normal(300).astype("f4") * 2.0 ** generator.integers(-30, 3, 300) for _ in range(3))
    # Sums that cancel, and those of numbers of few bits, which often are halfway.
    z[:100] = -x[:100] * y[:100]
    few = [(np.round(v[100:200] * 2**6) / 2**6 + 1) for v in (x, y)]
    x[100:200], y[100:200], z[100:200] = few[0], few[1] * 2.0**-23, few[0]
    x, y, z = (v.astype("f4") for v in (x, y, z))
    exact = [Fraction(a) * Fraction(b) + Fraction(c) for a, b, c in zip(*(v.tolist() for v in (x, y, z)), strict=True)]
    same(calculate("fma.rn.f32", x, y, z), np.array([nearest(v) for v in exact]))
    # Of the smallest numbers, too, and what is not finite.
    x, y, least = floats(2.0**-75 * (1 + unit)), floats(2.0**-75 * (1 - unit)), floats(2.0**-149)
    same(calculate("fma.rn.f32", x, y, least), least)
    same(calculate("fma.rn.f32", x, x, least), 2 * least)
    same(
        calculate("fma.rn.f32", floats(math.inf, math.inf), floats(0, 1), floats(1, -math.inf)), floats(*[math.nan] * 2)
    )


def test_subnormal_numbers_are_zero_where_the_opcode_says_so():
    x = floats(TINY / 2, -TINY / 2, TINY, 1)
    same(calculate("mul.ftz.f32", x, floats(2)), floats(0, -0.0, 2 * TINY, 2))
    same(calculate("mul.f32", x, floats(2)), floats(TINY, -TINY, 2 * TINY, 2))
    same(calculate("fma.rn.ftz.f32", x, floats(0.5), floats(0)), floats(0, 0, 0, 0.5))
    same(calculate("setp.gt.ftz.f32", x, floats(0)), np.array([False, False, True, True]))
    same(calculate("rsqrt.approx.ftz.f32", floats(TINY / 2, 4)), floats(math.inf, 0.5))


def test_the_smaller_and_the_larger():
    nan = math.nan
    x, y = floats(0, -0.0, nan, 1, nan, -math.inf), floats(-0.0, 0, 1, nan, nan, nan)
    same(calculate("min.f32", x, y), floats(-0.0, -0.0, 1, 1, nan, -math.inf))
    same(calculate("max.f32", x, y), floats(0, 0, 1, 1, nan, -math.inf))
    # Of many numbers, numpy chooses between zeros in another way than of few.
    for zero in (floats(0), floats(-0.0)):
        same(calculate("min.f32", zero.repeat(64), -zero.repeat(64)), floats(-0.0).repeat(64))
        same(calculate("max.f32", zero.repeat(64), -zero.repeat(64)), floats(0).repeat(64))
    same(calculate("min.NaN.f32", x, y), floats(-0.0, -0.0, nan, nan, nan, nan))
    same(calculate("max.NaN.f32", x, y), floats(0, 0, nan, nan, nan, nan))
    z = floats(7, 7, 7, 7, 7, 7)
    same(calculate("max.f32", x, y, z), floats(7, 7, 7, 7, 7, 7))
    same(calculate("min.f32", x, y, z), floats(-0.0, -0.0, 1, 1, 7, -math.inf))
    same(calculate("min.NaN.f32", z, x, y), floats(-0.0, -0.0, nan, nan, nan, nan))
    assert z.tolist() == [7] * 6


def test_comparisons_with_what_is_not_a_number():
    x, y = floats(1, 2, 1, math.nan, 1, math.nan), floats(1, 1, 2, 1, math.nan, math.nan)
    ordered = [True] * 3 + [False] * 3
    for name in ("eq", "ne", "lt", "le", "gt", "ge"):
        plain = [getattr(operator, name)(a, b) for a, b in zip(x, y, strict=True)]
        same(calculate(f"setp.{name}.f32", x, y), np.array([a and b for a, b in zip(plain, ordered, strict=True)]))
        same(calculate(f"setp.{name}u.f32", x, y), np.array([a or not b for a, b in zip(plain, ordered, strict=True)]))
    same(calculate("setp.num.f32", x, y), np.array(ordered))
    same(calculate("setp.nan.f32", x, y), ~np.array(ordered))


def test_approximations():
    x = np.concatenate([2.0 ** np.linspace(-149, 127, 999), -(2.0 ** np.linspace(-126, 127, 99))]).astype("f4")
    y = np.roll(x, 77)
    exact = x.astype(float) / y
    within = (np.abs(exact) > TINY) & (np.abs(exact) < LARGEST)
    assert within.sum() > 500
    assert (np.abs(calculate("div.full.f32", x, y) / exact - 1)[within] < 2**-22).all()
    found = calculate("div.full.f32", floats(1, -1, 0, math.inf, 5), floats(0, 0, 0, math.inf, math.inf))
    same(found, floats(math.inf, -math.inf, math.nan, math.nan, 0))
    positive = np.abs(x)
    for name, function in (("sqrt", np.sqrt), ("lg2", np.log2), ("rcp", lambda v: 1 / v)):
        wanted = function(positive.astype(float)).astype("f4")
        assert np.allclose(calculate(f"{name}.approx.f32", positive), wanted, rtol=1e-6)
    assert np.allclose(calculate("ex2.approx.f32", floats(-127, -3, 0.5)), [2**-127, 0.125, 2**0.5], rtol=1e-6, atol=0)


def test_conversions_of_integers():
    x = np.array(CORNERS, np.uint32)
    same(calculate("cvt.u64.u32", x), x.astype(np.uint64))
    same(calculate("cvt.s64.s32", x.view(np.int32)), x.view(np.int32).astype(np.int64))
    same(calculate("cvt.u64.s32", x.view(np.int32)), x.view(np.int32).astype(np.int64).view(np.uint64))
    same(calculate("cvt.s8.u32", x), np.array([wrapped(v, "s8") for v in x.tolist()]))
    wanted = [nearest(Fraction(v)) for v in x.view(np.int32).tolist()]
    same(calculate("cvt.rn.f32.s32", x.view(np.int32)), np.array(wanted))


@pytest.mark.parametrize("kind", ["s32", "u32", "s64", "u64", "s16"])
def test_conversions_to_integers(kind):
    limits = np.iinfo(TYPES[kind])
    x = floats(0.5, 1.5, -0.5, -1.5, 2.7, -2.7, 3e38, -3e38, math.inf, -math.inf, math.nan, 2.0**31, 2.0**63, 0)
    for name, function in (("rni", round), ("rzi", math.trunc), ("rmi", math.floor), ("rpi", math.ceil)):
        wanted = []
        for v in x.tolist():
            whole = 0 if math.isnan(v) else function(v) if math.isfinite(v) else v
            wanted.append(TYPES[kind](min(max(whole, limits.min), limits.max)))
        same(calculate(f"cvt.{name}.{kind}.f32", x), np.array(wanted))
    same(calculate("cvt.rmi.f32.f32", floats(-1.5, 2.5)), floats(-2, 2))


@pytest.mark.parametrize(("kind", "dtype"), [("f16", torch.float16), ("bf16", torch.bfloat16)])
def test_halves(kind, dtype):
    generator = np.random.default_rng(0)
    bits = generator.integers(0, 2**32, 5000, dtype=np.uint32)
    # Those that are halfway between two halves, too.
    x = np.concatenate([bits, bits & 0xFFFF8000, bits & 0xFFFFF000, bits & 0x87FFF000 | 0x38000000]).astype("u4")
    x = np.concatenate([x.view(np.float32), NUMBERS])
    wanted = torch.from_numpy(x).to(dtype)
    half = calculate(f"cvt.rn.{kind}.f32", x)
    assert half.dtype == np.uint16
    right = wanted.view(torch.int16).numpy().view(np.uint16)
    same(half[~np.isnan(x)], right[~np.isnan(x)])
    assert (half[np.isnan(x)] == 0x7FFF).all()
    held = half.view(TYPES[kind])
    same(calculate(f"cvt.f32.{kind}", held), wanted.float().numpy())
    both = calculate(f"cvt.rn.{kind}x2.f32", x, x[::-1])
    same((both >> 16).astype(np.uint16), half)
    same(both.astype(np.uint16), half[::-1])
    same(calculate(f"sub.rn.f32.{kind}", held, floats(0.1)), wanted.float().numpy() - np.float32(0.1))
    # The product of two halves is exact.
    product = wanted.float().numpy() ** 2
    same(calculate(f"fma.rn.f32.{kind}", held, held, floats(0)), product)


def test_pairs_of_numbers():
    x, y, z = (np.random.default_rng(i).standard_normal(20).astype("f4") for i in range(3))
    for name in ("add", "sub", "mul"):
        found = calculate(f"{name}.f32x2", x.view(np.uint64), y.view(np.uint64))
        same(found.view(np.float32), calculate(f"{name}.f32", x, y))
    found = calculate("fma.rn.f32x2", x.view(np.uint64), y.view(np.uint64), z.view(np.uint64))
    same(found.view(np.float32), calculate("fma.rn.f32", x, y, z))
    # One value for all threads.
    found = CALCULATIONS["mul.f32x2", 3].function(x.view(np.uint64), y.view(np.uint64)[0])
    same(found.view(np.float32), x * np.tile(y[:2], 10))


def test_no_result_shares_memory_with_an_operand():
    bits = np.random.default_rng(0).integers(0, 256, 512, dtype=np.uint8)
    for (opcode, _), calculation in CALCULATIONS.items():
        values = [bits[:64].copy().view(TYPES[kind])[:8] for kind in calculation.types if kind != "pred"]
        values += [bits[:8] > 99 for kind in calculation.types if kind == "pred"]
        for same_type in (values, [v[0] for v in values]):
            before = [np.copy(v) for v in same_type]
            result = calculation.function(*same_type)
            assert not any(np.shares_memory(result, v) for v in same_type), opcode
            assert all(a.tobytes() == np.asarray(b).tobytes() for a, b in zip(before, same_type, strict=True)), opcode


@pytest.mark.parametrize("opcode", ["add.sat.s32", "add.sat.f32", "add.rz.f32", "fma.rz.f32", "cvt.rn.relu.f16.f32"])
def test_other_modifiers_are_other_instructions(opcode):
    assert not any((opcode, count) in CALCULATIONS for count in range(6))
