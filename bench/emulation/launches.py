"""Executes the package's launches on the emulated GPU, with tensors on the CPU."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any
from unittest import mock

import numpy as np
import triton
from torch import Tensor
from triton.compiler import ASTSource

from ..resources import GPUS, KERNELS, source_of
from .machine import Counts, MachineError, run
from .ptx import Kernel, parse

TYPES = {"fp32": np.float32, "i32": np.int32, "i64": np.int64}


@dataclass(frozen=True)
class Launch:
    """A launch that was executed: the kernel's name, its grid, and what it did."""

    name: str
    grid: tuple[int, int, int]
    counts: Counts


class Emulated:
    """Stands in for a kernel; its launches are executed by `machine` and appended to a list."""

    def __init__(self, kernel: Any, target: str, launches: list[Launch]) -> None:
        self.kernel, self.target, self.launches = kernel, target, launches

    def __getitem__(self, grid: tuple[int, ...]):
        def launch(*arguments: Any, **options: Any) -> None:
            source, warps = source_of(self.kernel, arguments, options)
            compiled, shared = _compiled(_Source(source), warps, self.target)
            values, spans = [], []
            for kind, argument in zip(source.signature.values(), arguments, strict=False):
                if kind == "constexpr":
                    continue
                if isinstance(argument, Tensor):
                    values.append(np.uint64(argument.data_ptr()))
                    spans.append(_span(argument))
                else:
                    values.append(TYPES[kind](argument))
            whole = (*grid, 1, 1)[:3]
            try:
                counts = run(compiled, whole, values, spans, shared)
            except MachineError as error:
                raise MachineError(f"{compiled.name}: {error}") from error
            self.launches.append(Launch(compiled.name, whole, counts))

        return launch


class _Source:
    """A source that is compared by what it compiles to."""

    def __init__(self, source: ASTSource) -> None:
        self.source, self.key = source, source.hash()

    def __hash__(self) -> int:
        return hash(self.key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Source) and self.key == other.key


@cache
def _compiled(source: _Source, warps: int, target: str) -> tuple[Kernel, int]:
    compiled = triton.compile(source.source, target=GPUS[target].target, options=dict(num_warps=warps))
    return parse(compiled.asm["ptx"]), compiled.metadata.shared


def _span(tensor: Tensor) -> tuple[int, int]:
    """First address of a tensor's memory, and the last plus one."""
    reach = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    start = tensor.data_ptr()
    return start, start + (reach + 1) * tensor.element_size() if tensor.numel() else start


@contextmanager
def emulated(target: str = "sm_90") -> Iterator[list[Launch]]:
    """Execute the launches of the package's kernels on an emulated GPU; gives the list to which they are appended."""
    launches: list[Launch] = []
    with ExitStack() as stack:
        for module, name in KERNELS:
            kernel = getattr(module, name)
            stack.enter_context(mock.patch.object(module, name, Emulated(kernel, target, launches)))
        yield launches
