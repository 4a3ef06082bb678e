"""Culling: the pairs of a tile and a Gaussian that may matter, and the pair with the largest depth.

Both searches descend the pyramid of ray cells from the whole image to the tiles and drop a pair of a cell and a
Gaussian as soon as a bound shows that it cannot matter. With ``B = diag(1/s) ρᵀ``, the rays with ``D ≤ T`` are those
that hit the ellipsoid ``|B (x - μ)|² ≤ T``.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from .limits import SMALLEST_VOLUME
from .pyramid import FAN_OUT, TILE, Cells, gather_tiles

# The bounds are computed in the inputs' precision; this margin is larger than their rounding error.
SLACK = 1e-4
# The same for a mean, relative to its distance, which may be any number of times the Gaussian's size.
ROUNDING = 1e-6
# Pairs that are tested at a time.
PAIRS_PER_STEP = 1 << 18


@dataclass(frozen=True)
class Extent:
    """Bounds of the rays that can meet each of N Gaussians.

    Attributes:
        low, high: their bounding box of (x/z, y/z), [B, N, 2]; empty (low > high) for a Gaussian that matters nowhere.
        normal: rays with ``|normal · (x/z, y/z, 1)| > 1`` miss the Gaussian to the side of its long axis, [B, N, 3].
    """

    low: Tensor
    high: Tensor
    normal: Tensor


def whitening(rotations: Tensor, scales: Tensor) -> Tensor:
    """``B = diag(1/s) ρᵀ``, [..., N, 3, 3]."""
    return rotations.mT / scales[..., None]


def gaussian_extent(means: Tensor, whiten: Tensor, visible: Tensor, least_weight: Tensor, alpha: float) -> Extent:
    """Bounds of the rays on which a Gaussian's weight exceeds ``least_weight``.

    A weight is at most ``½ √(πα) |B⁻¹| / (1 + z⁴) exp(-D/α)``. This bounds D by a threshold T, and a second round, with
    a lower bound of z over the ellipsoid D ≤ T, tightens it. The ellipsoid's bounding box on the plane z = 1 follows
    from the planes through the camera that touch it.

    Args:
        means [B, N, 3], whiten [B, N, 3, 3], visible [B, N] (bool), least_weight [B].
    """
    rows = whiten.unbind(-2)
    crosses = torch.stack([torch.linalg.cross(rows[i], rows[(i + 1) % 3]) for i in (1, 2, 0)], -1)
    determinant = (rows[0] * crosses[..., 0]).sum(-1)
    has_inverse = determinant.abs() > SMALLEST_VOLUME * whiten.norm(dim=-1).prod(-1)
    unwhiten = crosses / determinant[..., None, None]  # B⁻¹ [B, N, 3, 3]
    size = unwhiten.square().sum((-2, -1)).sqrt()
    peak = 0.5 * math.sqrt(math.pi * alpha) * size / least_weight[:, None]
    threshold = (alpha * peak.log()).clamp(min=0)
    nearest = (means.norm(dim=-1) - threshold.sqrt() * size).clamp(min=0)
    threshold = alpha * (peak / (1 + nearest**4)).log() * (1 + SLACK)
    reached = visible & ~(has_inverse & (threshold <= 0))
    threshold = threshold.clamp(min=0)

    depth = means[..., 2]
    deviation = unwhiten.square().sum(-1)  # of x, y and z
    front = depth.square() - threshold * deviation[..., 2]
    in_front = has_inverse & (front > SLACK * depth.square()) & (depth > 0)
    box = []
    for axis in (0, 1):
        offset = means[..., axis]
        covariance = (unwhiten[..., axis, :] * unwhiten[..., 2, :]).sum(-1)
        # A plane x = a z touches the ellipsoid if (μ_x - a μ_z)² = T (Σ_xx - 2 a Σ_xz + a² Σ_zz). Half the distance
        # between the two roots a is written so that no large numbers cancel.
        spread = (unwhiten[..., axis, :] * depth[..., None] - unwhiten[..., 2, :] * offset[..., None]).square().sum(-1)
        area = deviation[..., axis] * deviation[..., 2] - covariance.square()
        half = (threshold * (spread - threshold * area).clamp(min=0)).sqrt()
        middle = offset * depth - threshold * covariance
        margin = half * (1 + SLACK) + ROUNDING * middle.abs()
        box.append(((middle - margin) / front, (middle + margin) / front))
    low, high = (torch.stack(side, -1) for side in zip(*box, strict=True))

    # The normal of the plane through the camera, the mean and the longest axis; in its direction the ellipsoid is thin.
    # Rounding moves the mean out of that plane, by much if the axis points at the camera and the normal is short.
    length, longest = unwhiten.norm(dim=-2).max(-1)
    longest = unwhiten.gather(-1, longest[..., None, None].expand(*depth.shape, 3, 1))[..., 0]
    normal = torch.linalg.cross(means, longest)
    thickness = (threshold * (unwhiten * normal[..., :, None]).sum(-2).square().sum(-1)).sqrt()
    margin = thickness * (1 + SLACK) + ROUNDING * means.square().sum(-1) * length
    closest = depth - (threshold * deviation[..., 2]).sqrt()
    normal = normal * (closest / margin)[..., None]

    # An ellipsoid that reaches around the camera or is unbounded, or whose bounds overflow, is taken to meet every ray.
    bounded = (in_front & torch.cat((low, high, normal), -1).isfinite().all(-1))[..., None]
    low = torch.where(bounded, low, -math.inf).masked_fill(~reached[..., None], math.inf)
    high = torch.where(bounded, high, math.inf).masked_fill(~reached[..., None], -math.inf)
    return Extent(low, high, torch.where(bounded, normal, 0.0))


def tile_pairs(levels: list[Cells], extent: Extent) -> tuple[Tensor, Tensor]:
    """Pairs of a tile and a Gaussian that may matter, sorted by tile.

    Returns:
        tiles [P] as b·T + tile and Gaussians [P] as b·N + Gaussian.
    """
    image, gaussian = (extent.low <= extent.high).all(-1).nonzero().unbind(-1)
    pairs = image, torch.zeros_like(image), gaussian
    for level, coarse in zip(reversed(levels), [None, *reversed(levels)], strict=False):
        kept = []
        for image, cell, gaussian in _descend(pairs, coarse, level):
            low, high = level.low[image, cell], level.high[image, cell]
            keep = ((extent.low[image, gaussian] <= high) & (extent.high[image, gaussian] >= low)).all(-1)
            normal = extent.normal[image, gaussian]
            beside = (normal[..., :2] * (low + high)).sum(-1) / 2 + normal[..., 2]
            reach = (normal[..., :2].abs() * (high - low)).sum(-1) / 2
            keep &= ~(beside.abs() > reach + 1)
            kept.append(torch.stack((image, cell, gaussian))[:, keep])
        pairs = torch.cat(kept, 1).unbind(0)
    image, tile, gaussian = pairs
    tiles, order = (image * levels[0].centre.shape[1] + tile).sort(stable=True)
    return tiles, (image * extent.low.shape[1] + gaussian)[order]


def farthest(
    means: Tensor, whiten: Tensor, visible: Tensor, rays: Tensor, levels: list[Cells], height: int, width: int
) -> Tensor:
    """Flat index pixel·N + Gaussian of the largest depth z in each image; among equals, the lowest index.

    Branch and bound: over a cell, ``|z| ≤ (|p| + |m| δ|B|) / (|u| - δ|B|)²`` and ``|z| ≤ |m| / (|u| - δ|B|)``, with p
    and u at the centre and δ the cell's radius. Pairs whose bound is below the largest depth at any centre so far are
    dropped; of tens of thousands of pairs of a tile and a Gaussian, a few dozen are left.

    Args:
        means [B, N, 3], whiten [B, N, 3, 3], visible [B, N] (bool), rays [B, 3, H, W] padded to tiles, levels their
        pyramid, height and width of the image without padding.

    Returns:
        [B]; zero for an image in which no Gaussian is visible.
    """
    batch, count = visible.shape
    m = (whiten * means[..., None, :]).sum(-1)
    m_norm = m.norm(dim=-1)
    # |B|² is at most the largest row sum of |BBᵀ| (Gershgorin); for a true rotation, BBᵀ is diagonal.
    lipschitz = (whiten[..., :, None, :] * whiten[..., None, :, :]).sum(-1).abs().sum(-1).amax(-1).sqrt()
    best = means.new_full((batch,), -math.inf)
    image, gaussian = visible.nonzero().unbind(-1)
    pairs = image, torch.zeros_like(image), gaussian
    for level, coarse in zip(reversed(levels), [None, *reversed(levels)], strict=False):
        candidates, bounds = [], []
        for image, cell, gaussian in _descend(pairs, coarse, level):
            u = (whiten[image, gaussian] * level.centre[image, cell][:, None]).sum(-1)
            p, q = (u * m[image, gaussian]).sum(-1), _positive(u.square().sum(-1))
            best = best.scatter_reduce(0, image, p / q, "amax")
            change = level.radius[image, cell] * lipschitz[image, gaussian]
            least = (q.sqrt() - change).clamp(min=0).square()
            reach = m_norm[image, gaussian]
            bound = torch.minimum((p.abs() + reach * change) / least, reach / least.sqrt())
            bounds.append(bound * (1 + SLACK))
            candidates.append(torch.stack((image, cell, gaussian)))
        pairs, bound = torch.cat(candidates, 1), torch.cat(bounds)
        pairs = pairs[:, ~(bound < best[pairs[0]])].unbind(0)
    return _farthest_pixel(pairs, m, whiten, rays, (height, width))


def _farthest_pixel(
    pairs: tuple[Tensor, ...], m: Tensor, whiten: Tensor, rays: Tensor, size: tuple[int, int]
) -> Tensor:
    """The result of :func:`farthest`, from all pixels of the given pairs (image, tile, Gaussian)."""
    batch, count = m.shape[:2]
    height, width = size
    step = torch.arange(TILE, device=m.device)
    best = m.new_full((batch,), -math.inf)
    index = torch.zeros(batch, dtype=torch.long, device=m.device)
    nowhere = height * width * count
    for image, tile, gaussian in zip(*(v.split(PAIRS_PER_STEP // TILE**2) for v in pairs), strict=True):
        row, column = tile // (rays.shape[3] // TILE), tile % (rays.shape[3] // TILE)
        # A padded pixel is a copy of one at the border, and has that one's index.
        y = (row[:, None] * TILE + step).clamp(max=height - 1)[:, :, None]
        x = (column[:, None] * TILE + step).clamp(max=width - 1)[:, None, :]
        flat = ((y * width + x) * count + gaussian[:, None, None]).flatten(1)
        B, r = whiten[image, gaussian], gather_tiles(rays, (image, row, column))
        u = (B[..., None] * r[:, None]).sum(2)  # [P, 3, TILE²]
        z = (u * m[image, gaussian][..., None]).sum(1) / _positive(u.square().sum(1))
        highest = best.scatter_reduce(0, image, z.amax(-1), "amax")
        index = torch.where(highest > best, nowhere, index)
        flat = torch.where(z == highest[image][:, None], flat, nowhere).amin(-1)
        index = index.scatter_reduce(0, image, flat, "amin")
        best = highest
    return torch.where(index < nowhere, index, 0)


def _positive(q: Tensor) -> Tensor:
    return q.clamp(min=torch.finfo(q.dtype).tiny)


def _descend(pairs: tuple[Tensor, ...], coarse: Cells | None, fine: Cells):
    """Chunks of the pairs (image, cell, Gaussian) one level down; without a coarser level, of the pairs as they are."""
    if coarse is None:
        yield from zip(*(v.split(PAIRS_PER_STEP) for v in pairs), strict=True)
        return
    for image, cell, gaussian in zip(*(v.split(PAIRS_PER_STEP // FAN_OUT**2) for v in pairs), strict=True):
        cells, exists = coarse.children(cell, fine)
        row, column = exists.nonzero().unbind(-1)
        yield image[row], cells[row, column], gaussian[row]
