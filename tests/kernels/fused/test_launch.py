import pytest
import torch

from hvs.kernels.fused import launch


@pytest.mark.parametrize("channels", [1, 3, 16, 17, 64, 256, 1000, 5000])
def test_sizes(channels, cut_as_launched):
    for sizes in (launch.blend_sizes(channels), launch.gradient_sizes(channels)):
        assert all(size > 0 and size & (size - 1) == 0 for size in sizes.values())
        assert 256 % sizes["PIXELS"] == 0
        # Weights are evaluated once per pixel and Gaussian up to this many channels.
        assert sizes["CHANNELS"] >= min(channels, 256)


def test_training_and_inference_scenes_are_small():
    assert launch.is_small(32, 108, 512, 512)
    assert launch.is_small(1, 4000, 1024, 1024)
    assert not launch.is_small(1, 100_000, 1024, 1024)


def test_gaussians_that_run_together_are_near_each_other(scene, device, monkeypatch):
    monkeypatch.setattr(launch, "SMALL_PAIRS", 0)
    inputs = {n: v.to(device) for n, v in scene(40, 70, 70, batch=(2,), dtype=torch.float32, largest=0.02).items()}
    inputs["means"][:, 3, 2] = inputs["means"][:, -1, 2] = -1.0  # of which no tile shows anything
    found = launch.forward(*inputs.values(), alpha=0.025, beta=2.0, eps=1e-8, near=1e-2, tolerance=1e-6)
    order = launch._near_each_other(found).cpu()
    assert torch.equal(order.sort(1).values, torch.arange(40, dtype=torch.int32).expand(2, 40))
    totals = found.ends.flatten().diff(prepend=found.ends.new_zeros(1)).cpu()
    for b in range(2):
        shown = [40 * b + n for n in order[b].tolist() if totals[40 * b + n]]
        first = [int(found.pair_tiles[found.ends.flatten()[n] - totals[n]]) for n in shown]
        assert first == sorted(first) and len(set(first)) > 3


def test_a_broadcast_batch_is_not_copied():
    rays = torch.randn(5, 7, 3)
    expanded = rays.expand(4, 5, 7, 3)
    assert launch._inner_contiguous(expanded).data_ptr() == rays.data_ptr()
    strided = torch.randn(4, 3, 5).mT
    assert launch._inner_contiguous(strided).is_contiguous()
