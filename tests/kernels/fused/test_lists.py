"""The tiles' lists hold every Gaussian that matters, and few that do not."""

import math
from unittest import mock

import pytest
import torch
import triton
import triton.language as tl

from hvs.kernels import reference
from hvs.kernels.fused import launch, lists, programs
from hvs.kernels.fused.geometry import PATCHES
from hvs.kernels.fused.lists import meets
from hvs.kernels.fused.survey import load_boxes
from hvs.kernels.fused.values import address_of, image_of, load_extent
from tests.kernels.fused.watched import Watched

TOLERANCE = 1e-6


@triton.jit
def meet(met, gaussians, patches, count, SIZE: tl.constexpr):
    """Which Gaussians meet a patch, met [B, patches, N]."""
    b, tile, tiles, patch = tl.program_id(0), tl.program_id(1), tl.num_programs(1), tl.program_id(2)
    n = tl.arange(0, SIZE)
    low_x, low_y, high_x, high_y, nx, ny, nz = load_extent(address_of(image_of(gaussians, b, count), n))
    at = b * tiles + tile
    x0, y0, x1, y1 = load_boxes(patches + at * 4 * PATCHES, patch, PATCHES, patch < PATCHES)
    found = meets(low_x, low_y, high_x, high_y, nx, ny, nz, x0, y0, x1, y1)
    tl.store(met + (at * PATCHES + patch) * count + n, found.to(tl.int32), n < count)


def listed(inputs, device):
    """Which Gaussian is in which tile's list, [B, T, N]."""
    inputs = {name: value.to(device) for name, value in inputs.items()}
    with mock.patch.object(launch.blend, "blend", Watched(launch.blend.blend)) as blend:
        found = launch.forward(*inputs.values(), alpha=0.025, beta=2.0, eps=1e-8, near=1e-2, tolerance=TOLERANCE)
    (batch, tiles), gaussians = found.counts.shape, inputs["means"].shape[1]
    # Small scenes do not keep their lists, but flags.
    room = torch.arange(batch * tiles).view(batch, tiles) * gaussians
    members = torch.zeros(batch, tiles, gaussians, dtype=torch.bool)
    for b in range(batch):
        for tile in range(tiles):
            start, count = int((found.starts if len(found.starts) else room)[b, tile]), int(found.counts[b, tile])
            chosen = blend.named["members"][start : start + count].long().cpu()
            assert (chosen.diff() > 0).all()
            members[b, tile, chosen] = True
    if not len(found.starts):
        flags = found.listed.cpu()
        assert torch.equal(flags[..., :gaussians], members.to(torch.int8)) and not flags[..., gaussians:].any()
    return members, found


def matters(inputs, weight):
    """Which Gaussian has a weight that counts in which pixel, in double precision, [B, H, W, N]."""
    means, rotations, scales, _, _, rays = (value.double() for value in inputs.values())
    batch, height, width, _ = rays.shape
    z, D, q = reference.response(means, rotations, scales, rays.flatten(1, 2))
    w = 1 / (1 + z**4) * 0.5 * (math.pi * 0.025 / q).sqrt() * (-D / 0.025).exp() * (means[:, None, :, 2] >= 1e-2)
    return (w > TOLERANCE * weight.double().clamp(min=1e-8)[:, None, None]).unflatten(1, (height, width))


def in_blocks(reached, height, width):
    """Which Gaussian matters in which block of pixels, [B, H/height, W/width, N]."""
    rows, columns = reached.shape[1:3]
    padded = torch.nn.functional.pad(reached, (0, 0, 0, -columns % width, 0, -rows % height))
    return padded.unflatten(1, (-1, height)).unflatten(3, (-1, width)).any(4).any(2)


@pytest.mark.parametrize("large", [False, True], ids=["small", "large"])
@pytest.mark.parametrize("sizes", [(0.005, 0.02), (0.01, 0.3)], ids=["specks", "limbs"])
def test_everything_that_matters_is_listed(scene, device, monkeypatch, large, sizes):
    if large:
        monkeypatch.setattr(programs, "SMALL_PAIRS", 0)
        # Five cells, of which four are tested at a time.
        monkeypatch.setattr(programs, "SIDE", 2)
        monkeypatch.setattr(programs, "SEARCH_SIZES", programs.SEARCH_SIZES | dict(SIDE=2))
    inputs = scene(20, 140, 20, batch=(2,), dtype=torch.float32, smallest=sizes[0], largest=sizes[1])
    members, found = listed(inputs, device)
    needed = in_blocks(matters(inputs, found.image_values[:, 0].cpu()), 16, 16).flatten(1, 2)
    assert not (needed & ~members).any()
    assert members.sum() < 2 * needed.sum()


@pytest.mark.parametrize("sizes", [(0.005, 0.02), (0.01, 0.3)], ids=["specks", "limbs"])
def test_patches_meet_what_matters_in_them(scene, device, sizes):
    inputs = scene(20, 140, 20, batch=(2,), dtype=torch.float32, smallest=sizes[0], largest=sizes[1])
    _, found = listed(inputs, device)
    met = torch.zeros(2, 18 * 8, 20, dtype=torch.int32, device=device)
    meet[2, 18, 8](met, found.gaussians, found.patches, 20, SIZE=32)
    met = met.view(2, 9, 2, 2, 4, 20).transpose(3, 4).transpose(2, 3).reshape(2, 36, 4, 20).cpu() > 0
    needed = in_blocks(matters(inputs, found.image_values[:, 0].cpu()), 4, 8)
    assert not (needed & ~met[:, :35, :3]).any()
    assert met.sum() < 2 * needed.sum()


def test_lists_of_small_scenes_are_little_longer(scene, device, monkeypatch):
    """They are made before the background's weight is known."""
    inputs = scene(20, 140, 20, batch=(2,), dtype=torch.float32)
    small, _ = listed(inputs, device)
    monkeypatch.setattr(programs, "SMALL_PAIRS", 0)
    large, _ = listed(inputs, device)
    assert (small | large).equal(small) and large.sum() <= small.sum() < 1.3 * large.sum()


def test_pairs_of_large_scenes(scene, device, monkeypatch):
    """The tiles of each Gaussian, one Gaussian after the other."""
    monkeypatch.setattr(programs, "SMALL_PAIRS", 0)
    members, found = listed(scene(20, 140, 20, batch=(2,), dtype=torch.float32), device)
    pairs, tiles = members.transpose(1, 2).nonzero(), members.shape[1]
    assert torch.equal(found.pair_tiles.cpu().long(), pairs[:, 0] * tiles + pairs[:, 2])
    assert torch.equal(found.ends[0].flatten().cpu(), members.sum(1).flatten().cumsum(0))


def test_pieces_of_the_pairs(scene, device, monkeypatch):
    """Whose gradients programs sum, those near each other at the same time."""
    monkeypatch.setattr(programs, "SMALL_PAIRS", 0)
    inputs = scene(20, 140, 20, batch=(2,), dtype=torch.float32, largest=0.5)
    inputs["means"][:, 3, 2] = inputs["means"][:, -1, 2] = -1.0  # of which no tile shows anything
    members, found = listed(inputs, device)
    totals = members.sum(1).flatten()
    assert (totals == 0).sum() >= 4 and totals.max() > lists.PIECE.value
    pieces = -(-totals // lists.PIECE.value)
    assert torch.equal(found.ends[1].flatten().cpu(), pieces.cumsum(0))
    assert torch.equal(found.piece_owners.cpu().long(), torch.arange(len(totals)).repeat_interleave(pieces))
    firsts = [pairs[:: lists.PIECE.value] for pairs in found.pair_tiles.cpu().split(totals.tolist())]
    assert torch.equal(found.piece_tiles.cpu(), torch.cat(firsts))


def test_around_the_camera_and_behind_it(scene, device):
    inputs = scene(3, 40, 40, dtype=torch.float32)
    inputs["means"] = torch.tensor([[[0.0, 0.0, 0.1], [0.0, 0.0, -3.0], [50.0, 0.0, 1.0]]])
    inputs["scales"] = torch.full((1, 3, 3), 0.2)
    members, _ = listed(inputs, device)
    assert members[0, :, 0].all() and not members[0, :, 1].any() and not members[0, :, 2].any()
