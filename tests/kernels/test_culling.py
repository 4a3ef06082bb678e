import pytest
import torch
from torch.nn import functional as F

from hvs.kernels import culling, reference
from hvs.kernels.pyramid import TILE, build_pyramid, pad_to_tiles

ALPHA = 0.025


def prepared(inputs):
    rays = pad_to_tiles(inputs["rays"].movedim(-1, 1)).contiguous()
    whiten = culling.whitening(inputs["rotations"], inputs["scales"])
    visible = inputs["means"][..., 2] >= 0.01
    return rays, whiten, visible


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("size", [(0.002, 0.05), (0.01, 0.3), (0.3, 3.0)], ids=["specks", "limbs", "covering all"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_no_pair_that_matters_is_dropped_and_few_others_are_kept(scene, seed, size, dtype):
    inputs = scene(60, 75, 130, batch=(2,), seed=seed, dtype=dtype, smallest=size[0], largest=size[1])
    rays, whiten, visible = prepared(inputs)
    least = torch.tensor([1e-12, 1e-9], dtype=dtype)
    tiles, gaussians = culling.tile_pairs(
        build_pyramid(rays), culling.gaussian_extent(inputs["means"], whiten, visible, least, ALPHA)
    )
    assert (tiles.diff() >= 0).all()
    rows, columns = rays.shape[2] // TILE, rays.shape[3] // TILE
    kept = torch.zeros(2 * rows * columns, 60, dtype=torch.bool)
    kept[tiles, gaussians % 60] = True
    assert torch.equal(gaussians // 60, tiles // (rows * columns))
    assert kept.sum() == len(tiles)

    double = {name: value.double() for name, value in inputs.items()}
    z, D, q = reference.response(double["means"], double["rotations"], double["scales"], rays.double().flatten(2).mT)
    w = 1 / (1 + z**4) * 0.5 * torch.sqrt(torch.pi * ALPHA / q) * torch.exp(-D / ALPHA)
    matters = (w > least[:, None, None]) & visible[:, None]
    matters = matters.unflatten(1, (rows, TILE, columns, TILE)).any(4).any(2).flatten(0, 2)
    assert not (matters & ~kept).any()
    assert kept.sum() <= 2 * matters.sum() + 20


@pytest.mark.parametrize("least", [1e-30, 1e-20])
def test_bounds_touch_what_they_bound(monkeypatch, least):
    """Without their margins, and for needles that point almost at the camera: there the assumed weight is attained."""
    monkeypatch.setattr(culling, "SLACK", 1e-9)
    monkeypatch.setattr(culling, "ROUNDING", 1e-12)
    means = torch.tensor([[0.3, -0.2, 2.0], [-0.4, -0.3, 3.0], [0.0, 0.5, 1.5]], dtype=torch.float64)
    aside = F.normalize(torch.tensor([[1.0, 1.0, 0.0], [-1.0, 2.0, 0.0], [1.0, 0.3, 0.0]]).double(), dim=-1)
    long = F.normalize(F.normalize(means, dim=-1) + 0.02 * aside, dim=-1)
    first = F.normalize(torch.linalg.cross(long, aside), dim=-1)
    rotations = torch.stack((first, torch.linalg.cross(long, first), long), -1)
    scales = torch.tensor([1e-3, 1e-3, 1e-2]).double().expand(3, 3)
    visible = torch.ones(1, 3, dtype=torch.bool)
    whiten = culling.whitening(rotations, scales)
    extent = culling.gaussian_extent(means[None], whiten[None], visible, torch.tensor([least]).double(), ALPHA)
    steps = torch.linspace(-0.05, 1.05, 1101, dtype=torch.float64)
    for n, (low, high, normal) in enumerate(zip(extent.low[0], extent.high[0], extent.normal[0], strict=True)):
        x, y = (low + (high - low) * steps[:, None]).mT
        rays = torch.stack((*torch.meshgrid(x, y, indexing="xy"), torch.ones(len(y), len(x)).double()), -1).view(-1, 3)
        geometry = means[n : n + 1], rotations[n : n + 1], scales[n : n + 1]
        z, D, q = reference.response(*geometry, F.normalize(rays, dim=-1))
        w = 1 / (1 + z**4) * 0.5 * torch.sqrt(torch.pi * ALPHA / q) * torch.exp(-D / ALPHA)
        matters = rays[w[:, 0] > least]
        reached = torch.stack((matters[:, :2].amin(0), matters[:, :2].amax(0)))
        assert (reached[0] >= low).all() and (reached[1] <= high).all()
        assert (reached[1] - reached[0] > 0.995 * (high - low)).all()
        assert 0.985 < (matters @ normal).abs().max() <= 1


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("shape", [(1, 1), (33, 70), (128, 96)], ids=str)
def test_farthest_is_the_dense_arg_max(scene, seed, shape):
    inputs = scene(40, *shape, batch=(3,), seed=seed, smallest=0.005)
    rays, whiten, visible = prepared(inputs)
    found = culling.farthest(inputs["means"], whiten, visible, rays, build_pyramid(rays), *shape)
    geometry = [inputs[name] for name in ("means", "rotations", "scales", "rays")]
    assert torch.equal(found, reference.farthest(*geometry, visible))


def test_farthest_of_equals_is_the_first(scene):
    means = torch.tensor([[[0.0, 0.0, 1.0], [0.0, 0.0, 2.0], [0.0, 0.0, 2.0]]])
    inputs = dict(
        means=means,
        rotations=torch.eye(3).expand(1, 3, 3, 3),
        scales=torch.full((1, 3, 3), 0.1),
        rays=torch.tensor([0.0, 0.0, 1.0]).expand(1, 40, 20, 3),
    )
    rays, whiten, visible = prepared(inputs)
    assert culling.farthest(means, whiten, visible, rays, build_pyramid(rays), 40, 20).tolist() == [1]
    hidden = torch.zeros_like(visible)
    assert culling.farthest(means, whiten, hidden, rays, build_pyramid(rays), 40, 20).tolist() == [0]


def test_few_candidates_are_left_to_evaluate(scene, monkeypatch):
    """Branch and bound must prune: of the 108 · 256 pairs of tile and limb a few dozen reach the pixels."""
    inputs = scene(108, 256, 256, smallest=0.01, largest=0.2)
    rays, whiten, visible = prepared(inputs)
    seen = []
    evaluate = culling._farthest_pixel
    monkeypatch.setattr(
        culling, "_farthest_pixel", lambda pairs, *rest: seen.append(len(pairs[0])) or evaluate(pairs, *rest)
    )
    culling.farthest(inputs["means"], whiten, visible, rays, build_pyramid(rays), 256, 256)
    assert 0 < seen[0] < 300
