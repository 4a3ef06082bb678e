"""How scenes are divided."""

import math

import pytest
import torch

from hvs.kernels.fused import programs


@pytest.mark.parametrize("channels", [1, 3, 16, 17, 64, 256, 1000, 5000])
def test_sizes(channels, cut_as_launched):
    for sizes in (programs.blend_sizes(channels), programs.gradient_sizes(channels)):
        cut = {name: size for name, size in sizes.items() if name != "maxnreg"}
        assert all(size > 0 and size & (size - 1) == 0 for size in cut.values())
        assert 256 % sizes["PIXELS"] == 0
        # Weights are evaluated once per pixel and Gaussian up to this many channels.
        assert sizes["CHANNELS"] >= min(channels, 256)


def test_training_and_inference_scenes_are_small():
    assert programs.is_small(32, 108, 512, 512)
    assert programs.is_small(1, 4000, 1024, 1024)
    assert programs.is_small(1, 10_000, 256, 256)
    assert not programs.is_small(1, 100_000, 1024, 1024)
    # A few tiles, each of which would test all of them.
    assert not programs.is_small(1, 100_000, 64, 64)


def test_shares_of_the_gradient(cut_as_launched):
    """Enough of them, and none has all tiles of a column or a row."""
    for batch, rows, columns in ((32, 16, 16), (8, 32, 32), (1, 16, 16), (1, 64, 48), (1, 7, 5)):
        shares = programs.shares_of(batch * 108, rows, columns)
        assert math.gcd(shares, columns) == 1
        assert min(4, programs.MOST_SHARES) <= shares <= programs.MOST_SHARES + 4
        column = torch.arange(rows) * columns % shares
        assert column.bincount(minlength=shares).max() <= math.ceil(rows / shares)
    assert programs.shares_of(100_000, 64, 64) == 1
    assert programs.shares_of(1, 1, 1) == 1
