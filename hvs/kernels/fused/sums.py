"""Reductions over the threads of a program."""

import triton
import triton.language as tl


@triton.jit
def fold_rows(x, combine: tl.constexpr):
    """Combine the columns of each row, [R, P] -> [R, fewer], for powers of two, where threads hold columns.

    To reduce a row, threads exchange numbers five times, and so they do in `tl.reduce`, for each row. The halves that
    `tl.split` takes must be in one thread, so here every thread first gets a part of some row, all at once, through
    shared memory, and combines it by itself.
    """
    ROWS: tl.constexpr = x.shape[0]
    COLUMNS: tl.constexpr = x.shape[1]
    for i in tl.static_range(5):
        if (ROWS >> i > 1) & (COLUMNS >> i > 1):
            a, b = tl.split(tl.reshape(x, (ROWS, COLUMNS >> (i + 1), 2)))
            x = combine(a, b)
    return x


@triton.jit
def plus(a, b):
    return a + b


@triton.jit
def lesser(a, b):
    return tl.minimum(a, b)


@triton.jit
def sum_rows(x):
    """The sum of each row, [R, P] -> [R]."""
    return tl.sum(fold_rows(x, plus), 1)


@triton.jit
def min_rows(x):
    """The smallest number of each row, [R, P] -> [R]."""
    return tl.min(fold_rows(x, lesser), 1)


@triton.jit
def rows_of(a, b, c, d, e, f, g, h):
    """Eight vectors [P] as the rows of a matrix, [8, P]."""
    # The last axis of a join tells its two parts apart, and so becomes the lowest bit of a row's number.
    x = tl.join(tl.join(tl.join(a, e), tl.join(c, g)), tl.join(tl.join(b, f), tl.join(d, h)))
    return tl.trans(tl.reshape(x, (x.shape[0], 8)))
