"""What instructions calculate: functions of numpy arrays, by the complete opcode.

An opcode that is not here, such as one with another modifier, is not calculated at all. Sums, products and conversions
are rounded as on a GPU. Divisions, roots and powers need not be: theirs are approximations on a GPU, too. Source:
Parallel Thread Execution ISA 8.8, section 9.7.
"""

import itertools
import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

# How numpy holds a register of each type. Numbers of type bf16 are held as their bits.
TYPES: dict[str, type] = {"pred": np.bool_, "f32": np.float32, "f16": np.float16, "bf16": np.uint16}
TYPES |= {f"{kind}{size}": np.dtype(f"u{size // 8}").type for kind in "ub" for size in (8, 16, 32, 64)}
TYPES |= {f"s{size}": np.dtype(f"i{size // 8}").type for size in (8, 16, 32, 64)}
# Two numbers side by side in one register.
TYPES["f32x2"] = np.uint64
INTEGERS = "{s16,u16,s32,u32,s64,u64}"
BITS = "{b16,b32,b64}"


@dataclass(frozen=True)
class Calculation:
    """A function that gives a new array, never a view of its arguments, and the types of these."""

    types: tuple[str, ...]
    function: Callable[..., np.ndarray]


# By the complete opcode, and the number of operands with the one that is calculated.
CALCULATIONS: dict[tuple[str, int], Calculation] = {}


def _expanded(text: str) -> list[str]:
    """Every text that braces stand for: "a{b,c}" is "ab" and "ac"."""
    parts = [part[1:-1].split(",") if part.startswith("{") else [part] for part in re.split(r"(\{[^}]*\})", text)]
    return ["".join(each) for each in itertools.product(*parts)]


def _define(opcodes: str, function: Callable, *types: str) -> None:
    """Enter opcodes; a type "T" is the last part of the opcode."""
    for opcode in _expanded(opcodes):
        last = opcode.rpartition(".")[2]
        CALCULATIONS[opcode, 1 + len(types)] = Calculation(tuple(last if v == "T" else v for v in types), function)


def _define_float(opcodes: str, function: Callable, count: int, paired: bool = False) -> None:
    """Enter opcodes of float32 numbers, those that take subnormal numbers for zero, and those of pairs of numbers."""
    for opcode in _expanded(opcodes):
        for modifier, each in (("", function), (".ftz", _flushing(function))):
            _define(f"{opcode}{modifier}.f32", each, *["T"] * count)
            if paired:
                _define(f"{opcode}{modifier}.f32x2", _of_pairs(each), *["T"] * count)


def _flushed(value: np.ndarray) -> np.ndarray:
    if value.dtype != np.float32:
        return value
    return np.where(np.abs(value) < np.finfo(np.float32).tiny, np.copysign(np.float32(0), value), value)


def _flushing(function: Callable) -> Callable:
    return lambda *values: _flushed(function(*map(_flushed, values)))


def _of_pairs(function: Callable) -> Callable:
    def do(*values: np.ndarray) -> np.ndarray:
        result = function(*(np.asarray(v)[..., None].view(np.float32) for v in values))
        return np.ascontiguousarray(result).view(np.uint64)[..., 0]

    return do


def _fma(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    """x·y + z, rounded once. The product is exact in float64, the sum is not."""
    product = x.astype(np.float64) * y
    total = np.asarray(product + z)
    # Halfway between two numbers of float32, the second rounding must know to which side the first has gone.
    if np.any((total.view(np.int64) & (1 << 28) - 1 == 0) & (total != 0)):
        taken = total - product
        error = (product - (total - taken)) + (z - taken)
        total = np.where(error > 0, np.nextafter(total, np.inf), total)
        total = np.where(error < 0, np.nextafter(total, -np.inf), total)
    return total.astype(np.float32)


def _divide_full(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """A product with the reciprocal, so that x / x may differ from 1, as on a GPU; no scale overflows."""
    mantissa, exponent = np.frexp(y.astype(np.float64))
    reciprocal = (1 / mantissa).astype(np.float32)
    return np.ldexp(x.astype(np.float64) * reciprocal, -exponent).astype(np.float32)


def _smaller(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Of a number and what is none, the number; -0 is smaller than 0, which numpy takes to be equal."""
    return np.where(x == y, np.where(np.signbit(x), x, y), np.fmin(x, y))


def _larger(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.where(x == y, np.where(np.signbit(x), y, x), np.fmax(x, y))


def _propagating(function: Callable) -> Callable:
    return lambda x, y: np.where(np.isnan(x) | np.isnan(y), np.float32(np.nan), function(x, y))


def _wide(type_: type) -> type:
    return np.dtype(f"{np.dtype(type_).kind}{2 * np.dtype(type_).itemsize}").type


def _wide_product(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    type_ = _wide(x.dtype.type)
    return x.astype(type_) * y.astype(type_)


def _upper_product(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return (_wide_product(x, y) >> 8 * x.dtype.itemsize).astype(x.dtype)


def _quotient(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Rounded towards zero. By zero it is undefined: all bits are set."""
    divisor = np.where(y == 0, 1, y).astype(y.dtype)
    return np.where(y == 0, ~x.dtype.type(0), (x - np.fmod(x, divisor)) // divisor)


def _remainder(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.where(y == 0, x, np.fmod(x, np.where(y == 0, 1, y).astype(y.dtype)))


def _shift_left(x: np.ndarray, by: np.ndarray) -> np.ndarray:
    bits = 8 * x.dtype.itemsize
    return np.where(by < bits, x << np.minimum(by, bits - 1).astype(x.dtype), x.dtype.type(0))


def _shift_right(x: np.ndarray, by: np.ndarray) -> np.ndarray:
    """Signed numbers fill up with their sign."""
    bits = 8 * x.dtype.itemsize
    within = x >> np.minimum(by, bits - 1).astype(x.dtype)
    return within if x.dtype.kind == "i" else np.where(by < bits, within, x.dtype.type(0))


def _permute(low: np.ndarray, high: np.ndarray, selector: np.ndarray) -> np.ndarray:
    """Four of eight bytes; of four bits for each, three say which, and the first whether to repeat its sign instead."""
    both = low.astype(np.uint64) | high.astype(np.uint64) << np.uint64(32)
    found = np.zeros(np.broadcast_shapes(both.shape, selector.shape), np.uint32)
    for i in range(4):
        chosen = selector >> np.uint32(4 * i)
        byte = (both >> (chosen & np.uint32(7)) * np.uint64(8)).astype(np.uint32) & np.uint32(0xFF)
        sign = (byte >> np.uint32(7)) * np.uint32(0xFF)
        found |= np.where(chosen & np.uint32(8), sign, byte) << np.uint32(8 * i)
    return found


def _extract(x: np.ndarray, start: np.ndarray, length: np.ndarray) -> np.ndarray:
    """Bits from a start on; signed ones fill up with the highest of them, or with the sign of x beyond its end."""
    start, length = (np.minimum(v & 0xFF, 63).astype(np.int64) for v in (start, length))
    shifted, unused = x.astype(np.int64) >> start, 63 - length
    if x.dtype.kind == "u":
        return (shifted & ((np.int64(1) << length) - 1)).astype(x.dtype)
    return np.where(length == 0, 0, shifted << 1 + unused >> 1 + unused).astype(x.dtype)


def _count_bits(x: np.ndarray) -> np.ndarray:
    return np.unpackbits(np.asarray(x)[..., None].view(np.uint8), axis=-1).sum(-1, dtype=np.uint32)


def _unordered(function: Callable) -> Callable:
    return lambda x, y: function(x, y) | np.isnan(x) | np.isnan(y)


def _not_equal(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """What is not a number compares with nothing, not even like this."""
    return np.less(x, y) | np.greater(x, y)


def _to(kind: str) -> Callable:
    return lambda x: x.astype(TYPES[kind])


def _to_integer(kind: str, rounded: Callable) -> Callable:
    """Too large numbers become the largest integer, too small ones the smallest, and what is none 0."""
    type_ = TYPES[kind]
    low, high = (float(v) for v in (np.iinfo(type_).min, np.iinfo(type_).max))

    def do(x: np.ndarray) -> np.ndarray:
        x = rounded(x.astype(np.float64))
        inside = np.where((x > low) & (x < high), x, 0).astype(type_)
        return np.where(x >= high, np.iinfo(type_).max, np.where(x <= low, np.iinfo(type_).min, inside)).astype(type_)

    return do


def to_half(kind: str) -> Callable:
    """Rounds float32 numbers to a half type, to nearest even; gives their bits."""

    def do(x: np.ndarray) -> np.ndarray:
        if kind == "f16":
            bits = x.astype(np.float16).view(np.uint16)
        else:
            bits = x.view(np.uint32)
            bits = ((bits + (0x7FFF + (bits >> 16 & 1))) >> 16).astype(np.uint16)
        return np.where(np.isnan(x), np.uint16(0x7FFF), bits)

    return do


def from_half(kind: str) -> Callable:
    if kind == "f16":
        return lambda x: x.astype(np.float32)
    return lambda x: (x.astype(np.uint32) << 16).view(np.float32)


def _to_halves(kind: str) -> Callable:
    half = to_half(kind)
    return lambda high, low: half(high).astype(np.uint32) << 16 | half(low)


def _mixed(function: Callable, kind: str) -> Callable:
    """All operands but the last are of a half type."""
    wide = from_half(kind)
    return lambda *values: function(*map(wide, values[:-1]), values[-1])


def _define_integers() -> None:
    _define(f"add.{INTEGERS}", np.add, "T", "T")
    _define(f"sub.{INTEGERS}", np.subtract, "T", "T")
    _define(f"mul.lo.{INTEGERS}", np.multiply, "T", "T")
    _define("mul.hi.{s16,u16,s32,u32}", _upper_product, "T", "T")
    _define("mul.wide.{s16,u16,s32,u32}", _wide_product, "T", "T")
    _define(f"mad.lo.{INTEGERS}", lambda x, y, z: x * y + z, "T", "T", "T")
    for kind, wide in (("s16", "s32"), ("u16", "u32"), ("s32", "s64"), ("u32", "u64")):
        _define(f"mad.wide.{kind}", lambda x, y, z: _wide_product(x, y) + z, kind, kind, wide)
    _define(f"div.{INTEGERS}", _quotient, "T", "T")
    _define(f"rem.{INTEGERS}", _remainder, "T", "T")
    _define("neg.{s16,s32,s64}", np.negative, "T")
    _define("abs.{s16,s32,s64}", np.abs, "T")
    _define(f"min.{INTEGERS}", np.minimum, "T", "T")
    _define(f"max.{INTEGERS}", np.maximum, "T", "T")
    for name, function in (("and", np.bitwise_and), ("or", np.bitwise_or), ("xor", np.bitwise_xor)):
        _define(f"{name}.{{pred,b16,b32,b64}}", function, "T", "T")
    _define("not.{pred,b16,b32,b64}", np.invert, "T")
    _define("popc.{b32,b64}", _count_bits, "T")
    _define("bfe.{s32,u32}", _extract, "T", "u32", "u32")
    _define("prmt.b32", _permute, "T", "T", "u32")
    _define(f"shl.{BITS}", _shift_left, "T", "u32")
    _define("shr.{b16,b32,b64,s16,u16,s32,u32,s64,u64}", _shift_right, "T", "u32")
    _define("selp.{b16,b32,b64,s16,u16,s32,u32,s64,u64,f32}", lambda x, y, p: np.where(p, x, y), "T", "T", "pred")


def _define_comparisons() -> None:
    names = {"eq": np.equal, "ne": _not_equal, "lt": np.less, "le": np.less_equal, "gt": np.greater}
    names["ge"] = np.greater_equal
    for name, function in names.items():
        _define(f"setp.{name}.{INTEGERS}", function, "T", "T")
        _define_float(f"setp.{name}", function, 2)
        # Those that end in "u" also hold where one is not a number.
        _define_float(f"setp.{name}u", _unordered(np.not_equal if name == "ne" else function), 2)
    for name, function in (("lo", np.less), ("ls", np.less_equal), ("hi", np.greater), ("hs", np.greater_equal)):
        _define(f"setp.{name}.{{u16,u32,u64}}", function, "T", "T")
    _define(f"setp.eq.{BITS}", np.equal, "T", "T")
    _define(f"setp.ne.{BITS}", np.not_equal, "T", "T")
    _define_float("setp.num", lambda x, y: ~(np.isnan(x) | np.isnan(y)), 2)
    _define_float("setp.nan", lambda x, y: np.isnan(x) | np.isnan(y), 2)


def _define_floats() -> None:
    _define_float("add{,.rn}", np.add, 2, paired=True)
    _define_float("sub{,.rn}", np.subtract, 2, paired=True)
    _define_float("mul{,.rn}", np.multiply, 2, paired=True)
    _define_float("fma.rn", _fma, 3, paired=True)
    _define_float("neg", np.negative, 1)
    _define_float("abs", np.abs, 1)
    for name, function in (("min", _smaller), ("max", _larger)):
        for modifier, each in (("", function), (".NaN", _propagating(function))):
            _define(f"{name}{modifier}.f32", each, "T", "T")
            _define(f"{name}.ftz{modifier}.f32", _flushing(each), "T", "T")
            _define(f"{name}{modifier}.f32", lambda x, y, z, of=each: of(of(x, y), z), "T", "T", "T")
    _define_float("div.full", _divide_full, 2)
    _define_float("div.rn", np.divide, 2)
    _define_float("sqrt.{approx,rn}", np.sqrt, 1)
    _define_float("rcp.{approx,rn}", lambda x: 1 / x, 1)
    _define_float("rsqrt.approx", lambda x: (1 / np.sqrt(x.astype(np.float64))).astype(np.float32), 1)
    _define_float("ex2.approx", np.exp2, 1)
    _define_float("lg2.approx", np.log2, 1)
    for half in ("f16", "bf16"):
        _define(f"add.rn.f32.{half}", _mixed(np.add, half), half, "f32")
        _define(f"sub.rn.f32.{half}", _mixed(np.subtract, half), half, "f32")
        _define(f"fma.rn.f32.{half}", _mixed(_fma, half), half, half, "f32")


def _define_conversions() -> None:
    whole = [f"{sign}{size}" for sign in "su" for size in (8, 16, 32, 64)]
    for to, source in itertools.product(whole, whole):
        _define(f"cvt.{to}.{source}", _to(to), "T")
    for kind in whole:
        _define(f"cvt.rn.f32.{kind}", _to("f32"), "T")
    for name, rounded in (("rni", np.rint), ("rzi", np.trunc), ("rmi", np.floor), ("rpi", np.ceil)):
        _define(f"cvt.{name}.f32.f32", rounded, "T")
        for kind in whole:
            _define(f"cvt.{name}.{kind}.f32", _to_integer(kind, rounded), "T")
    for half in ("f16", "bf16"):
        _define(f"cvt.f32.{half}", from_half(half), "T")
        _define(f"cvt.rn.{half}.f32", to_half(half), "T")
        # The first operand becomes the upper half.
        _define(f"cvt.rn.{half}x2.f32", _to_halves(half), "T", "T")


_define_integers()
_define_comparisons()
_define_floats()
_define_conversions()
