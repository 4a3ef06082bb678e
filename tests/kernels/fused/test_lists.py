"""The tiles' lists hold every Gaussian that matters, and few that do not."""

import math

import pytest
import torch

from hvs.kernels import reference
from hvs.kernels.fused import launch

TOLERANCE = 1e-6


def listed(inputs, device):
    """Which Gaussian is in which tile's list, [B, T, N]."""
    inputs = {name: value.to(device) for name, value in inputs.items()}
    found = launch.forward(*inputs.values(), alpha=0.025, beta=2.0, eps=1e-8, near=1e-2, tolerance=TOLERANCE)
    (batch, tiles), gaussians = found.counts.shape, inputs["means"].shape[1]
    room = torch.arange(batch * tiles).view(batch, tiles) * gaussians
    members = torch.zeros(batch, tiles, gaussians, dtype=torch.bool)
    for b in range(batch):
        for tile in range(tiles):
            start, count = int((found.starts if len(found.starts) else room)[b, tile]), int(found.counts[b, tile])
            chosen = found.members[start : start + count].long().cpu()
            assert (chosen.diff() > 0).all()
            members[b, tile, chosen] = True
    return members, found


def matters(inputs, weight):
    """Which Gaussian has a weight that counts in which tile, in double precision, [B, T, N]."""
    means, rotations, scales, _, _, rays = (value.double() for value in inputs.values())
    batch, height, width, _ = rays.shape
    z, D, q = reference.response(means, rotations, scales, rays.flatten(1, 2))
    w = 1 / (1 + z**4) * 0.5 * (math.pi * 0.025 / q).sqrt() * (-D / 0.025).exp() * (means[:, None, :, 2] >= 1e-2)
    reached = (w > TOLERANCE * weight.double().clamp(min=1e-8)[:, None, None]).unflatten(1, (height, width))
    rows, columns = launch.tile_grid(height, width)
    tiles = torch.zeros(batch, rows * columns, means.shape[1], dtype=torch.bool)
    for tile in range(rows * columns):
        y, x = 16 * (tile // columns), 16 * (tile % columns)
        tiles[:, tile] = reached[:, y : y + 16, x : x + 16].flatten(1, 2).any(1)
    return tiles


@pytest.mark.parametrize("large", [False, True], ids=["small", "large"])
@pytest.mark.parametrize("sizes", [(0.005, 0.02), (0.01, 0.3)], ids=["specks", "limbs"])
def test_everything_that_matters_is_listed(scene, device, monkeypatch, large, sizes):
    if large:
        monkeypatch.setattr(launch, "SMALL_PAIRS", 0)
    inputs = scene(20, 140, 20, batch=(2,), dtype=torch.float32, smallest=sizes[0], largest=sizes[1])
    members, found = listed(inputs, device)
    needed = matters(inputs, found.image_values[:, 0].cpu())
    assert not (needed & ~members).any()
    assert members.sum() < 2 * needed.sum()


def test_both_kinds_of_scenes_have_the_same_lists(scene, device, monkeypatch):
    inputs = scene(20, 140, 20, batch=(2,), dtype=torch.float32)
    small, _ = listed(inputs, device)
    monkeypatch.setattr(launch, "SMALL_PAIRS", 0)
    large, found = listed(inputs, device)
    assert torch.equal(small, large)
    # The tiles of each Gaussian, one Gaussian after the other.
    pairs = small.transpose(1, 2).nonzero()
    tiles = small.shape[1]
    assert torch.equal(found.pair_tiles.cpu().long(), pairs[:, 0] * tiles + pairs[:, 2])
    assert torch.equal(found.ends.flatten().cpu(), small.sum(1).flatten().cumsum(0))


def test_around_the_camera_and_behind_it(scene, device):
    inputs = scene(3, 40, 40, dtype=torch.float32)
    inputs["means"] = torch.tensor([[[0.0, 0.0, 0.1], [0.0, 0.0, -3.0], [50.0, 0.0, 1.0]]])
    inputs["scales"] = torch.full((1, 3, 3), 0.2)
    members, _ = listed(inputs, device)
    assert members[0, :, 0].all() and not members[0, :, 1].any() and not members[0, :, 2].any()
