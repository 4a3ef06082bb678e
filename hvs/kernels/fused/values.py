"""What the kernels keep of each Gaussian, computed once by `prepare` and `extents`."""

import triton
import triton.language as tl

# Values of a Gaussian: B, row by row; the mean; B times the mean, and its length, -1 of one that is not visible; an
# upper bound of |B|; its extent, which is a bounding box of (x/z, y/z), low and high, and a normal: rays with
# |normal · (x/z, y/z, 1)| > 1 miss the Gaussian to the side of its long axis.
GAUSSIAN_VALUES = tl.constexpr(24)
# Gaussians whose values are stored together, value by value, so that neighbouring threads read neighbouring numbers and
# all values of a Gaussian lie at constant distances from each other. Those beyond the last one have values, too, of a
# Gaussian that is not visible.
TOGETHER = tl.constexpr(128)
MEAN, WHITENED, REACH, NORM = tl.constexpr(9), tl.constexpr(12), tl.constexpr(15), tl.constexpr(16)
BOX, NORMAL = tl.constexpr(17), tl.constexpr(21)


@triton.jit
def room_for(count):
    """The number of Gaussians that have values where an image has ``count``."""
    return tl.maximum(tl.cdiv(count, TOGETHER), 1) * TOGETHER


@triton.jit
def image_of(gaussians, b, count):
    """Where the values of image ``b`` begin, for ``count`` Gaussians per image."""
    return gaussians + b * (room_for(count) * GAUSSIAN_VALUES)


@triton.jit
def address_of(gaussians, n):
    """Where the values of Gaussians ``n`` of one image are stored: the first one, the others TOGETHER apart."""
    return gaussians + (n + (n & -TOGETHER) * (GAUSSIAN_VALUES - 1))


@triton.jit
def addresses_of(gaussians, start, BLOCK: tl.constexpr):
    """The same for BLOCK Gaussians, TOGETHER at most, from a multiple of BLOCK on; threads then read some at once."""
    first = start + start // TOGETHER * (TOGETHER * (GAUSSIAN_VALUES - 1))
    return gaussians + tl.multiple_of(first, BLOCK) + tl.arange(0, BLOCK)


@triton.jit
def load_value(at, value: tl.constexpr):
    return tl.load(at + value * TOGETHER)


@triton.jit
def load_values(at, first: tl.constexpr):
    """Three consecutive values of the Gaussians at these addresses."""
    return load_value(at, first), load_value(at, first + 1), load_value(at, first + 2)


@triton.jit
def store_value(at, value: tl.constexpr, x):
    tl.store(at + value * TOGETHER, x)


@triton.jit
def store_values(at, first: tl.constexpr, x, y, z):
    store_value(at, first, x)
    store_value(at, first + 1, y)
    store_value(at, first + 2, z)


@triton.jit
def load_gaussian(at):
    """B, row by row, and B times the mean of the Gaussians at these addresses."""
    b00, b01, b02 = load_values(at, 0)
    b10, b11, b12 = load_values(at, 3)
    b20, b21, b22 = load_values(at, 6)
    m0, m1, m2 = load_values(at, WHITENED)
    return b00, b01, b02, b10, b11, b12, b20, b21, b22, m0, m1, m2


@triton.jit
def load_extent(at):
    """Bounding box, low and high, and normal of the Gaussians at these addresses."""
    low_x, low_y, high_x = load_values(at, BOX)
    high_y = load_value(at, BOX + 3)
    nx, ny, nz = load_values(at, NORMAL)
    return low_x, low_y, high_x, high_y, nx, ny, nz


@triton.jit
def store_extent(at, low_x, low_y, high_x, high_y, nx, ny, nz):
    store_values(at, BOX, low_x, low_y, high_x)
    store_value(at, BOX + 3, high_y)
    store_values(at, NORMAL, nx, ny, nz)
