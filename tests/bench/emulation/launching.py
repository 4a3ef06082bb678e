"""Launches kernels on the emulated GPU and prints what came of it as JSON. Run without Triton's interpreter."""

import json
import sys

# First: it turns the interpreter off before Triton is imported.
from bench.emulation.launches import Emulated, MachineError, Tensor, emulated  # isort: skip

import torch
import triton
import triton.language as tl

from hvs.kernels.fused import launch


@triton.jit
def scale(to, source, factor, count, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(to + i, tl.load(source + i, i < count) * factor, i < count)


def scaled(source: Tensor, to: Tensor, count: int, factor: float = 2.0) -> list | str:
    """What the kernel has written and how often it was launched, or its error."""
    launches = []
    try:
        Emulated(scale, "sm_90", launches)[(2,)](to, source, factor, count, BLOCK=64, num_warps=2)
    except (MachineError, ValueError) as error:
        return f"{type(error).__name__}: {error}"
    [each] = launches
    return [each.name, list(each.grid), each.counts.executed, each.counts.load_sectors, to.tolist()]


def main() -> None:
    numbers = torch.arange(200.0)
    found = dict(
        right=scaled(numbers, torch.zeros(100), 100),
        # Addresses that are no multiple of 16 bytes, and half numbers.
        odd=scaled(numbers[1:], torch.zeros(101)[1:], 100),
        half=scaled(numbers.bfloat16(), torch.zeros(100, dtype=torch.bfloat16), 100, 1.5),
        one=scaled(numbers, torch.zeros(1), 1),
        outside=scaled(numbers[:99], torch.zeros(100), 100),
        elsewhere=scaled(numbers.to("meta"), torch.zeros(100), 100),
    )
    before = launch.prepare.prepare
    with emulated("sm_90"):
        found["replaced"] = isinstance(launch.prepare.prepare, Emulated)
    found["restored"] = launch.prepare.prepare is before
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
