"""How many groups of pixels the Triton kernels visit, counted on a CPU in float64. Needs no GPU.

    python -m bench.patches

For the limbs of the main scene and for a cloud: the number of groups of 32 or 64 pixels on which Gaussians would be
evaluated if they were culled by tiles of 16×16 pixels alone, the number that they meet themselves, and the number in
which a weight counts. The bounds are those of `hvs.kernels.culling`.
"""

import argparse
import math
from collections.abc import Iterator

import torch
from torch import Tensor

from hvs.kernels import culling, reference

from . import scenes

ALPHA, BETA, TOLERANCE = 0.025, 2.0, 1e-6
TILE = 16
# Rows and columns of the groups that `gradient` and `blend` visit.
GROUPS = {"gradient": (4, 8), "blend": (8, 8)}
# Bodies and Gaussians of a cloud that are counted, and Gaussians that are evaluated at a time.
BODIES, SAMPLED, AT_ONCE = 8, 128, 16


def count(geometry: dict[str, Tensor], image: int, chosen: Tensor) -> dict[str, tuple[int, int, int]]:
    """For the chosen Gaussians of one image: groups in tiles that are met, groups met, groups where a weight counts."""
    means, rotations, scales, rays = (geometry[name][image].double() for name in geometry)
    whiten = culling.whitening(rotations, scales)
    least = TOLERANCE * background_weight(means, scales)
    visible = torch.ones(1, len(means), dtype=torch.bool)
    found = culling.gaussian_extent(means[None], whiten[None], visible, least[None], ALPHA)
    extent = culling.Extent(*(getattr(found, name)[:, chosen] for name in ("low", "high", "normal")))
    plane = rays[..., :2] / rays[..., 2:]
    tiles = meets(extent, plane, TILE, TILE)
    reached = torch.cat(
        [weights(means[n], rotations[n], scales[n], rays) > least for n in chosen.split(AT_ONCE)]
    )  # [N, H, W]
    counted = {}
    for name, (rows, columns) in GROUPS.items():
        inside = tiles.repeat_interleave(TILE // rows, 1).repeat_interleave(TILE // columns, 2)
        met = meets(extent, plane, rows, columns) & inside
        needed = reached.unflatten(1, (-1, rows)).unflatten(3, (-1, columns)).any(4).any(2)
        counted[name] = tuple(int(groups.sum()) for groups in (inside, met, needed))
    return counted


def background_weight(means: Tensor, scales: Tensor) -> Tensor:
    """An approximation: the deepest response is taken to be as deep as the deepest mean."""
    kappa = 10 ** math.ceil(2 * math.log10(scales.min()))
    return 0.5 * math.sqrt(math.pi * ALPHA * kappa) / (1 + (BETA * means[:, 2].max()) ** 4)


def weights(means: Tensor, rotations: Tensor, scales: Tensor, rays: Tensor) -> Tensor:
    """Weights of Gaussians [N] on rays [H, W]: [N, H, W]."""
    z, D, q = reference.response(means, rotations, scales, rays.flatten(0, 1))
    w = 0.5 * (math.pi * ALPHA / q).sqrt() / (1 + z**4) * (-D / ALPHA).exp()
    return w.mT.unflatten(1, rays.shape[:2])


def meets(extent: culling.Extent, plane: Tensor, rows: int, columns: int) -> Tensor:
    """Whether each Gaussian meets each block of the image plane [H, W, 2]: [N, H/rows, W/columns]."""
    blocks = plane.unflatten(0, (-1, rows)).unflatten(2, (-1, columns))
    low, high = blocks.amin((1, 3)), blocks.amax((1, 3))
    own_low, own_high, normal = (v[0][:, None, None] for v in (extent.low, extent.high, extent.normal))
    overlap = ((own_low <= high) & (own_high >= low)).all(-1)
    beside = (normal[..., :2] * (low + high)).sum(-1) / 2 + normal[..., 2]
    reach = (normal[..., :2].abs() * (high - low)).sum(-1) / 2
    return overlap & ~(beside.abs() > reach + 1)


def table(bodies: int, sampled: int, gaussians: int, side: int) -> Iterator[str]:
    yield f"{'':36s}{'of tiles met':>14s}{'met':>10s}{'a weight counts':>17s}"
    limbs = scenes.limbs(bodies, 256, 256)
    each = [count(limbs, image, torch.arange(scenes.LIMBS)) for image in range(bodies)]
    cloud = scenes.cloud(1, gaussians, side, side)
    chosen = torch.randperm(gaussians, generator=torch.Generator().manual_seed(0))[:sampled]
    some = count(cloud, 0, chosen)
    for name, (rows, columns) in GROUPS.items():
        for title, found, number in (
            ("an image of limbs, 256×256", [counted[name] for counted in each], bodies),
            (f"one of {gaussians:,}, {side}×{side}", [some[name]], len(chosen)),
        ):
            of_tiles, met, needed = (sum(column) / number for column in zip(*found, strict=True))
            yield f"{name + f' {rows}×{columns}':15s}{title:27s}{of_tiles:8.1f}{met:10.1f}{needed:17.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gaussians", type=int, default=100_000, help="size of the cloud")
    options = parser.parse_args()
    if options.gaussians < 1:
        raise SystemExit(f"--gaussians: got {options.gaussians}, wanted at least 1")
    for line in table(BODIES, SAMPLED, options.gaussians, 1024):
        print(line, flush=True)


if __name__ == "__main__":
    main()
