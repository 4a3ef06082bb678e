"""Time of every kernel in a forward and a backward pass, and what other sizes would gain. Needs a GPU.

    python -m bench.kernels                                  the main scene
    python -m bench.kernels --scene b1/1024x1024/n100000     the first scene whose name begins like this
    python -m bench.kernels --sweep                          also with program sizes that the package does not choose

Medians in microseconds by the GPU's own clock, with a cold L2 cache. Kernels of other packages are left out, and so is
the time between kernels: `python -m bench` times the whole call.
"""

import argparse
import contextlib
import math
from collections.abc import Iterator
from typing import Any
from unittest import mock

import numpy as np
import torch

import hvs

from .__main__ import scenes
from .rasterize import Calls, Scene
from .timing import FLUSHED_BYTES, WARM_UP

# In the order in which they are launched.
KERNELS = ("prepare", "survey_small", "survey", "search", "extents", "pair_large", "blend")
KERNELS += ("background_gradient", "gradient", "ray_gradient", "chain")
RUNS = 10
# Width of the column of titles.
TITLE = 44


def calls_of(scene: Scene) -> Calls:
    inputs = scene.inputs("cuda")
    gradient = torch.randn(scene.batch, scene.channels, scene.height, scene.width).to("cuda", scene.dtype)
    return Calls.of(hvs.rasterize, inputs, gradient)


def kernel_times(calls: Calls) -> dict[str, float]:
    """Microseconds of each kernel in one forward and backward pass; several launches of a kernel are added up."""
    flushed = torch.empty(FLUSHED_BYTES, dtype=torch.int8, device="cuda")
    for _ in range(WARM_UP):
        calls.both()
    torch.cuda.synchronize()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profiler:
        for _ in range(RUNS):
            flushed.zero_()
            calls.both()
        torch.cuda.synchronize()
    found: dict[str, list[float]] = {}
    for event in profiler.events():
        if event.name in KERNELS and event.device_type == torch.autograd.DeviceType.CUDA:
            found.setdefault(event.name, []).append(event.time_range.elapsed_us())
    if not found:
        raise SystemExit("torch.profiler has seen no kernel; it needs CUPTI, and that no other profiler runs")
    return {name: float(np.median(found[name])) * len(found[name]) / RUNS for name in KERNELS if name in found}


def variants(scene: Scene) -> dict[str, dict[str, Any]]:
    """Other sizes for the kernels that a scene is rendered with, by name, and what each replaces in `programs`."""
    from hvs.kernels.fused import programs

    size = 1 << (scene.channels - 1).bit_length()
    limited = not torch.version.hip
    small = programs.is_small(scene.batch, scene.count, scene.height, scene.width)
    found: dict[str, dict[str, Any]] = {}
    if small:
        for block, warps in ((64, 1), (128, 1), (128, 2), (128, 4)):
            sizes = dict(BLOCK=block, num_warps=warps)
            found[f"survey_small: blocks of {block}, {warps} warps"] = dict(SURVEY_SIZES=sizes)
        for registers in (64, 72, 80, 255) if limited else ():
            sizes = programs.SURVEY_SIZES | dict(maxnreg=registers)
            found[f"survey_small: at most {registers} registers"] = dict(SURVEY_SIZES=sizes)
        for floors in (0.0, 1.0, 2.0, 4.0, 8.0, math.inf):
            found[f"survey_small fills above {floors:g} floors"] = dict(FILLED_ABOVE=floors)
    for pixels, group, warps in ((32, 2, 1), (32, 4, 1), (64, 1, 1), (64, 2, 1), (64, 4, 1), (64, 2, 2), (128, 1, 4)):
        sizes = dict(CHANNELS=size, PIXELS=pixels, GROUP=group, num_warps=warps)
        found[f"blend: {pixels} pixels, {group} Gaussians, {warps} warps"] = dict(blend_sizes=lambda _, s=sizes: s)
    for registers in (64, 80, 96, 128) if limited else ():
        sizes = programs.blend_sizes(scene.channels) | dict(maxnreg=registers)
        found[f"blend: at most {registers} registers"] = dict(blend_sizes=lambda _, s=sizes: s)
    for pixels, warps in ((32, 1), (64, 1), (64, 2), (128, 4), (256, 4)):
        sizes = programs.gradient_sizes(scene.channels) | dict(PIXELS=pixels, num_warps=warps)
        found[f"gradient: {pixels} pixels, {warps} warps"] = dict(gradient_sizes=lambda _, s=sizes: s)
    for registers in (96, 112, 152, 200, 255) if limited else ():
        sizes = programs.gradient_sizes(scene.channels) | dict(maxnreg=registers)
        found[f"gradient: at most {registers} registers"] = dict(gradient_sizes=lambda _, s=sizes: s)
    for number in (4096, 8192, 16384, 32768) if small else ():
        found[f"gradient: {number} programs"] = dict(GRADIENT_PROGRAMS=number)
    return found


@contextlib.contextmanager
def replaced(values: dict[str, Any]) -> Iterator[None]:
    from hvs.kernels.fused import programs

    with contextlib.ExitStack() as stack:
        for name, value in values.items():
            stack.enter_context(mock.patch.object(programs, name, value))
        yield


def header() -> str:
    return " " * TITLE + "".join(f"{name:>{len(name) + 2}s}" for name in KERNELS)


def line(title: str, times: dict[str, float]) -> str:
    columns = ((f"{times[name]:.1f}" if name in times else "", len(name) + 2) for name in KERNELS)
    return f"{title:{TITLE}s}" + "".join(f"{value:>{width}s}" for value, width in columns)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scene", default="", metavar="PREFIX", help="beginning of its name, e.g. b32/256x256")
    parser.add_argument("--sweep", action="store_true", help="also try other program sizes")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit("python -m bench.kernels needs a GPU; bench/resources.py inspects the kernels without one")
    every = scenes("cuda")
    chosen = [scene for scene in every if str(scene).startswith(options.scene)]
    if not chosen:
        raise SystemExit(
            f"--scene: got {options.scene!r}, wanted one of {', '.join(map(str, every))}, or its beginning"
        )
    scene = chosen[0]
    calls = calls_of(scene)
    print(header())
    print(line(str(scene), kernel_times(calls)), flush=True)
    for title, values in variants(scene).items() if options.sweep else ():
        try:
            with replaced(values):
                print(line(title, kernel_times(calls)), flush=True)
        except Exception as error:
            # A GPU may have too little of something for one of them.
            print(f"{title:{TITLE}s}  {type(error).__name__}: {str(error).partition(chr(10))[0]}", flush=True)


if __name__ == "__main__":
    main()
