"""Time of every kernel in a forward and a backward pass, and what other sizes would gain. Needs a GPU.

    python -m bench.kernels                                  the main scene
    python -m bench.kernels --scene b1/1024x1024/n100000     the first scene whose name begins like this
    python -m bench.kernels --sweep                          also with program sizes that the package does not choose

Medians in microseconds by the GPU's own clock, with a cold L2 cache. Kernels of other packages are left out, and so is
the time between kernels: `python -m bench` times the whole call.
"""

import argparse
import contextlib
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


def kernel_times(scene: Scene) -> dict[str, float]:
    """Microseconds of each kernel in one forward and backward pass; several launches of a kernel are added up."""
    inputs = scene.inputs("cuda")
    gradient = torch.randn(scene.batch, scene.channels, scene.height, scene.width).to("cuda", scene.dtype)
    calls = Calls.of(hvs.rasterize, inputs, gradient)
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
    return {name: float(np.median(found[name])) * len(found[name]) / RUNS for name in KERNELS if name in found}


def variants(channels: int) -> dict[str, dict[str, Any]]:
    """Other program sizes by name, and what each replaces in `launch`."""
    from hvs.kernels.fused import launch

    size = 1 << (channels - 1).bit_length()
    found: dict[str, dict[str, Any]] = {}
    for block, warps in ((64, 1), (128, 1), (128, 2), (128, 4)):
        found[f"survey_small: blocks of {block}, {warps} warps"] = dict(SURVEY_SIZES=dict(BLOCK=block, num_warps=warps))
    for share in (0.0, 1 / 3, 1 / 2, 2 / 3, 5 / 6, 1.0):
        found[f"{share:.2f} of empty tiles filled by survey_small"] = dict(FILLED_SHARE=share)
    for pixels, group, warps in ((32, 2, 1), (32, 4, 1), (64, 1, 1), (64, 2, 1), (64, 4, 1), (64, 2, 2), (128, 1, 4)):
        sizes = dict(CHANNELS=size, PIXELS=pixels, GROUP=group, num_warps=warps)
        found[f"blend: {pixels} pixels, {group} Gaussians, {warps} warps"] = dict(blend_sizes=lambda _, s=sizes: s)
    for registers in () if torch.version.hip else (96, 112, 128, 255):
        sizes = launch.SURVEY_SIZES | dict(maxnreg=registers)
        found[f"survey_small: at most {registers} registers"] = dict(SURVEY_SIZES=sizes)
    for pixels, warps in ((32, 1), (64, 1), (64, 2), (128, 4), (256, 4)):
        sizes = launch.gradient_sizes(channels) | dict(PIXELS=pixels, num_warps=warps)
        found[f"gradient: {pixels} pixels, {warps} warps"] = dict(gradient_sizes=lambda _, s=sizes: s)
    for registers in () if torch.version.hip else (128, 152, 168, 200, 255):
        sizes = launch.gradient_sizes(channels) | dict(maxnreg=registers)
        found[f"gradient: at most {registers} registers"] = dict(gradient_sizes=lambda _, s=sizes: s)
    for programs in (4096, 8192, 16384, 32768):
        found[f"gradient: {programs} programs"] = dict(GRADIENT_PROGRAMS=programs)
    return found


@contextlib.contextmanager
def replaced(values: dict[str, Any]) -> Iterator[None]:
    from hvs.kernels.fused import launch

    with contextlib.ExitStack() as stack:
        for name, value in values.items():
            stack.enter_context(mock.patch.object(launch, name, value))
        yield


def line(title: str, times: dict[str, float]) -> str:
    return f"{title:48s}" + "".join(f"{times[name]:12.1f}" if name in times else " " * 12 for name in KERNELS)


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
    print(f"{'':48s}" + "".join(f"{name[-11:]:>12s}" for name in KERNELS))
    print(line(str(scene), kernel_times(scene)), flush=True)
    for title, values in variants(scene.channels).items() if options.sweep else ():
        with replaced(values):
            print(line(title, kernel_times(scene)), flush=True)


if __name__ == "__main__":
    main()
