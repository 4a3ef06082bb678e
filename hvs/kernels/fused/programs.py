"""How a scene is divided into programs, and how large it may be."""

import math

import torch
import triton

from . import values
from .geometry import TILE

# Tiles along the side of a cell; large scenes test cells first.
SIDE = 8
# Largest number of pairs of a tile and a Gaussian, over all images, in a small scene, where every tile has room for
# every Gaussian (64 MiB).
SMALL_PAIRS = 1 << 24
# Largest number of Gaussians per image in a small scene: one program tests them all, however few programs there are.
SMALL_COUNT = 1 << 14
# Empty tiles are filled while tiles are surveyed if the background, as far as it is known then, is this many times as
# heavy as the floor. Below the floor it is dimmed, and all of them would be written again while tiles blend.
FILLED_ABOVE = 4.0
# Programs per image that share the search of large scenes, and Gaussians that each tests at a time: with twice as many,
# Triton 3.6 spills on sm_100.
SEARCH_PROGRAMS, SEARCH_SIZES = 2048, dict(SIDE=SIDE, BLOCK=64, num_warps=1)
# Gaussians that a tile of a small scene tests at a time.
SURVEY_SIZES = dict(BLOCK=128, num_warps=1)
# Enough programs of `gradient` to fill a GPU several times over: programs share the tiles of a Gaussian, because the
# largest ones meet fifteen times as many as the mean. Each of its shares costs a Gaussian time in `chain`.
GRADIENT_PROGRAMS, MOST_SHARES = 16384, 32
# Channels that a program of `background_gradient` takes at a time, for which one warp has registers. More warps would
# each sum every channel over their part of the pixels.
BACKGROUND_GRADIENT_SIZES = dict(CHANNELS=4, num_warps=1)
# Gaussians, and channels, that a program of `ray_gradient` takes at a time.
RAY_GRADIENT_SIZES = dict(GROUP=1, CHANNELS=16, num_warps=4)
# Gaussians per program of `chain`, one per thread, and channels that it takes at a time.
CHAIN_SIZES = dict(BLOCK=32, CHANNELS=8, num_warps=1)
# Largest number of channels of a program of `blend` or `gradient`.
MOST_CHANNELS = 256
# Largest size of a grid's second and third axes, which are images and rows of tiles.
MOST_IMAGES = MOST_ROWS = 65535
# The values of an image's Gaussians, and of its rays, are indexed with 32 bits.
MOST_GAUSSIANS = (2**31 - 1) // values.GAUSSIAN_VALUES.value - values.TOGETHER.value
MOST_PIXELS = (2**31 - 1) // 3
# Threads per warp, and channels for which a warp has registers.
WARP = 64 if torch.version.hip is not None else 32
WARP_CHANNELS = 32


def divide(count: int, size: int) -> int:
    """How many parts of a size hold that many: `triton.cdiv`, which takes the host 1.5 µs a call, and this 0.06."""
    return (count + size - 1) // size


def tile_grid(height: int, width: int) -> tuple[int, int]:
    """Rows and columns of tiles."""
    return divide(height, TILE.value), divide(width, TILE.value)


def gaussian_values(count: int) -> tuple[int, int, int]:
    """Shape of what `prepare` writes for the Gaussians of an image."""
    together = values.TOGETHER.value
    return max(1, divide(count, together)), values.GAUSSIAN_VALUES.value, together


def check_size(batch: int, count: int, height: int, width: int) -> None:
    """Refuse a scene that the kernels cannot index.

    Raises:
        ValueError: it has too many images, Gaussians or rays.
    """
    if batch > MOST_IMAGES:
        raise ValueError(f"batch: got {batch} images, wanted at most {MOST_IMAGES} at once")
    if count > MOST_GAUSSIANS:
        raise ValueError(f"means: got {count} Gaussians, wanted at most {MOST_GAUSSIANS} per image")
    if height * width > MOST_PIXELS:
        raise ValueError(f"rays: got {height * width} of them, wanted at most {MOST_PIXELS} per image")
    if height > MOST_ROWS * TILE.value:
        raise ValueError(f"rays: got {height} rows of them, wanted at most {MOST_ROWS * TILE.value}")


def is_small(batch: int, count: int, height: int, width: int) -> bool:
    """Whether a scene is small, so that every tile has room for every Gaussian."""
    rows, columns = tile_grid(height, width)
    return batch * rows * columns * count <= SMALL_PAIRS and count <= SMALL_COUNT


def blend_sizes(channels: int) -> dict[str, int]:
    """Sizes of a program of `blend`: channels (all if possible), pixels, and Gaussians that it takes at a time."""
    size = min(MOST_CHANNELS, triton.next_power_of_2(channels))
    return dict(CHANNELS=size, PIXELS=64, GROUP=2, num_warps=max(1, size // WARP_CHANNELS))


def gradient_sizes(channels: int) -> dict[str, int]:
    """Sizes of a program of `gradient`: channels (all if possible), pixels that it takes at a time, one per thread of a
    warp, so that few pixels that do not show the Gaussian are visited, and registers of a thread."""
    size = min(MOST_CHANNELS, triton.next_power_of_2(channels))
    sizes = dict(CHANNELS=size, PIXELS=WARP, num_warps=max(1, size // WARP_CHANNELS))
    if WARP == 32 and size in (32, 64):
        # They take more if they may, and then fewer warps run at a time. With fewer channels a limit makes the compiler
        # take more, and with more channels it changes no occupancy. AMD's takes no limit.
        sizes["maxnreg"] = 200
    return sizes


def shares_of(programs: int, rows: int, columns: int) -> int:
    """Shares into which the tiles of each Gaussian are divided, if that many programs have one share each."""
    shares = max(1, min(MOST_SHARES, rows * columns, GRADIENT_PROGRAMS // max(1, programs)))
    # Otherwise a Gaussian that is as narrow as a column of tiles would be in few of the shares.
    while math.gcd(shares, columns) > 1:
        shares += 1
    return shares
