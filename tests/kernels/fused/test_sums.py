"""Reductions of the rows of matrices, at all sizes that kernels have, and others."""

import pytest
import torch
import triton
import triton.language as tl

from hvs.kernels.fused.sums import min_rows, rows_of, sum_rows


@triton.jit
def reduce_rows(sums, smallest, values, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    row = tl.arange(0, ROWS)
    x = tl.load(values + row[:, None] * COLUMNS + tl.arange(0, COLUMNS)[None, :])
    tl.store(sums + row, sum_rows(x))
    tl.store(smallest + row, min_rows(x))


@triton.jit
def stack(out, values, COLUMNS: tl.constexpr):
    column = tl.arange(0, COLUMNS)
    x = tl.load(values + column)
    rows = rows_of(x, 2 * x, 3 * x, 4 * x, 5 * x, 6 * x, 7 * x, 8 * x)
    tl.store(out + tl.arange(0, 8)[:, None] * COLUMNS + column[None, :], rows)


@pytest.mark.parametrize("columns", [1, 2, 32, 256])
@pytest.mark.parametrize("rows", [1, 8, 32, 128])
@pytest.mark.parametrize("warps", [1, 4])
def test_rows(device, rows, columns, warps):
    values = torch.randn(rows, columns, generator=torch.Generator().manual_seed(rows + columns)).to(device)
    sums, smallest = (torch.full((rows,), torch.nan, device=device) for _ in range(2))
    reduce_rows[(1,)](sums, smallest, values, ROWS=rows, COLUMNS=columns, num_warps=warps)
    torch.testing.assert_close(sums, values.double().sum(1).float())
    assert torch.equal(smallest, values.amin(1))


def test_vectors_become_rows_in_their_order(device):
    values = torch.randn(32, generator=torch.Generator().manual_seed(0)).to(device)
    out = torch.full((8, 32), torch.nan, device=device)
    stack[(1,)](out, values, COLUMNS=32, num_warps=1)
    assert torch.equal(out, values * torch.arange(1.0, 9, device=device)[:, None])
