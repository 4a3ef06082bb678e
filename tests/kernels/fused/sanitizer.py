"""What NVIDIA's compute-sanitizer looks for on a GPU, in Triton's interpreter.

The interpreter runs the programs of a launch one after the other, in one thread each, so it hides accesses outside of a
kernel's arguments, and the order in which programs and threads get at the same memory.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
from torch import Tensor
from triton.runtime import interpreter

NOBODY, SEVERAL = -1, -2


class AccessError(AssertionError):
    """An access to memory that would go wrong on a GPU, or might."""


class Shadow:
    """What the programs of one launch have done to each element of one argument."""

    def __init__(self, tensor: Tensor) -> None:
        reach = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
        elements = reach + 1 if tensor.numel() else 0
        self.size = tensor.element_size()
        self.start = tensor.data_ptr()
        self.stop = self.start + elements * self.size
        self.writers, self.readers, self.adders = (np.full(elements, NOBODY) for _ in range(3))

    def load(self, at: np.ndarray, program: int) -> str | None:
        if np.any(self.writers[at] == program):
            return "reads what it has written itself, perhaps by another thread"
        if np.any(self.writers[at] != NOBODY) or np.any(self.adders[at] != NOBODY):
            return "reads what another program writes"
        others = ~np.isin(self.readers[at], (NOBODY, program))
        self.readers[at] = np.where(others, SEVERAL, program)
        return None

    def store(self, at: np.ndarray, program: int) -> str | None:
        if len(np.unique(at)) < len(at):
            return "writes an element twice at once"
        if np.any(self.writers[at] != NOBODY) or np.any(self.adders[at] != NOBODY):
            return "writes what it or another program writes"
        if not np.isin(self.readers[at], (NOBODY, program)).all():
            return "writes what another program reads"
        self.writers[at] = program
        return None

    def add(self, at: np.ndarray, program: int) -> str | None:
        if np.any(self.writers[at] != NOBODY) or np.any(self.readers[at] != NOBODY):
            return "adds to what a program reads or writes"
        self.adders[at] = program
        return None


class Launch:
    """One launch of a kernel."""

    def __init__(self, name: str, tensors: list[Tensor]) -> None:
        self.name = name
        # Tensors may share memory, and then what was done to it.
        self.shadows = {(shadow.start, shadow.stop): shadow for shadow in map(Shadow, tensors)}.values()
        self.accesses = 0

    def check(self, action: str, addresses: np.ndarray, mask: np.ndarray, program: int) -> None:
        if mask.dtype != bool:
            # Of a block and the comparison of two scalars. Triton 3.9's interpreter refuses it.
            raise AccessError(f"{self.name}: has a mask of {mask.dtype} ({action})")
        addresses = np.broadcast_to(addresses, mask.shape)[mask].astype(np.int64)
        self.accesses += len(addresses)
        found = np.zeros(len(addresses), dtype=bool)
        for shadow in self.shadows:
            inside = (addresses >= shadow.start) & (addresses < shadow.stop)
            found |= inside
            if inside.any():
                fault = getattr(shadow, action)((addresses[inside] - shadow.start) // shadow.size, program)
                if fault:
                    raise AccessError(f"{self.name}: program {program} {fault}")
        if not found.all():
            raise AccessError(f"{self.name}: program {program} accesses none of its arguments ({action})")


@contextmanager
def sanitized(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Launch]]:
    """Check every access of the kernels that are launched inside; gives the launches.

    Raises:
        triton.runtime.errors.InterpreterError: with the words of a `AccessError`.
    """
    launches: list[Launch] = []
    builder = interpreter.interpreter_builder

    def program() -> int:
        x, y, z = builder.grid_idx
        _, ny, nz = builder.grid_dim
        return (x * ny + y) * nz + z

    def begin(executor, arguments, options):
        tensors = [v for v in (*arguments, *options.values()) if isinstance(v, Tensor)]
        launches.append(Launch(executor.fn.__name__, tensors))
        return begin_as_before(executor, arguments, options)

    def load(ptrs, mask, *rest):
        launches[-1].check("load", ptrs.data, mask.data, program())
        return load_as_before(ptrs, mask, *rest)

    def store(ptrs, value, mask, *rest):
        launches[-1].check("store", ptrs.data, mask.data, program())
        return store_as_before(ptrs, value, mask, *rest)

    def add(operation, ptr, value, mask, *rest):
        launches[-1].check("add", ptr.data, mask.data, program())
        return add_as_before(operation, ptr, value, mask, *rest)

    with monkeypatch.context() as patch:
        begin_as_before = interpreter.GridExecutor._init_args_hst
        load_as_before, store_as_before = builder.create_masked_load, builder.create_masked_store
        add_as_before = builder.create_atomic_rmw
        patch.setattr(interpreter.GridExecutor, "_init_args_hst", begin)
        for name, function in (("masked_load", load), ("masked_store", store), ("atomic_rmw", add)):
            patch.setattr(builder, f"create_{name}", function)
        yield launches
