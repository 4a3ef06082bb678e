"""Resources of the Triton kernels on each GPU: registers, spills, shared memory and occupancy. Needs no GPU.

    python bench/resources.py
    python bench/resources.py --json
    python bench/resources.py --targets sm_90 --channels 16 64

Every kernel is compiled ahead of time as the package launches it: launches are recorded and not executed.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Triton's interpreter would compile nothing.
os.environ["TRITON_INTERPRET"] = "0"

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

sys.path.insert(0, str(Path(__file__).parents[1]))

from hvs.kernels.fused import (
    blend,
    chain,
    extents,
    gradient,
    launch,
    lists,
    prepare,
    programs,
    ray_gradient,
    search,
    small,
    survey,
)

KERNELS = [
    (prepare, "prepare"),
    (small, "survey_small"),
    (survey, "survey"),
    (search, "search"),
    (extents, "extents"),
    (lists, "pair_large"),
    (blend, "blend"),
    (gradient, "background_gradient"),
    (gradient, "gradient"),
    (ray_gradient, "ray_gradient"),
    (chain, "chain"),
]


# Options of a launch that are the compiler's and not the kernel's.
COMPILING = ("num_warps", "maxnreg", "enable_fp_fusion")


@dataclass(frozen=True)
class GPU:
    """What limits the programs that one multiprocessor (NVIDIA) or compute unit (AMD) runs at a time.

    Registers and warps are those of one of its ``simds``.

    Sources: CUDA C++ Programming Guide, "Technical Specifications per Compute Capability"; AMD CDNA3 ISA guide.
    """

    target: GPUTarget
    registers: int
    register_unit: int
    warps: int
    programs: int
    shared_bytes: int
    simds: int = 1

    def occupancy(self, registers: int, shared: int, warps: int) -> float:
        """Warps that run at a time, as a fraction of the maximum."""
        by_warp = -(-registers * self.target.warp_size // self.register_unit) * self.register_unit
        by_registers = self.simds * (self.registers // max(1, by_warp)) // warps
        by_shared = self.shared_bytes // shared if shared else self.programs
        most = self.simds * self.warps
        return min(by_registers, by_shared, self.programs, most // warps) * warps / most


GPUS = {
    "sm_80": GPU(GPUTarget("cuda", 80, 32), 65536, 256, 64, 32, 164 * 1024),
    "sm_90": GPU(GPUTarget("cuda", 90, 32), 65536, 256, 64, 32, 228 * 1024),
    "sm_100": GPU(GPUTarget("cuda", 100, 32), 65536, 256, 64, 32, 228 * 1024),
    "gfx942": GPU(GPUTarget("hip", "gfx942", 64), 32768, 512, 8, 32, 64 * 1024, simds=4),
}


class Recorder:
    """Stands in for a kernel and records what it is launched with."""

    def __init__(self, kernel: Any, launches: list) -> None:
        self.kernel, self.launches = kernel, launches

    def __getitem__(self, grid: tuple[int, ...]):
        def record(*arguments: Any, **options: Any) -> None:
            for argument in arguments:
                if isinstance(argument, torch.Tensor):
                    # Integers may be numbers of what a later kernel is launched for.
                    argument.fill_(1 if argument.dtype == torch.int32 else 0)
            self.launches.append((self.kernel, arguments, options))

        return record


def record(channels: int, dtype: torch.dtype, large: bool, with_rays: bool, on_amd: bool) -> list[tuple]:
    """The launches of a forward and a backward pass."""
    launches: list[tuple] = []
    inputs = [torch.zeros(2, 108, *shape) for shape in ((3,), (3, 3), (3,))]
    inputs += [torch.zeros(2, 108, channels, dtype=dtype), torch.zeros(2, channels, dtype=dtype)]
    inputs += [torch.zeros(2, 256, 256, 3)]
    before = programs.SMALL_PAIRS, programs.WARP
    kernels = {(module, name): getattr(module, name) for module, name in KERNELS}
    try:
        programs.WARP = 64 if on_amd else 32
        if large:
            programs.SMALL_PAIRS = 0
        for (module, name), kernel in kernels.items():
            setattr(module, name, Recorder(kernel, launches))
        found = launch.forward(*inputs, alpha=0.025, beta=2.0, eps=1e-8, near=1e-2, tolerance=1e-6)
        launch.backward(torch.zeros_like(found.latent), found, *inputs, alpha=0.025, eps=1e-8, with_rays=with_rays)
    finally:
        programs.SMALL_PAIRS, programs.WARP = before
        for (module, name), kernel in kernels.items():
            setattr(module, name, kernel)
    return launches


def source_of(kernel: Any, arguments: tuple, options: dict[str, Any]) -> tuple[ASTSource, dict[str, int]]:
    """What to compile for a launch, and the compiler's options: the number of warps, and limits.

    As in a real launch, a number that is 1 becomes a constant, and multiples of 16 are marked as such.
    """
    options = dict(options)
    compiling = dict(num_warps=4) | {name: options.pop(name) for name in COMPILING if name in options}
    signature, constants, aligned = {}, dict(options), {}
    for i, (name, value) in enumerate(zip(kernel.arg_names, arguments, strict=False)):
        signature[name] = _type_of(value)
        if isinstance(value, int) and value == 1:
            signature[name], constants[name] = "constexpr", 1
        elif isinstance(value, torch.Tensor) or (isinstance(value, int) and value % 16 == 0):
            aligned[(i,)] = [["tt.divisibility", 16]]
    signature |= dict.fromkeys(options, "constexpr")
    return ASTSource(kernel, signature, constexprs=constants, attrs=aligned), compiling


def _type_of(value: Any) -> str:
    if isinstance(value, torch.Tensor):
        names = {torch.float32: "fp32", torch.float16: "fp16", torch.bfloat16: "bf16"}
        return "*" + (names | {torch.int8: "i8", torch.int32: "i32", torch.int64: "i64"})[value.dtype]
    return "fp32" if isinstance(value, float) else "i32"


def measure(variant: str, kernel: Any, arguments: tuple, options: dict[str, Any], target: str) -> dict[str, Any]:
    """Compile one launch and read its resources from the binary."""
    gpu = GPUS[target]
    source, compiling = source_of(kernel, arguments, options)
    compiled = triton.compile(source, target=gpu.target, options=compiling)
    read = _read_nvidia if gpu.target.backend == "cuda" else _read_amd
    registers, spills = read(compiled)
    shared = compiled.metadata.shared
    return dict(
        kernel=kernel.fn.__name__,
        variant=variant,
        target=target,
        warps=compiling["num_warps"],
        registers=registers,
        spill_bytes=spills,
        shared_bytes=shared,
        occupancy=round(gpu.occupancy(registers, shared, compiling["num_warps"]), 3),
    )


def _read_nvidia(compiled: Any) -> tuple[int, int]:
    """Registers and spilled bytes. In a kernel without arrays, all local memory is spills."""
    tool = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(compiled.asm["cubin"])
        file.flush()
        report = subprocess.run([tool, "-res-usage", file.name], check=True, capture_output=True, text=True).stdout
    found = re.search(r"REG:(\d+) STACK:(\d+).* LOCAL:(\d+)", report)
    if not found:
        raise SystemExit(f"cuobjdump reports no registers: {report}")
    registers, stack, local = map(int, found.groups())
    return registers, stack + local


def _read_amd(compiled: Any) -> tuple[int, int]:
    text = compiled.asm["amdgcn"]

    def value(name: str) -> int:
        return int(re.search(rf"\.{name}:\s+(\d+)", text).group(1))

    return value("vgpr_count"), 4 * value("vgpr_spill_count")


def variants(channels: list[int], on_amd: bool) -> list[tuple[str, list[tuple]]]:
    """Names of the variants and their launches; the first ones are those of training on a small scene."""
    found = [(f"c{c}/float32", record(c, torch.float32, False, False, on_amd)) for c in channels]
    found += [
        ("c16/bfloat16", record(16, torch.bfloat16, False, False, on_amd)),
        ("c16/float32/rays", record(16, torch.float32, False, True, on_amd)),
        ("c16/float32/large", record(16, torch.float32, True, False, on_amd)),
    ]
    return found


def report(targets: list[str], channels: list[int]) -> list[dict[str, Any]]:
    """One row per kernel, variant and target; a kernel that two variants share is compiled and listed once."""
    jobs: dict[tuple, tuple] = {}
    for target in targets:
        for variant, launches in variants(channels, on_amd=GPUS[target].target.backend == "hip"):
            for kernel, arguments, options in launches:
                source, _ = source_of(kernel, arguments, options)
                jobs.setdefault((source.hash(), target), (variant, kernel, arguments, options, target))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(lambda job: measure(*job), jobs.values()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--targets", nargs="+", choices=GPUS, default=list(GPUS), metavar="TARGET", help=", ".join(GPUS)
    )
    parser.add_argument("--channels", nargs="+", type=int, default=[3, 16, 32, 64, 256])
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args()
    rows = report(options.targets, options.channels)
    if options.json:
        print(json.dumps(rows, indent=1))
        return
    names = list(rows[0])
    widths = {name: max(len(str(row[name])) for row in [{name: name}, *rows]) for name in names}
    for row in [dict(zip(names, names, strict=True)), *rows]:
        print("  ".join(str(row[name]).ljust(widths[name]) for name in names).rstrip())


if __name__ == "__main__":
    main()
