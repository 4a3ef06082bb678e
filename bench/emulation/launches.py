"""Executes the package's launches on the emulated GPU, with tensors on the CPU.

Importing it turns Triton's interpreter off, in which kernels are not compiled.
"""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any
from unittest import mock

# Before Triton is imported, which otherwise compiles nothing.
os.environ["TRITON_INTERPRET"] = "0"

import numpy as np
import triton
from torch import Tensor
from triton.compiler import ASTSource

from ..resources import GPUS, KERNELS, launch, source_of
from .machine import Counts, run
from .memory import MachineError
from .ptx import Kernel, parse

NUMBERS = {"fp32": np.float32, "i32": np.int32, "i64": np.int64}
# As `hvs.rasterize` has them.
OPTIONS = dict(alpha=0.025, beta=2.0, eps=1e-8, near=1e-2, tolerance=1e-6)
# Triton makes use of it where an address is a multiple of this.
ALIGNED = 16


@dataclass(frozen=True)
class Launch:
    """A launch that was executed: the kernel's name, its grid, and what it did."""

    name: str
    grid: tuple[int, int, int]
    counts: Counts


class Emulated:
    """Stands in for a kernel; its launches are executed by `machine` and appended to a list."""

    def __init__(self, kernel: Any, target: str, launches: list[Launch]) -> None:
        if not isinstance(kernel, triton.JITFunction):
            raise RuntimeError("the kernels were imported with Triton's interpreter, and cannot be compiled")
        self.kernel, self.target, self.launches = kernel, target, launches

    def __getitem__(self, grid: tuple[int, ...]):
        def execute(*arguments: Any, **options: Any) -> None:
            if any(isinstance(v, Tensor) and v.device.type != "cpu" for v in arguments):
                raise ValueError("a tensor is not on the CPU, where launches are emulated")
            source, compiling = source_of(self.kernel, arguments, options)
            values, spans = [], []
            for i, (kind, argument) in enumerate(zip(source.signature.values(), arguments, strict=False)):
                if isinstance(argument, Tensor):
                    values.append(np.uint64(argument.data_ptr()))
                    spans.append(_span(argument))
                    if argument.data_ptr() % ALIGNED:
                        source.attrs.pop((i,))
                elif kind != "constexpr":
                    values.append(NUMBERS[kind](argument))
            compiled, shared = _compiled(_Source(source), tuple(compiling.items()), self.target)
            whole = (*grid, 1, 1)[:3]
            try:
                counts = run(compiled, whole, values, spans, shared)
            except MachineError as error:
                raise MachineError(f"{compiled.name}: {error}") from error
            self.launches.append(Launch(compiled.name, whole, counts))

        return execute


class _Source:
    """A source that is compared by what it compiles to."""

    def __init__(self, source: ASTSource) -> None:
        self.source, self.key = source, source.hash()

    def __hash__(self) -> int:
        return hash(self.key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Source) and self.key == other.key


@cache
def _compiled(source: _Source, compiling: tuple[tuple[str, int], ...], target: str) -> tuple[Kernel, int]:
    compiled = triton.compile(source.source, target=GPUS[target].target, options=dict(compiling))
    return parse(compiled.asm["ptx"]), compiled.metadata.shared


def _span(tensor: Tensor) -> tuple[int, int]:
    """First address of a tensor's memory, and the last plus one."""
    reach = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    start = tensor.data_ptr()
    return start, start + (reach + 1) * tensor.element_size() if tensor.numel() else start


@contextmanager
def emulated(target: str = "sm_90") -> Iterator[list[Launch]]:
    """Execute the launches of the package's kernels on an emulated GPU; gives the list to which they are appended.

    Args:
        target: one of NVIDIA's in `bench.resources.GPUS`.

    Raises:
        MachineError: a kernel does what a GPU does not define, or has an instruction that is not emulated.
    """
    launches: list[Launch] = []
    with ExitStack() as stack:
        for module, name in KERNELS:
            kernel = getattr(module, name)
            stack.enter_context(mock.patch.object(module, name, Emulated(kernel, target, launches)))
        yield launches


def differentiate(inputs: dict[str, Tensor], cotangent: Tensor, with_rays: bool) -> dict[str, Tensor]:
    """The latent [B, C, H, W] and the gradients of a scene with one batch axis, by the names of the inputs.

    Args:
        cotangent: gradient of the latent, of its shape and type.
        with_rays: whether there is a gradient of the rays.
    """
    names = "means", "rotations", "scales", "features", "background", "rays"
    arguments = [inputs[name].detach() for name in names]
    found = launch.forward(*arguments, **OPTIONS)
    options = dict(alpha=OPTIONS["alpha"], eps=OPTIONS["eps"], with_rays=with_rays)
    gradients = launch.backward(cotangent, found, *arguments, **options)
    named = dict(zip(names, gradients, strict=True))
    return dict(latent=found.latent) | {name: named[name] for name in names[: 6 if with_rays else 5]}
