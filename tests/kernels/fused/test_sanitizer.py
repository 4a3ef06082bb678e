"""The kernels access memory as a GPU demands, and the checks that say so can fail."""

import pytest
import torch
import triton
import triton.language as tl
from triton.runtime.errors import InterpreterError

from hvs.kernels.fused import programs
from tests.kernels.fused.rendering import differentiate
from tests.kernels.fused.sanitizer import sanitized

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="compute-sanitizer looks at what a GPU runs")

KERNELS = {"prepare", "blend", "background_gradient", "gradient", "ray_gradient", "chain"}


@pytest.mark.parametrize(
    ("count", "height", "width", "channels"), [(0, 7, 18, 3), (1, 1, 1, 1), (13, 20, 37, 5), (2, 5, 17, 300)], ids=str
)
@pytest.mark.parametrize("pairs", [programs.SMALL_PAIRS, 0], ids=["small", "large"])
def test_kernels(scene, monkeypatch, cut_as_launched, pairs, count, height, width, channels):
    monkeypatch.setattr(programs, "SMALL_PAIRS", pairs)
    inputs = scene(count, height, width, channels, (2,), dtype=torch.float32)
    with sanitized(monkeypatch) as launches:
        differentiate(inputs)
    small = pairs > 0 or count == 0
    wanted = KERNELS | ({"survey_small"} if small else {"survey", "search", "extents", "pair_large"})
    # A single Gaussian does not show in the single pixel; small scenes launch without knowing.
    unseen = count == 0 or (count == 1 and not small)
    assert {each.name for each in launches} == wanted - ({"gradient"} if unseen else set())
    assert all(each.accesses for each in launches)


@triton.jit
def move(to, source, shift: tl.constexpr, step: tl.constexpr, count: tl.constexpr):
    i = tl.arange(0, 4)
    value = tl.load(source + tl.program_id(0) * 4 + i + shift, i < count)
    tl.store(to + tl.program_id(0) * step + i, value, i < count)


@triton.jit
def double(numbers):
    tl.store(numbers, 2.0)
    tl.store(numbers + 1, tl.load(numbers))


@triton.jit
def gather(total, numbers, atomic: tl.constexpr):
    i = tl.arange(0, 4)
    if atomic:
        tl.atomic_add(total + i * 0, tl.load(numbers + i))
    else:
        tl.store(total + i * 0, tl.load(numbers + i))


@triton.jit
def move_all_or_none(to, source, count):
    i = tl.arange(0, 4)
    tl.store(to + i, tl.load(source + i, (i < 4) & (tl.program_id(0) < count)))


@pytest.fixture
def numbers():
    """In the middle of more, so that the memory around them is no argument's."""
    return torch.zeros(16)[4:12], torch.arange(20.0)[4:16]


def test_what_is_right_passes(monkeypatch, numbers):
    to, source = numbers
    with sanitized(monkeypatch) as launches:
        move[(2,)](to, source, 2, 4, 2)
        gather[(3,)](to, source, True)
        move[(2,)](source, source, 0, 4, 4)
    assert [each.name for each in launches] == ["move", "gather", "move"]
    assert to.tolist() == [6 + 3 * (4 + 5 + 6 + 7), 7, 0, 0, 10, 11, 0, 0]


@pytest.mark.parametrize(
    ("faulty", "words"),
    [
        (lambda to, source: move[(2,)](to, source[:8], 1, 4, 4), "accesses none of its arguments .load"),
        (lambda to, source: move[(2,)](to[:7], source, 0, 4, 4), "accesses none of its arguments .store"),
        (lambda to, source: move[(2,)](to, source, 0, 3, 4), "writes what it or another program writes"),
        (lambda to, source: move[(2,)](source[4:], source, 0, 4, 4), "reads what another program writes"),
        (lambda to, source: move[(2,)](source[8:], source, 0, -8, 4), "writes what another program reads"),
        (lambda to, source: double[(1,)](to), "reads what it has written itself"),
        (lambda to, source: gather[(1,)](to, source, False), "writes an element twice"),
        (lambda to, source: gather[(1,)](source, source, True), "adds to what a program reads"),
        (lambda to, source: move_all_or_none[(1,)](to, source, 1), "has a mask of int32 .load"),
    ],
)
def test_what_is_wrong_is_told(monkeypatch, numbers, faulty, words):
    with sanitized(monkeypatch), pytest.raises(InterpreterError, match=words):
        faulty(*numbers)
