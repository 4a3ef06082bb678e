"""The backward pass does not depend on how the work is cut."""

import pytest
import torch

from hvs.kernels.fused import programs


@pytest.mark.parametrize("most", [1, 100, 100_000])
@pytest.mark.parametrize("large", [False, True], ids=["small", "large"])
def test_any_number_of_programs(scene, compare, device, monkeypatch, most, large):
    """Four by three tiles; there are no more shares of a Gaussian's tiles than that."""
    if large:
        monkeypatch.setattr(programs, "SMALL_PAIRS", 0)
    monkeypatch.setattr(programs, "GRADIENT_PROGRAMS", most)
    compare(scene(7, 50, 40, 5, dtype=torch.float32), "triton", 5e-5, 1e-3, device)


def test_gaussians_all_over_a_large_scene(scene, compare, device, monkeypatch):
    """Several programs share the tiles of each; some Gaussians show nowhere."""
    monkeypatch.setattr(programs, "SMALL_PAIRS", 0)
    inputs = scene(7, 70, 90, 5, (2,), dtype=torch.float32, smallest=0.3, largest=2.0)
    inputs["means"][:, 2, 2] = -1.0
    compare(inputs, "triton", 5e-5, 1e-3, device)


@pytest.mark.parametrize("sizes", [dict(CHANNELS=16, PIXELS=256), dict(CHANNELS=64, PIXELS=32)], ids=str)
def test_blocks_of_channels_and_pixels_do_not_show(scene, compare, device, monkeypatch, sizes):
    inputs = scene(9, 20, 33, 40, (2,), dtype=torch.float32)
    monkeypatch.setattr(programs, "gradient_sizes", lambda channels: sizes | dict(num_warps=4))
    compare(inputs, "triton", 5e-5, 1e-3, device)
