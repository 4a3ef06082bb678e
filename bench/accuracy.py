"""`python -m bench.accuracy`: how accurate the rasteriser is, and how little work its bounds leave, on any machine.

    python -m bench.accuracy --plot FILE    also plot the error over the distance of the body

Measured on poses of the sample capture with 16 channels, against the dense reference in float64.
"""

import argparse
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from unittest import mock

import torch
from torch import Tensor

import hvs
from hvs.kernels import culling, reference, tiled
from hvs.kernels.pyramid import TILE, build_pyramid, pad_to_tiles
from hvs.kernels.rasterize import _background_weight

from .dense import dense_rasterize
from .scenes import DISTANCE, LIMBS, bodies, intrinsics, limbs, with_features

SIDE, CHANNELS, POSES = 256, 16, 8
# The defaults of hvs.rasterize.
ALPHA, BETA, EPS, NEAR, TOLERANCE = 0.025, 2.0, 1e-8, 1e-2, 1e-6
TOLERANCES = (1e-2, 1e-4, 1e-6, 1e-8)
DISTANCES = (1.5, 3.0, 6.0, 12.0, 24.0)
Inputs = dict[str, Tensor]
WAYS: dict[str, Callable[..., Tensor]] = {
    "textbook": dense_rasterize,
    "reference": partial(hvs.rasterize, backend="reference"),
    "torch": partial(hvs.rasterize, backend="torch"),
}


def body(pose: int, side: int = SIDE) -> Inputs:
    """All arguments of the rasteriser for one pose, float32."""
    geometry = {name: value[pose : pose + 1] for name, value in limbs(pose + 1, side, side).items()}
    return with_features(geometry, CHANNELS, torch.float32, "cpu")


def body_at(distance: float, side: int = SIDE) -> Inputs:
    """The first pose at a distance, seen through a lens that keeps its size in the image constant."""
    shift = torch.tensor([0.0, 0.0, distance - DISTANCE])
    means, rotations, scales = hvs.limb_gaussians(bodies(1) + shift, hvs.skeletons.PANOPTIC)
    zoom = torch.tensor([[distance / DISTANCE], [distance / DISTANCE], [1.0]])
    K = intrinsics(side, side)
    K = torch.cat((K[:, :2] * zoom, K[:, 2:]), 1)
    rays = hvs.Camera(K, torch.eye(3), torch.zeros(3), torch.zeros(0), side, side).rays()[None]
    geometry = dict(means=means, rotations=rotations, scales=scales, rays=rays)
    return with_features(geometry, CHANNELS, torch.float32, "cpu")


def as_double(inputs: Inputs) -> Inputs:
    return {name: value.detach().double().requires_grad_(value.requires_grad) for name, value in inputs.items()}


def relative(found: Tensor, right: Tensor) -> float:
    return ((found.detach().double() - right).norm() / right.norm()).item()


def errors(inputs: Inputs, backward: bool = True) -> dict[str, tuple[float, float, float]]:
    """Relative L2 and largest error of the latent, and relative L2 error of the worst gradient, each way in float32."""
    double = as_double(inputs)
    right = WAYS["reference"](**double)
    gradient = torch.randn(right.shape, generator=torch.Generator().manual_seed(2))
    leaves = [name for name, value in inputs.items() if value.requires_grad]
    wanted = torch.autograd.grad(right, [double[name] for name in leaves], gradient.double()) if backward else ()
    right, rows = right.detach(), {}
    for way, rasterize in WAYS.items():
        latent = rasterize(**inputs)
        found = torch.autograd.grad(latent, [inputs[name] for name in leaves], gradient) if backward else ()
        worst = max((relative(a, b) for a, b in zip(found, wanted, strict=True)), default=0.0)
        rows[way] = relative(latent, right), (latent.detach() - right).abs().max().item(), worst
    return rows


def skipping(inputs: Inputs, tolerance: float) -> tuple[float, float]:
    """How much skipping pairs changes the latent, and the bound on this change."""
    double = {name: value.detach() for name, value in as_double(inputs).items()}
    exact, found = (
        hvs.rasterize(**double, backend=way, tolerance=tolerance).squeeze(0) for way in ("reference", "torch")
    )
    largest = max(double["features"].abs().max().item(), double["background"].abs().max().item())
    return (found - exact).abs().max().item(), LIMBS * tolerance * 2 * largest


def work(inputs: Inputs) -> dict[str, float]:
    """How many pairs the bounds leave to compute, and how many matter."""
    means, rotations, scales, rays = (inputs[name].detach() for name in ("means", "rotations", "scales", "rays"))
    whiten, visible = culling.whitening(rotations, scales), means[..., 2] >= NEAR
    levels = build_pyramid(pad_to_tiles(rays.movedim(-1, 1)).contiguous())
    with mock.patch.object(culling, "_farthest_pixel", wraps=culling._farthest_pixel) as evaluate:
        weight = _background_weight(means, rotations, scales, rays, visible, ALPHA, BETA, tiled)
    searched = len(evaluate.call_args.args[0][0])
    least = TOLERANCE * weight.clamp(min=EPS)
    tiles, _ = culling.tile_pairs(levels, culling.gaussian_extent(means, whiten, visible, least, ALPHA))
    counts = torch.bincount(tiles, minlength=levels[0].height * levels[0].width)
    z, D, q = reference.response(means, rotations, scales, rays.flatten(1, 2))
    peak = 1 / (1 + z**4) * 0.5 * torch.sqrt(torch.pi * ALPHA / q)
    matter = peak * torch.exp(-D / ALPHA) > least
    # In the pixel nearest to the Gaussian's middle.
    nearest = D.min(1, keepdim=True).indices
    contrast = peak.gather(1, nearest) / weight
    return dict(
        matter=matter.float().mean().item(),
        computed=counts.sum().item() / (len(counts) * LIMBS),
        mean=counts.float().mean().item(),
        most=counts.max().item(),
        empty=(counts == 0).float().mean().item(),
        searched=searched,
        contrast=contrast.median().item(),
    )


def report(poses: int = POSES, side: int = SIDE) -> Iterator[str]:
    """The lines of the tables."""
    found = [errors(body(pose, side)) for pose in range(poses)]
    yield f"{'float32':12s}{'latent, mean':>14s}{'worst':>10s}{'worst pixel':>13s}{'worst gradient':>16s}"
    for way in WAYS:
        latent, pixel, gradient = zip(*(row[way] for row in found), strict=True)
        mean = sum(latent) / len(latent)
        yield f"{way:12s}{mean:14.1e}{max(latent):10.1e}{max(pixel):13.1e}{max(gradient):16.1e}"
    yield f"\n{'tolerance':12s}{'change':>14s}{'bound':>10s}"
    for tolerance in TOLERANCES:
        change, bound = skipping(body(0, side), tolerance)
        yield f"{tolerance:<12.0e}{change:14.1e}{bound:10.1e}"
    rows = [work(body(pose, side)) for pose in range(poses)]

    def mean(name: str) -> float:
        return sum(row[name] for row in rows) / len(rows)

    yield f"\n{'of all pairs of pixels and limbs, matter':52s}{mean('matter'):10.2%}"
    yield f"{'of all pairs of tiles and limbs, are computed':52s}{mean('computed'):10.2%}"
    yield f"{'limbs of a tile, mean':52s}{mean('mean'):10.2f}"
    yield f"{'limbs of a tile, most':52s}{max(row['most'] for row in rows):10d}"
    yield f"{'tiles without limbs':52s}{mean('empty'):10.0%}"
    yield f"{'weight in the middle of a limb, × background, median':52s}{mean('contrast'):10.0f}"
    pairs = (side // TILE) ** 2 * LIMBS
    yield f"{f'of {pairs:,} pairs searched pixel by pixel, mean':52s}{mean('searched'):10.1f}"
    yield f"{'most':52s}{max(row['searched'] for row in rows):10d}"


def plot(file: Path, side: int = SIDE) -> None:
    """Plot the error of the latent over the distance of the body."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    rows = [errors(body_at(distance, side), backward=False) for distance in DISTANCES]
    figure, axes = plt.subplots(figsize=(6, 3.2), layout="constrained")
    for way, marker in zip(WAYS, "osD", strict=True):
        label = {"textbook": "textbook form", "reference": "cross product, dense", "torch": "residual, tiled"}[way]
        axes.plot(DISTANCES, [row[way][0] for row in rows], marker=marker, label=label)
    axes.set(xscale="log", yscale="log", xlabel="distance of the body, metres", ylabel="relative L2 error, float32")
    axes.set_xticks(DISTANCES, [f"{distance:g}" for distance in DISTANCES], minor=False)
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(file, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--poses", type=int, default=POSES)
    parser.add_argument("--side", type=int, default=SIDE, help="side of the image, in pixels")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="write a PNG (needs matplotlib)")
    options = parser.parse_args()
    for line in report(options.poses, options.side):
        print(line, flush=True)
    if options.plot:
        plot(options.plot, options.side)


if __name__ == "__main__":
    main()
