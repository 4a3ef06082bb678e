"""Allocates memory and launches the kernels: how a scene is divided into programs."""

import contextlib
import math

import torch
import triton
from torch import Tensor

from . import (
    background_weight,
    blend,
    chain,
    extents,
    gradient,
    lists,
    prepare,
    ray_gradient,
    search,
    small,
    survey,
    values,
)
from .geometry import PATCHES, TILE
from .results import Forward

# For every launch: a product and the sum that it goes into are one instruction. Triton 3.9 warns that 3.10 will do so
# only where it is asked to.
FUSED = dict(enable_fp_fusion=True)
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


def tile_grid(height: int, width: int) -> tuple[int, int]:
    """Rows and columns of tiles."""
    tile = TILE.value
    return (height + tile - 1) // tile, (width + tile - 1) // tile


def gaussian_values(count: int) -> tuple[int, int, int]:
    """Shape of what `prepare` writes for the Gaussians of an image."""
    together = values.TOGETHER.value
    return max(1, _divide(count, together)), values.GAUSSIAN_VALUES.value, together


def is_small(batch: int, count: int, height: int, width: int) -> bool:
    """Whether a scene is small, so that every tile has room for every Gaussian."""
    rows, columns = tile_grid(height, width)
    return batch * rows * columns * count <= SMALL_PAIRS and count <= SMALL_COUNT


def forward(
    means: Tensor,
    rotations: Tensor,
    scales: Tensor,
    features: Tensor,
    background: Tensor,
    rays: Tensor,
    alpha: float,
    beta: float,
    eps: float,
    near: float,
    tolerance: float,
) -> Forward:
    """Render one batch axis; shapes as in `ops.rasterize`."""
    batch, count, channels = features.shape
    if batch > MOST_IMAGES:
        raise ValueError(f"batch: got {batch} images, wanted at most {MOST_IMAGES} at once")
    if count > MOST_GAUSSIANS:
        raise ValueError(f"means: got {count} Gaussians, wanted at most {MOST_GAUSSIANS} per image")
    height, width = rays.shape[1:3]
    if height * width > MOST_PIXELS:
        raise ValueError(f"rays: got {height * width} of them, wanted at most {MOST_PIXELS} per image")
    if height > MOST_ROWS * TILE.value:
        raise ValueError(f"rays: got {height} rows of them, wanted at most {MOST_ROWS * TILE.value}")
    geometry = [_inner_contiguous(v) for v in (means, rotations, scales)]
    features, background, rays = (_inner_contiguous(v) for v in (features, background, rays))
    rows, columns = tile_grid(height, width)
    tile_count = rows * columns

    def empty(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        return means.new_empty(batch, *shape, dtype=dtype)

    gaussians = empty(*gaussian_values(count))
    blocks = gaussians.shape[1]
    nearest, first_depths = empty(blocks), empty(blocks)
    patches = empty(tile_count, 4, PATCHES.value)
    paired = not is_small(batch, count, height, width)
    cell_count = _divide(rows, SIDE) * _divide(columns, SIDE)
    shares = max(1, min(blocks, SEARCH_PROGRAMS // cell_count))
    searches = cell_count * shares if paired else tile_count
    depths, places = empty(searches), empty(searches, dtype=torch.int64)
    image_values = empty(background_weight.IMAGE_VALUES.value)
    farthest = empty(dtype=torch.int64)
    latent = empty(channels, height, width, dtype=features.dtype)
    denominator = empty(height, width)
    with _on(means):
        prepare.prepare[blocks, batch](
            *(gaussians, image_values, nearest, first_depths, *geometry, rays),
            *(*(v.stride(0) for v in (*geometry, rays)), count, height, width, alpha, eps, near, tolerance),
            **FUSED,
        )
        if paired:
            tiles, cells = empty(survey.TILE_VALUES.value, tile_count), empty(4, cell_count)
            survey.survey[columns, rows, batch](
                *(tiles, patches, rays, rays.stride(0), height, width), **FUSED, num_warps=1
            )
            search.search[cell_count, shares, batch](
                *(depths, places, cells, image_values, tiles, first_depths, nearest, gaussians, rays, rays.stride(0)),
                *(count, height, width, blocks),
                **FUSED,
                **SEARCH_SIZES,
            )
            extents.extents[blocks, batch](
                *(gaussians, image_values, count, alpha, beta, eps, near, tolerance), **FUSED
            )
            starts, counts, members, *pairs = _pairs(tiles, gaussians, count, cells, rows, columns)
            kept, listed = members, means.new_empty(0, dtype=torch.int8)
        else:
            counts = empty(tile_count, dtype=torch.int32)
            members = means.new_empty(batch * tile_count * count, dtype=torch.int32)
            listed = empty(tile_count, blocks * values.TOGETHER.value, dtype=torch.int8)
            small.survey_small[columns, rows, batch](
                *(patches, counts, members, listed, latent, denominator, depths, places, image_values),
                *(first_depths, nearest, gaussians, background, rays, background.stride(0), rays.stride(0)),
                *(blocks, count, height, width, beta, FILLED_ABOVE * eps),
                **FUSED,
                channels=channels,
                **SURVEY_SIZES,
            )
            # Tensors that an operator returns must not share memory. The lists are not among them: most of their
            # memory is never written.
            starts, ends = means.new_empty(0, dtype=torch.int64), means.new_empty(2, 0, dtype=torch.int64)
            kept, pair_tiles, piece_tiles, piece_owners = (means.new_empty(0, dtype=torch.int32) for _ in range(4))
            pairs = pair_tiles, ends, piece_tiles, piece_owners
        sizes = blend_sizes(channels)
        channel_blocks = _divide(channels, sizes["CHANNELS"])
        pieces = (TILE.value**2 // sizes["PIXELS"]) * channel_blocks
        blend.blend[columns * pieces, batch, rows](
            *(latent, denominator, image_values, farthest, starts, counts, members, patches, gaussians),
            *(depths, places, features, background, rays, *(v.stride(0) for v in (features, background, rays))),
            *(count, height, width, searches, alpha, beta, eps),
            **FUSED,
            **sizes,
            channels=channels,
            LOOKED=WARP,
            PAIRED=paired,
        )
    found = starts, counts, kept, listed, *pairs
    return Forward(latent, denominator, *found, patches, gaussians, image_values, farthest)


def backward(
    d_latent: Tensor,
    saved: Forward,
    means: Tensor,
    rotations: Tensor,
    scales: Tensor,
    features: Tensor,
    background: Tensor,
    rays: Tensor,
    alpha: float,
    eps: float,
    with_rays: bool,
) -> tuple[Tensor, ...]:
    """Gradients of means, rotations, scales, features, background and rays; the last is empty unless ``with_rays``."""
    geometry = [_inner_contiguous(v) for v in (means, rotations, scales)]
    features, background, rays = (_inner_contiguous(v) for v in (features, background, rays))
    batch, count, channels = features.shape
    height, width = rays.shape[1:3]
    rows, columns = tile_grid(height, width)
    tile_count = rows * columns
    paired = not is_small(batch, count, height, width)
    sizes = gradient_sizes(channels)
    channel_blocks = _divide(channels, sizes["CHANNELS"])
    shares = 1 if paired else _shares(batch * count * channel_blocks, rows, columns)
    sums = len(saved.piece_owners) if paired else batch * count * shares
    moments = means.new_empty(sums, gradient.MOMENTS.value, dtype=torch.float32)
    feature_sums = means.new_empty(sums, channels, dtype=torch.float32)
    tile_backgrounds = means.new_empty(batch, tile_count, channels, dtype=torch.float32)
    tile_weights = means.new_empty(batch, tile_count, dtype=torch.float32)
    projection = torch.empty_like(saved.denominator)
    d_rays = rays.new_empty((batch, height, width, 3) if with_rays else 0, dtype=torch.float32)
    gradients = [v.new_empty(v.shape) for v in (*geometry, features, background)]
    ends, piece_ends = saved.ends.unbind() if paired else (saved.ends, saved.ends)
    d_latent = d_latent.contiguous()
    size = channels, height, width
    scene = saved.gaussians, features, rays, features.stride(0), rays.stride(0), count
    with _on(means):
        gradient.background_gradient[tile_count, batch](
            *(tile_backgrounds, tile_weights, projection, d_latent, saved.latent, saved.denominator, saved.counts),
            *(saved.image_values, background, background.stride(0), *size, eps),
            **FUSED,
            **BACKGROUND_GRADIENT_SIZES,
        )
        if sums:
            # Programs that run at the same time should read the same pixels.
            order = saved.piece_tiles.argsort() if paired else saved.piece_tiles
            grid = (sums * channel_blocks,) if paired else (count * channel_blocks, shares, batch)
            gradient.gradient[grid](
                *(moments, feature_sums, d_latent, projection, saved.denominator),
                *(saved.listed, saved.patches, saved.pair_tiles, ends),
                *(saved.piece_owners, piece_ends, order, *scene, height, width, alpha, eps),
                **FUSED,
                **sizes,
                channels=channels,
                LOOKED=1 if paired else WARP,
                PAIRED=paired,
            )
        if with_rays:
            ray_gradient.ray_gradient[columns, rows, batch](
                *(d_rays, d_latent, projection, saved.denominator),
                *(saved.starts, saved.counts, saved.members, saved.listed, *scene, *size, alpha, eps),
                **FUSED,
                **RAY_GRADIENT_SIZES,
                LOOKED=WARP,
                PAIRED=paired,
            )
        programs = _divide(channels, CHAIN_SIZES["CHANNELS"]) + _divide(count, CHAIN_SIZES["BLOCK"])
        chain.chain[programs, batch](
            *(*gradients, d_rays, moments, feature_sums, tile_backgrounds, tile_weights, piece_ends),
            *(saved.gaussians, saved.image_values, saved.farthest, *geometry, rays),
            *(*(v.stride(0) for v in (*geometry, rays)), shares, tile_count, count, *size),
            **FUSED,
            **CHAIN_SIZES,
            WITH_RAYS=with_rays,
            PAIRED=paired,
        )
    return *gradients, d_rays.to(rays.dtype)


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


def _shares(programs: int, rows: int, columns: int) -> int:
    """Shares into which the tiles of each Gaussian are divided, if that many programs have one share each."""
    shares = max(1, min(MOST_SHARES, rows * columns, GRADIENT_PROGRAMS // max(1, programs)))
    # Otherwise a Gaussian that is as narrow as a column of tiles would be in few of the shares.
    while math.gcd(shares, columns) > 1:
        shares += 1
    return shares


def _pairs(tiles: Tensor, gaussians: Tensor, count: int, cells: Tensor, rows: int, columns: int) -> tuple[Tensor, ...]:
    batch, tile_count = gaussians.shape[0], rows * columns
    # Of pairs, and of pieces.
    totals = tiles.new_empty(2, batch, count, dtype=torch.int32)
    first_tiles = tiles.new_empty(batch, count, lists.PIECE.value, dtype=torch.int32)
    counts = tiles.new_zeros(batch, tile_count, dtype=torch.int32)
    pairs = lists.pair_large
    grid, sizes = (count, batch), dict(SIDE=SIDE, num_warps=1)
    scene = cells, tiles, gaussians, count, rows, columns
    # While it counts there is nothing else yet, and other tensors stand in for it.
    pairs[grid](*[totals] * 4, first_tiles, totals, counts, totals, totals, *scene, **FUSED, **sizes, FILL=False)
    ends = totals.flatten(1).cumsum(1, dtype=torch.int64)
    starts = counts.flatten().cumsum(0, dtype=torch.int64).view_as(counts) - counts
    found, divided = ends[:, -1].tolist()
    ends = ends.view_as(totals)
    pair_tiles, owners = (tiles.new_empty(found, dtype=torch.int32) for _ in range(2))
    piece_tiles, piece_owners = (tiles.new_empty(divided, dtype=torch.int32) for _ in range(2))
    written = pair_tiles, owners, piece_tiles, piece_owners
    pairs[grid](*written, first_tiles, totals, counts, *ends.unbind(), *scene, **FUSED, **sizes, FILL=True)
    members = owners[pair_tiles.sort(stable=True).indices]
    return starts, counts, members, pair_tiles, ends, piece_tiles, piece_owners


def _divide(count: int, size: int) -> int:
    return (count + size - 1) // size


def _inner_contiguous(tensor: Tensor) -> Tensor:
    """The tensor, made contiguous except for the batch axis, which may be broadcast."""
    return tensor if tensor.is_contiguous() or tensor[0].is_contiguous() else tensor.contiguous()


def _on(tensor: Tensor):
    """Make the tensor's device the current one, on which Triton launches."""
    return torch.cuda.device(tensor.device) if tensor.is_cuda else contextlib.nullcontext()
