import pytest
import torch

from hvs.kernels.fused import programs


@pytest.mark.parametrize("group", [1, 4])
def test_rays_by_any_number_of_gaussians(scene, compare, device, monkeypatch, group):
    monkeypatch.setattr(programs, "RAY_GRADIENT_SIZES", programs.RAY_GRADIENT_SIZES | dict(GROUP=group))
    compare(scene(5, 20, 20, 5, dtype=torch.float32), "triton", 5e-5, 1e-3, device)
