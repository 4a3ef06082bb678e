"""The backward pass does not depend on how the work is cut."""

import pytest
import torch

from hvs.kernels.fused import launch


@pytest.mark.parametrize("programs", [1, 5, 1000])
def test_any_number_of_programs(scene, compare, device, monkeypatch, programs):
    """Four by three tiles."""
    monkeypatch.setattr(launch, "GRADIENT_PROGRAMS", programs)
    compare(scene(20, 50, 40, 5, dtype=torch.float32), "triton", 5e-5, 1e-3, device)


def test_rows_fit_into_the_room_there_is(scene, compare, device, monkeypatch):
    monkeypatch.setattr(launch, "GRADIENT_FLOATS", 2 * 2 * 20 * (5 + 9))
    compare(scene(20, 50, 40, 5, (2,), dtype=torch.float32), "triton", 5e-5, 1e-3, device)


@pytest.mark.parametrize("sizes", [dict(CHANNELS=16, PIXELS=256), dict(CHANNELS=64, PIXELS=16)], ids=str)
def test_blocks_of_channels_and_pixels_do_not_show(scene, compare, device, monkeypatch, sizes):
    monkeypatch.setattr(launch, "gradient_sizes", lambda: sizes | dict(num_warps=4))
    compare(scene(17, 20, 33, 40, (2,), dtype=torch.float32), "triton", 5e-5, 1e-3, device)
