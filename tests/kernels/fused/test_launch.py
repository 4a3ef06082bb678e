import pytest
import torch

from hvs.kernels.fused import launch


@pytest.mark.parametrize("channels", [1, 3, 16, 17, 64, 256, 1000, 5000])
def test_sizes_are_powers_of_two_that_dot_products_take(channels, cut_as_launched):
    blend_sizes = [launch.blend_sizes(channels, dtype) for dtype in (torch.float32, torch.bfloat16)]
    for sizes in (*blend_sizes, launch.gradient_sizes()):
        for name in ("CHANNELS", "PIXELS"):
            assert sizes[name] >= 16 and sizes[name] & (sizes[name] - 1) == 0
        assert 256 % sizes["PIXELS"] == 0
    # Weights are evaluated once per pixel and Gaussian up to this many channels.
    assert all(sizes["CHANNELS"] >= min(channels, 256) for sizes in blend_sizes)


def test_training_and_inference_scenes_are_small():
    assert launch.is_small(32, 108, 512, 512)
    assert launch.is_small(1, 4000, 1024, 1024)
    assert not launch.is_small(1, 100_000, 1024, 1024)


@pytest.mark.parametrize(
    ("asked", "wanted"), [("highest", "ieee"), ("high", "tf32x3"), ("medium", "tf32")] if not launch.ON_AMD else []
)
def test_precision_follows_torch(asked, wanted):
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision(asked)
        assert launch.dot_options(torch.float32)["PRECISION"] == wanted
    finally:
        torch.set_float32_matmul_precision(before)


def test_a_broadcast_batch_is_not_copied():
    rays = torch.randn(5, 7, 3)
    expanded = rays.expand(4, 5, 7, 3)
    assert launch._inner_contiguous(expanded).data_ptr() == rays.data_ptr()
    strided = torch.randn(4, 3, 5).mT
    assert launch._inner_contiguous(strided).is_contiguous()
