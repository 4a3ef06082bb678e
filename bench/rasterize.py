"""The rasteriser on this machine beside the dense textbook formulation: time, and memory beside the result.

    python -m bench.rasterize
    python -m bench.rasterize --height 512 --width 512 --batch 4

Forward and backward of real poses; medians over rounds that alternate between the two, and the peak of what is
allocated beyond the inputs, the latent and its gradient. The results are compared before anything is timed.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import hvs
from bench.dense import dense_rasterize

POSES = Path(__file__).parent / "poses.npz"
MIB = 1024**2


def scene(batch: int, height: int, width: int, channels: int, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """Poses of the sample capture, each filling the image."""
    points = torch.from_numpy(np.load(POSES)["points"]).to(dtype)
    points = points[torch.arange(batch) % len(points)]
    centre = (points.amin(1) + points.amax(1)) / 2
    distance, focal = 3.0, 1.4 * min(height, width)
    points = points - centre[:, None] + torch.tensor([0.0, 0.0, distance], dtype=dtype)
    K = torch.tensor([[focal, 0, (width - 1) / 2], [0, focal, (height - 1) / 2], [0, 0, 1]], dtype=dtype)
    distortion = torch.tensor([-0.1, 0.05, 1e-3, -1e-3, 0.0], dtype=dtype)
    rays = hvs.Camera(K, torch.eye(3, dtype=dtype), torch.zeros(3, dtype=dtype), distortion, height, width).rays()
    means, rotations, scales = hvs.limb_gaussians(points, hvs.skeletons.PANOPTIC)
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(batch, means.shape[1], channels, generator=generator, dtype=dtype)
    background = torch.randn(batch, channels, generator=generator, dtype=dtype)
    inputs = dict(means=means, rotations=rotations, scales=scales, features=features, background=background)
    inputs = {name: value.requires_grad_() for name, value in inputs.items()}
    return inputs | dict(rays=rays.expand(batch, height, width, 3).contiguous())


def run(rasterize: Callable[..., Tensor], inputs: dict[str, Tensor], gradient: Tensor) -> tuple[Tensor, ...]:
    """Forward and backward: the latent, and the gradients of everything but the rays."""
    latent = rasterize(**inputs)
    leaves = [value for value in inputs.values() if value.requires_grad]
    return latent.detach(), *torch.autograd.grad(latent, leaves, gradient)


def peak_bytes(function: Callable[[], object]) -> int:
    """The most memory that a call has allocated at any time."""
    with torch.profiler.profile(profile_memory=True) as profiler:
        function()
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    changes = [event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())]
    return int(np.cumsum(changes).max())


def repeat(function: Callable[[], object], count: int) -> list[float]:
    """Seconds of each of ``count`` calls in a row, after one that is not counted."""
    function()
    times = []
    for _ in range(count):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return times


def relative(a: Tensor, b: Tensor) -> float:
    return ((a - b).norm() / b.norm()).item()


def measure(batch: int, height: int, width: int, channels: int, rounds: int) -> dict[str, float | str]:
    """One row of the report."""
    inputs = scene(batch, height, width, channels)
    gradient = torch.randn(batch, channels, height, width, generator=torch.Generator().manual_seed(1))
    double = {name: value.detach().double().requires_grad_(value.requires_grad) for name, value in inputs.items()}
    right = run(hvs.rasterize, double, gradient.double())
    found = run(hvs.rasterize, inputs, gradient)
    errors = [relative(a.double(), b) for a, b in zip(found, right, strict=True)]
    if errors[0] > 5e-5 or max(errors[1:]) > 1e-3:
        raise SystemExit(f"wrong results are not timed: relative errors {errors}")

    runs = {"tiled": lambda: run(hvs.rasterize, inputs, gradient)}
    runs["dense"] = lambda: run(dense_rasterize, inputs, gradient)
    times: dict[str, list[float]] = {name: [] for name in runs}
    # Rounds of each, as in a training step that goes on with the same memory; the first call of a round warms up.
    for _ in range(rounds):
        for name, function in runs.items():
            times[name] += repeat(function, 10 if name == "tiled" else 3)
    tiled, dense = (1e3 * statistics.median(times[name]) for name in ("tiled", "dense"))
    # The gradient of the latent is an input here, only the latent is allocated in the call.
    extra = {name: (peak_bytes(function) - found[0].nbytes) / MIB for name, function in runs.items()}
    return dict(
        name=f"rasterize/b{batch}/{height}x{width}/n{inputs['means'].shape[1]}/c{channels}/float32",
        ms=tiled,
        dense_ms=dense,
        speedup_over_dense=dense / tiled,
        extra_mib=extra["tiled"],
        dense_extra_mib=extra["dense"],
        error=errors[0],
        dense_error=relative(run(dense_rasterize, inputs, gradient)[0].double(), right[0]),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("batch", 1), ("height", 256), ("width", 256), ("channels", 16), ("rounds", 5)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--json", type=Path, help="file to write the row to")
    options = vars(parser.parse_args())
    file = options.pop("json")
    row = measure(**options)
    print(f"{row['name']}, forward + backward, {torch.get_num_threads()} threads, torch {torch.__version__}")
    print(f"{'':10s}{'ms':>10s}{'extra MiB':>12s}{'rel. error':>12s}")
    for title, prefix in (("tiled", ""), ("dense", "dense_")):
        print(f"{title:10s}{row[prefix + 'ms']:10.2f}{row[prefix + 'extra_mib']:12.1f}{row[prefix + 'error']:12.1e}")
    print(
        f"{row['speedup_over_dense']:.1f} × faster, {row['dense_extra_mib'] / row['extra_mib']:.1f} × less extra memory"
    )
    if file:
        file.write_text(json.dumps(row, indent=1))


if __name__ == "__main__":
    main()
