"""Host time of a call of the Triton backend: what Python, PyTorch and Triton take around the kernels.

    python -m bench.host

Microseconds for the main scene with one image, from the call to its return; only a large scene waits for the GPU in
between. Without a GPU, Triton gets a driver whose launches do nothing, and everything but the launches is timed. Where
the GPU needs less time than the host, a call takes as long as the host: then a CUDA graph, or more images per call,
pays off.
"""

import argparse
import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import torch
import triton
from triton.backends.compiler import GPUTarget

import hvs
from hvs.kernels import backends
from hvs.kernels.fused import launch, programs

from .rasterize import Scene
from .timing import ROUNDS, WARM_UP, Timing

SECONDS = 1.0


class SilentDriver:
    """Stands in for Triton's driver: kernels are compiled for an H100, and their launches do nothing."""

    utils = mock.Mock()
    utils.get_device_properties.return_value = dict(
        max_shared_mem=232448, multiprocessor_count=132, warpSize=32, max_num_regs=65536
    )
    # Module, function, registers, spills and threads.
    utils.load_binary.return_value = (1, 1, 32, 0, 1024)

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", 90, 32)

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int) -> int:
        return 0

    def launcher_cls(self, source: Any, metadata: Any) -> Callable[..., None]:
        return _count_ones if metadata.name == "pair_large" else lambda *_: None


def _count_ones(*arguments: Any) -> None:
    """One of each: the host reads the number of pairs of a large scene, and allocates memory for them."""
    for argument in arguments:
        if isinstance(argument, torch.Tensor) and argument.dtype == torch.int32:
            argument.fill_(1)


@contextlib.contextmanager
def pretended_gpu() -> Iterator[None]:
    """Within this context, the Triton backend takes tensors on the CPU and computes nothing."""
    driver = mock.patch.object(triton.runtime.driver, "_active", SilentDriver())
    with driver, mock.patch.object(backends, "_find_obstacle", return_value=""):
        yield


def calls(device: str) -> dict[str, Callable[[], object]]:
    """The calls to time, by name."""
    inputs = Scene().inputs(device)
    leaves = [value for value in inputs.values() if value.requires_grad]
    values = {name: value.detach() for name, value in inputs.items()} | dict(alpha=0.025, eps=1e-8)
    rest = dict(beta=2.0, near=1e-2, tolerance=1e-6)
    saved = launch.forward(**values, **rest)
    gradient = torch.ones_like(saved.latent)

    def forward() -> torch.Tensor:
        return hvs.rasterize(**inputs, backend="triton")

    def both() -> tuple[torch.Tensor, ...]:
        return torch.autograd.grad(forward(), leaves, gradient)

    def both_as_if_large() -> tuple[torch.Tensor, ...]:
        small = programs.SMALL_PAIRS
        programs.SMALL_PAIRS = 0
        try:
            return both()
        finally:
            programs.SMALL_PAIRS = small

    return {
        "forward": forward,
        "forward, no gradient": torch.no_grad()(forward),
        "forward and backward": both,
        "the same as a large scene": both_as_if_large,
        "launches of forward": lambda: launch.forward(**values, **rest),
        "launches of backward": lambda: launch.backward(gradient, saved, **values, with_rays=False),
    }


def measure(functions: dict[str, Callable[[], object]], seconds: float) -> dict[str, Timing]:
    """Milliseconds of every call, taken in turns; the wait for the GPU between two calls is not included."""
    times: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(ROUNDS):
        for name, function in functions.items():
            for _ in range(WARM_UP):
                function()
            stop = time.perf_counter() + seconds / ROUNDS
            while not times[name] or time.perf_counter() < stop:
                if torch.cuda.is_available():
                    torch.cuda.synchronize()
                start = time.perf_counter()
                function()
                times[name].append(1e3 * (time.perf_counter() - start))
    return {name: Timing.of(found) for name, found in times.items()}


def main() -> None:
    # There is nothing to set; an option is an error instead of being ignored.
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    if torch.cuda.is_available():
        found = measure(calls("cuda"), SECONDS)
    else:
        with pretended_gpu():
            found = measure(calls("cpu"), SECONDS)
    print(f"{'':28s}{'quartile':>10s}{'median':>10s}{'quartile':>10s}")
    for name, timing in found.items():
        print(f"{name:28s}" + "".join(f"{1e3 * value:10.0f}" for value in (timing.low, timing.median, timing.high)))


if __name__ == "__main__":
    main()
