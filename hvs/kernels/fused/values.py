"""What the kernels keep of each Gaussian, computed once by `prepare` and `extents`."""

import triton
import triton.language as tl

# Values of a Gaussian: B, row by row; the mean; B times the mean, and its length; an upper bound of |B|; its extent,
# which is a bounding box of (x/z, y/z), low and high, and a normal: rays with |normal · (x/z, y/z, 1)| > 1 miss the
# Gaussian to the side of its long axis.
GAUSSIAN_VALUES = tl.constexpr(24)
# Gaussians whose values are stored together, value by value, so that neighbouring threads read neighbouring numbers and
# all values of a Gaussian lie at constant distances from each other.
TOGETHER = tl.constexpr(32)
MEAN, WHITENED, REACH, NORM = tl.constexpr(9), tl.constexpr(12), tl.constexpr(15), tl.constexpr(16)
BOX, NORMAL = tl.constexpr(17), tl.constexpr(21)


@triton.jit
def image_of(gaussians, b, count):
    """Where the values of image ``b`` begin, for ``count`` Gaussians per image."""
    return gaussians + b * (tl.cdiv(count, TOGETHER) * (TOGETHER * GAUSSIAN_VALUES))


@triton.jit
def is_stored(n, count):
    """Whether there are values of a Gaussian of that number: also of those that fill up the last ones together."""
    return n < tl.cdiv(count, TOGETHER) * TOGETHER


@triton.jit
def value_at(gaussians, n, value: tl.constexpr):
    """Where the value of that number of Gaussians ``n`` of one image is stored."""
    # The number of the value comes last, and becomes part of the instruction that loads or stores it.
    return gaussians + (n + (n & -TOGETHER) * (GAUSSIAN_VALUES - 1)) + value * TOGETHER


@triton.jit
def load_values(gaussians, n, first: tl.constexpr, mask):
    """Three consecutive values of Gaussians ``n`` of one image; zeros where the mask is not set."""
    at = value_at(gaussians, n, first)
    return tl.load(at, mask, 0.0), tl.load(at + TOGETHER, mask, 0.0), tl.load(at + 2 * TOGETHER, mask, 0.0)


@triton.jit
def store_values(gaussians, n, first: tl.constexpr, x, y, z, mask):
    at = value_at(gaussians, n, first)
    tl.store(at, x, mask)
    tl.store(at + TOGETHER, y, mask)
    tl.store(at + 2 * TOGETHER, z, mask)


@triton.jit
def load_gaussian(gaussians, n, mask):
    """B, row by row, and B times the mean of Gaussians ``n`` of one image; zeros where the mask is not set."""
    b00, b01, b02 = load_values(gaussians, n, 0, mask)
    b10, b11, b12 = load_values(gaussians, n, 3, mask)
    b20, b21, b22 = load_values(gaussians, n, 6, mask)
    m0, m1, m2 = load_values(gaussians, n, WHITENED, mask)
    return b00, b01, b02, b10, b11, b12, b20, b21, b22, m0, m1, m2


@triton.jit
def load_extent(gaussians, n, mask):
    """Bounding box, low and high, and normal of Gaussians ``n`` of one image; empty where the mask is not set."""
    at = value_at(gaussians, n, BOX)
    low_x = tl.load(at, mask, float("inf"))
    low_y = tl.load(at + TOGETHER, mask, float("inf"))
    high_x = tl.load(at + 2 * TOGETHER, mask, -float("inf"))
    high_y = tl.load(at + 3 * TOGETHER, mask, -float("inf"))
    nx, ny, nz = load_values(gaussians, n, NORMAL, mask)
    return low_x, low_y, high_x, high_y, nx, ny, nz


@triton.jit
def store_extent(gaussians, n, low_x, low_y, high_x, high_y, nx, ny, nz, mask):
    store_values(gaussians, n, BOX, low_x, low_y, high_x, mask)
    tl.store(value_at(gaussians, n, BOX + 3), high_y, mask)
    store_values(gaussians, n, NORMAL, nx, ny, nz, mask)
