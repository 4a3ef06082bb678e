"""Kernels written by hand, for the tests of what executes PTX."""

import numpy as np

from bench.emulation.machine import Counts, run
from bench.emulation.ptx import parse

# %r0 is the thread, and %rd0 the place of its own number of 32 bits in the first argument.
BEGINNING = """
    mov.u32 %r0, %tid.x;
    ld.param.b64 %rd99, [snippet_param_0];
    mad.wide.u32 %rd0, %r0, 4, %rd99;
"""


def text(body: str, arguments: int = 1, threads: int = 32) -> str:
    parameters = ",\n".join(f"\t.param .u64 .ptr .global .align 1 snippet_param_{i}" for i in range(arguments))
    return f".version 8.8\n.visible .entry snippet(\n{parameters}\n)\n.reqntid {threads}\n{{\n{body}\n}}\n"


def aligned(count: int, dtype: type) -> np.ndarray:
    """Zeros whose memory begins at a multiple of 64 bytes."""
    size = count * np.dtype(dtype).itemsize
    raw = np.zeros(size + 64, np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + size].view(dtype)


def execute(body: str, *arguments: np.ndarray, threads: int = 32, programs: int = 1, shared: int = 0) -> Counts:
    """Run a kernel on arrays, which it may change; their memory is all that it may access."""
    kernel = parse(text(BEGINNING + body + "\nret;", max(1, len(arguments)), threads))
    spans = [(v.ctypes.data, v.ctypes.data + v.nbytes) for v in arguments]
    addresses = [np.uint64(start) for start, _ in spans]
    return run(kernel, (programs, 1, 1), addresses, spans, shared)


def results(body: str, *arguments: np.ndarray, threads: int = 32, shared: int = 0) -> np.ndarray:
    """What a kernel leaves in %r1 of each thread of a program, uint32."""
    out = np.zeros(threads, np.uint32)
    execute(f"{body}\nst.global.b32 [%rd0], %r1;", out, *arguments, threads=threads, shared=shared)
    return out
