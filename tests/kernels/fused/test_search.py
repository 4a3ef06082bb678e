"""The deepest response, against the dense search."""

import pytest
import torch

from hvs.kernels import reference
from hvs.kernels.fused import launch, programs


def deepest(inputs, device):
    """Flat indices, as the forward pass finds them."""
    inputs = {name: value.to(device) for name, value in inputs.items()}
    found = launch.forward(*inputs.values(), alpha=0.025, beta=2.0, eps=1e-8, near=1e-2, tolerance=1e-6)
    return found.farthest.cpu()


def depths(inputs):
    """Depth of every pixel's response to every Gaussian in double precision, [B, P·N]."""
    means, rotations, scales, *_, rays = (value.double() for value in inputs.values())
    visible = means[:, None, :, 2] >= 1e-2
    return reference.response(means, rotations, scales, rays.flatten(1, 2))[0].where(visible, -torch.inf).flatten(1)


@pytest.mark.parametrize("largest", [0.05, 0.5])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (40, 50), (20, 140)], ids=str)
@pytest.mark.parametrize("large", [False, True], ids=["by tiles", "by cells"])
def test_it_is_the_deepest(scene, device, monkeypatch, height, width, largest, large):
    if large:
        monkeypatch.setattr(programs, "SMALL_PAIRS", 0)
        # One program per cell, which tests the Gaussians in three turns.
        monkeypatch.setattr(programs, "SEARCH_PROGRAMS", 1)
        monkeypatch.setattr(programs, "SEARCH_SIZES", programs.SEARCH_SIZES | dict(BLOCK=8))
    inputs = scene(20, height, width, batch=(2,), dtype=torch.float32, largest=largest)
    all_depths = depths(inputs)
    found = all_depths.gather(1, deepest(inputs, device)[:, None])[:, 0]
    assert torch.allclose(found, all_depths.amax(1), rtol=1e-5)


def test_the_first_of_equals_is_taken(scene, device):
    inputs = scene(12, 40, 40, dtype=torch.float32)
    first = deepest(inputs, device)
    twice = {n: v.repeat(1, 2, *[1] * (v.ndim - 2)) if n in ("means", "rotations", "scales", "features") else v
             for n, v in inputs.items()}  # fmt: skip
    second = deepest(twice, device)
    assert (second // 24 == first // 12).all() and (second % 24 == first % 12).all()
    # All pixels alike: the first one counts.
    inputs["rays"] = inputs["rays"][:, 20:21, 20:21].expand(1, 40, 40, 3)
    assert (deepest(inputs, device) < 12).all()


def test_nothing_visible_is_nowhere(scene, device):
    inputs = scene(4, 20, 20, dtype=torch.float32)
    inputs["means"][..., 2] = -1
    assert deepest(inputs, device).tolist() == [-1]
    nothing = {n: v[:, :0] if n in ("means", "rotations", "scales", "features") else v for n, v in inputs.items()}
    assert deepest(nothing, device).tolist() == [-1]
