import ast
import inspect
import math

import pytest
import torch

from hvs.kernels.fused import launch


@pytest.mark.parametrize("channels", [1, 3, 16, 17, 64, 256, 1000, 5000])
def test_sizes(channels, cut_as_launched):
    for sizes in (launch.blend_sizes(channels), launch.gradient_sizes(channels)):
        cut = {name: size for name, size in sizes.items() if name != "maxnreg"}
        assert all(size > 0 and size & (size - 1) == 0 for size in cut.values())
        assert 256 % sizes["PIXELS"] == 0
        # Weights are evaluated once per pixel and Gaussian up to this many channels.
        assert sizes["CHANNELS"] >= min(channels, 256)


def test_training_and_inference_scenes_are_small():
    assert launch.is_small(32, 108, 512, 512)
    assert launch.is_small(1, 4000, 1024, 1024)
    assert launch.is_small(1, 10_000, 256, 256)
    assert not launch.is_small(1, 100_000, 1024, 1024)
    # A few tiles, each of which would test all of them.
    assert not launch.is_small(1, 100_000, 64, 64)


def test_shares_of_the_gradient(cut_as_launched):
    """Enough of them, and none has all tiles of a column or a row."""
    for batch, rows, columns in ((32, 16, 16), (8, 32, 32), (1, 16, 16), (1, 64, 48), (1, 7, 5)):
        shares = launch._shares(batch * 108, rows, columns)
        assert math.gcd(shares, columns) == 1
        assert min(4, launch.MOST_SHARES) <= shares <= launch.MOST_SHARES + 4
        column = torch.arange(rows) * columns % shares
        assert column.bincount(minlength=shares).max() <= math.ceil(rows / shares)
    assert launch._shares(100_000, 64, 64) == 1
    assert launch._shares(1, 1, 1) == 1


def test_a_broadcast_batch_is_not_copied():
    rays = torch.randn(5, 7, 3)
    expanded = rays.expand(4, 5, 7, 3)
    assert launch._inner_contiguous(expanded).data_ptr() == rays.data_ptr()
    strided = torch.randn(4, 3, 5).mT
    assert launch._inner_contiguous(strided).is_contiguous()


def test_every_launch_asks_for_fused_products():
    """Triton will not fuse them of itself in every version."""
    calls = [node for node in ast.walk(ast.parse(inspect.getsource(launch))) if isinstance(node, ast.Call)]
    launches = [ast.unparse(call) for call in calls if isinstance(call.func, ast.Subscript)]
    assert len(launches) == 12
    assert all("**FUSED" in call for call in launches)
    assert launch.FUSED["enable_fp_fusion"] is True
