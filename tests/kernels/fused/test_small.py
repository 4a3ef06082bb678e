"""What a small scene's tiles know before the background's weight is known."""

import pytest
import torch

from hvs.kernels.fused import launch
from hvs.kernels.fused.lists import FILLED


class Nothing:
    """A kernel that does nothing."""

    def __getitem__(self, grid):
        return lambda *arguments, **options: None


@pytest.mark.parametrize("channels", [1, 5, 16])
@pytest.mark.parametrize("near_the_floor", [False, True])
def test_empty_tiles_are_filled_unless_they_may_be_dimmed(scene, device, monkeypatch, channels, near_the_floor):
    inputs = {name: value.to(device) for name, value in scene(3, 50, 70, channels, dtype=torch.float32).items()}
    inputs["means"] = torch.tensor([[[-0.7, -0.7, 2.0]]], device=device).expand(1, 3, 3).contiguous()
    inputs["scales"] = torch.full((1, 3, 3), 0.01, device=device)
    options = dict(alpha=0.025, beta=2.0, eps=1e-8, near=1e-2, tolerance=1e-6)
    if near_the_floor:
        options["eps"] = 0.7 * launch.forward(*inputs.values(), **options).image_values[0, 0].item()
    monkeypatch.setattr(launch.blend, "blend", Nothing())
    torch.use_deterministic_algorithms(True)  # fills new memory with NaN
    try:
        found = launch.forward(*inputs.values(), **options)
    finally:
        torch.use_deterministic_algorithms(False)
    counts = found.counts.view(4, 5)
    assert (counts > 0).any() and (counts <= 0).any()
    assert (counts[counts <= 0] == (0 if near_the_floor else FILLED.value)).all()
    filled = (counts == FILLED.value).repeat_interleave(16, 0).repeat_interleave(16, 1)[:50, :70]
    wanted = torch.where(filled, inputs["background"][0, :, None, None], torch.nan)
    assert torch.equal(found.latent[0].isnan(), wanted.isnan())
    assert torch.equal(found.latent[0].nan_to_num(), wanted.nan_to_num())
    assert torch.equal(found.denominator[0].isnan(), ~filled) and (found.denominator[0][filled] == 0).all()
