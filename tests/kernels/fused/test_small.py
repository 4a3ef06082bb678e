"""What a small scene's tiles know before the background's weight is known."""

import pytest
import torch

from hvs.kernels.fused import launch


class Nothing:
    """A kernel that does nothing."""

    def __getitem__(self, grid):
        return lambda *arguments, **options: None


@pytest.mark.parametrize("share", [1.0, 0.6])
@pytest.mark.parametrize("channels", [1, 5, 16])
def test_a_share_of_an_empty_tile_is_filled(scene, device, monkeypatch, channels, share):
    monkeypatch.setattr(launch, "FILLED_SHARE", share)
    monkeypatch.setattr(launch.blend, "blend", Nothing())
    inputs = {name: value.to(device) for name, value in scene(3, 50, 70, channels, dtype=torch.float32).items()}
    inputs["means"] = torch.tensor([[[-0.7, -0.7, 2.0]]], device=device).expand(1, 3, 3).contiguous()
    inputs["scales"] = torch.full((1, 3, 3), 0.01, device=device)
    torch.use_deterministic_algorithms(True)  # fills new memory with NaN
    try:
        found = launch.forward(*inputs.values(), alpha=0.025, beta=2.0, eps=1e-8, near=1e-2, tolerance=1e-6)
    finally:
        torch.use_deterministic_algorithms(False)
    empty = (found.counts.view(4, 5) == 0).repeat_interleave(16, 0).repeat_interleave(16, 1)[:50, :70]
    assert empty.any() and not empty.all()
    wanted = torch.full((channels, 50, 70), torch.nan, device=device)
    filled = int(share * channels)
    wanted[:filled] = torch.where(empty, inputs["background"][0, :filled, None, None], torch.nan)
    assert torch.equal(found.latent[0].isnan(), wanted.isnan())
    assert torch.equal(found.latent[0].nan_to_num(), wanted.nan_to_num())
    assert torch.equal(found.denominator[0].isnan(), ~empty) and (found.denominator[0][empty] == 0).all()
