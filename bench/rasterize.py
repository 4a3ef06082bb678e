"""The rasteriser and what it is compared with: one row per operation and scene.

All timings of a row are taken in the same run: ours, the floor (writing the latent once, or reading it and its gradient
once), the dense textbook formulation in eager PyTorch and compiled, and gsplat if it is installed. Wrong results are
not timed.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch._functorch.config
from torch import Tensor

import hvs

from . import gsplat_baseline
from .dense import dense_rasterize
from .floors import read_once, write_once
from .record import WrongResultsError
from .scenes import LIMBS, cloud, limbs, with_features
from .timing import MIB, measure, own_stream, peak_mib

# Largest relative errors of the latent and of a gradient that count as right, by the dtype of the features.
PRECISION = {torch.float32: (5e-5, 1e-3), torch.bfloat16: (1e-2, 5e-2), torch.float16: (2e-3, 1e-2)}
# Arrays of pixels × Gaussians for which there must be memory, for the dense formulation and for the compiled one.
# Counted: they keep 10 and 3 for their backward pass, and at their peak, passes of the two have 13 and 10.
DENSE_ARRAYS, COMPILED_ARRAYS = 26, 14
# Memory for these arrays on a machine without a GPU.
MOST_MIB_ON_CPU = 10 * 1024


@dataclass(frozen=True)
class Scene:
    """What to render: limbs of real poses if there are as many Gaussians as a body has limbs, else a cloud."""

    batch: int = 1
    height: int = 256
    width: int = 256
    count: int = LIMBS
    channels: int = 16
    dtype: torch.dtype = torch.float32

    def __str__(self) -> str:
        dtype = str(self.dtype).removeprefix("torch.")
        return f"b{self.batch}/{self.height}x{self.width}/n{self.count}/c{self.channels}/{dtype}"

    def inputs(self, device: str) -> dict[str, Tensor]:
        if self.count == LIMBS:
            geometry = limbs(self.batch, self.height, self.width)
        else:
            geometry = cloud(self.batch, self.count, self.height, self.width)
        return with_features(geometry, self.channels, self.dtype, device)

    def pairs_mib(self) -> float:
        """Size of an array with a number for each pixel and Gaussian."""
        return 4 * self.batch * self.height * self.width * self.count / MIB


@dataclass(frozen=True)
class Calls:
    """A rasteriser's passes as calls without arguments."""

    forward: Callable[[], Tensor]
    backward: Callable[[], tuple[Tensor, ...]]
    both: Callable[[], tuple[Tensor, ...]]

    @staticmethod
    def of(rasterize: Callable[..., Tensor], inputs: dict[str, Tensor], gradient: Tensor) -> "Calls":
        leaves = [value for value in inputs.values() if value.requires_grad]
        latent = rasterize(**inputs)
        return Calls(
            lambda: rasterize(**inputs),
            lambda: torch.autograd.grad(latent, leaves, gradient, retain_graph=True),
            lambda: torch.autograd.grad(rasterize(**inputs), leaves, gradient),
        )


def measure_scene(scene: Scene, device: str, seconds: float = 1.0, compiled: bool = True) -> list[dict[str, Any]]:
    """The rows of one scene: forward, backward, and both."""
    with own_stream(device):
        return _measure_scene(scene, device, seconds, compiled)


def _measure_scene(scene: Scene, device: str, seconds: float, compiled: bool) -> list[dict[str, Any]]:
    inputs = scene.inputs(device)
    shape = scene.batch, scene.channels, scene.height, scene.width
    gradient = torch.randn(shape, generator=torch.Generator().manual_seed(2)).to(device, scene.dtype)
    ours = Calls.of(hvs.rasterize, inputs, gradient)
    error = check(ours, inputs, gradient, scene.dtype)
    others = _prepared(scene, _others(scene, device, compiled, inputs, gradient))
    try:
        rows = _rows(scene, device, seconds, gradient, ours, others)
    except Exception as fault:
        # Most likely too little memory for all that is captured.
        if not others:
            raise
        rows, reason = None, str(fault)
    if rows is None:
        print(f"{scene}: {', '.join(others)} left out: {reason}", file=sys.stderr, flush=True)
        others.clear()
        rows = _rows(scene, device, seconds, gradient, ours, others)
    return [row | dict(error=error) for row in rows]


def _prepared(scene: Scene, ways: dict[str, Callable[[], Calls]]) -> dict[str, Calls]:
    """The ways that can render the scene; ours is timed even if others fail."""
    found = {}
    for name, prepare in ways.items():
        try:
            calls = prepare()
            # Twice, as a pass that is timed is repeated.
            for call in 2 * (calls.forward, calls.backward, calls.both):
                call()
        except Exception as fault:
            print(f"{scene}: {name} is left out: {fault}", file=sys.stderr, flush=True)
        else:
            found[name] = calls
    return found


def _rows(
    scene: Scene, device: str, seconds: float, gradient: Tensor, ours: Calls, others: dict[str, Calls]
) -> list[dict[str, Any]]:
    latent = ours.forward().detach()
    write, read = write_once(latent), read_once(gradient, latent)
    floors = dict(forward=write, backward=read, both=lambda: (write(), read()))
    outputs = dict(forward=latent.nbytes, backward=0, both=latent.nbytes)

    rows = []
    for name, floor in floors.items():
        calls = {"ms": getattr(ours, name), "floor_ms": floor}
        calls |= {f"{other}_ms": getattr(passes, name) for other, passes in others.items()}
        captured = set(calls) - {"gsplat_ms"} if _can_be_captured(scene, device) else set()
        if captured:
            # To compare with gsplat, which waits for the GPU: includes the time Python takes before a launch.
            calls["eager_ms"] = getattr(ours, name)
        times = measure(calls, device, seconds, captured)
        row: dict[str, Any] = dict(name=f"{name}/{scene}")
        row |= {key: timing.median for key, timing in times.items()}
        row |= dict(ms_low=times["ms"].low, ms_high=times["ms"].high, captured=times["ms"].captured)
        row["ratio_to_floor"] = row["ms"] / row["floor_ms"]
        row["peak_mib"] = peak_mib(calls["ms"], device) - outputs[name] / MIB
        if "dense" in others:
            row["speedup_over_dense"] = row["dense_ms"] / row["ms"]
            row["dense_peak_mib"] = peak_mib(calls["dense_ms"], device) - outputs[name] / MIB
        rows.append(row)
    return rows


def _others(
    scene: Scene, device: str, compiled: bool, inputs: dict[str, Tensor], gradient: Tensor
) -> dict[str, Callable[[], Calls]]:
    """The other ways to render the scene."""

    def compile_dense() -> Calls:
        # Compiled for these sizes alone, and with a backward pass that can be repeated. That is also made the default,
        # because on a GPU the pass runs in another thread, which may not see what is set in this one.
        torch.compiler.reset()
        settings = torch._functorch.config
        settings.donated_buffer = settings._config["donated_buffer"].default = False
        return Calls.of(torch.compile(dense_rasterize), inputs, gradient)

    found: dict[str, Callable[[], Calls]] = {}
    if scene.dtype == torch.float32:
        ways = {"dense": (DENSE_ARRAYS, lambda: Calls.of(dense_rasterize, inputs, gradient))}
        if compiled:
            ways["compiled"] = COMPILED_ARRAYS, compile_dense
        free = _free_mib(device)
        for name, (arrays, prepare) in ways.items():
            needed = arrays * scene.pairs_mib()
            if needed < free:
                found[name] = prepare
                free -= needed
            else:
                gib = f"{needed / 1024:.2f} GiB"
                print(f"{scene}: {name} is left out: {gib} are not free", file=sys.stderr, flush=True)
    if gsplat_baseline.fits(scene, device):
        found["gsplat"] = lambda: Calls.of(*gsplat_baseline.prepare(inputs), gradient.movedim(1, -1).contiguous())
    return found


def check(calls: Calls, inputs: dict[str, Tensor], gradient: Tensor, dtype: torch.dtype) -> float:
    """Relative error of the latent; raises a WrongResultsError if it or that of a gradient is too large."""
    double = {name: value.detach().double().requires_grad_(value.requires_grad) for name, value in inputs.items()}
    right = Calls.of(lambda **v: hvs.rasterize(**v, backend="torch"), double, gradient.double())
    found = [calls.forward(), *calls.backward()]
    wanted = [right.forward(), *right.backward()]
    errors = [((a.double() - b).norm() / b.norm()).item() for a, b in zip(found, wanted, strict=True)]
    forward, backward = PRECISION[dtype]
    # One by one, because max() may pass over a NaN.
    if not (errors[0] <= forward and all(error <= backward for error in errors[1:])):
        raise WrongResultsError(f"wrong results are not timed: relative errors {errors}")
    return errors[0]


def _free_mib(device: str) -> float:
    """Memory for what ours is compared with."""
    if torch.device(device).type == "cuda":
        # Memory that PyTorch caches would count as used.
        torch.cuda.empty_cache()
        return torch.cuda.mem_get_info()[0] / MIB
    return MOST_MIB_ON_CPU


def _can_be_captured(scene: Scene, device: str) -> bool:
    """Whether the scene is rendered without waiting for the GPU, so that a CUDA graph can capture it."""
    if torch.device(device).type != "cuda":
        return False
    from hvs.kernels.fused.launch import is_small

    return is_small(scene.batch, scene.count, scene.height, scene.width)
