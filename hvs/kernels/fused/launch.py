"""Allocates memory and launches the kernels."""

import contextlib

import torch
from torch import Tensor

from . import (
    background_weight,
    blend,
    chain,
    extents,
    gradient,
    lists,
    prepare,
    programs,
    ray_gradient,
    search,
    small,
    survey,
    values,
)
from .geometry import PATCHES, TILE
from .programs import divide
from .results import Forward

# For every launch: a product and the sum that it goes into are one instruction. Triton 3.9 warns that 3.10 will do so
# only where it is asked to.
FUSED = dict(enable_fp_fusion=True)


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
    height, width = rays.shape[1:3]
    programs.check_size(batch, count, height, width)
    geometry = [_inner_contiguous(v) for v in (means, rotations, scales)]
    features, background, rays = (_inner_contiguous(v) for v in (features, background, rays))
    rows, columns = programs.tile_grid(height, width)
    tile_count = rows * columns

    def empty(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        return means.new_empty(batch, *shape, dtype=dtype)

    gaussians = empty(*programs.gaussian_values(count))
    blocks = gaussians.shape[1]
    nearest, first_depths = empty(blocks), empty(blocks)
    patches = empty(tile_count, 4, PATCHES.value)
    paired = not programs.is_small(batch, count, height, width)
    cell_count = divide(rows, programs.SIDE) * divide(columns, programs.SIDE)
    shares = max(1, min(blocks, programs.SEARCH_PROGRAMS // cell_count))
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
                **programs.SEARCH_SIZES,
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
                *(blocks, count, height, width, beta, programs.FILLED_ABOVE * eps),
                **FUSED,
                channels=channels,
                **programs.SURVEY_SIZES,
            )
            # Tensors that an operator returns must not share memory. The lists are not among them: most of their
            # memory is never written.
            starts, ends = means.new_empty(0, dtype=torch.int64), means.new_empty(2, 0, dtype=torch.int64)
            kept, pair_tiles, piece_tiles, piece_owners = (means.new_empty(0, dtype=torch.int32) for _ in range(4))
            pairs = pair_tiles, ends, piece_tiles, piece_owners
        sizes = programs.blend_sizes(channels)
        channel_blocks = divide(channels, sizes["CHANNELS"])
        pieces = (TILE.value**2 // sizes["PIXELS"]) * channel_blocks
        blend.blend[columns * pieces, batch, rows](
            *(latent, denominator, image_values, farthest, starts, counts, members, patches, gaussians),
            *(depths, places, features, background, rays, *(v.stride(0) for v in (features, background, rays))),
            *(count, height, width, searches, alpha, beta, eps),
            **FUSED,
            **sizes,
            channels=channels,
            LOOKED=programs.WARP,
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
    rows, columns = programs.tile_grid(height, width)
    tile_count = rows * columns
    paired = not programs.is_small(batch, count, height, width)
    sizes = programs.gradient_sizes(channels)
    channel_blocks = divide(channels, sizes["CHANNELS"])
    shares = 1 if paired else programs.shares_of(batch * count * channel_blocks, rows, columns)
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
            **programs.BACKGROUND_GRADIENT_SIZES,
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
                LOOKED=1 if paired else programs.WARP,
                PAIRED=paired,
            )
        if with_rays:
            ray_gradient.ray_gradient[columns, rows, batch](
                *(d_rays, d_latent, projection, saved.denominator),
                *(saved.starts, saved.counts, saved.members, saved.listed, *scene, *size, alpha, eps),
                **FUSED,
                **programs.RAY_GRADIENT_SIZES,
                LOOKED=programs.WARP,
                PAIRED=paired,
            )
        own = programs.CHAIN_SIZES
        chain.chain[divide(channels, own["CHANNELS"]) + divide(count, own["BLOCK"]), batch](
            *(*gradients, d_rays, moments, feature_sums, tile_backgrounds, tile_weights, piece_ends),
            *(saved.gaussians, saved.image_values, saved.farthest, *geometry, rays),
            *(*(v.stride(0) for v in (*geometry, rays)), shares, tile_count, count, *size),
            **FUSED,
            **programs.CHAIN_SIZES,
            WITH_RAYS=with_rays,
            PAIRED=paired,
        )
    return *gradients, d_rays.to(rays.dtype)


def _pairs(tiles: Tensor, gaussians: Tensor, count: int, cells: Tensor, rows: int, columns: int) -> tuple[Tensor, ...]:
    batch, tile_count = gaussians.shape[0], rows * columns
    # Of pairs, and of pieces.
    totals = tiles.new_empty(2, batch, count, dtype=torch.int32)
    first_tiles = tiles.new_empty(batch, count, lists.PIECE.value, dtype=torch.int32)
    counts = tiles.new_zeros(batch, tile_count, dtype=torch.int32)
    pairs = lists.pair_large
    grid, sizes = (count, batch), dict(SIDE=programs.SIDE, num_warps=1)
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


def _inner_contiguous(tensor: Tensor) -> Tensor:
    """The tensor, made contiguous except for the batch axis, which may be broadcast."""
    return tensor if tensor.is_contiguous() or tensor[0].is_contiguous() else tensor.contiguous()


def _on(tensor: Tensor):
    """Make the tensor's device the current one, on which Triton launches."""
    return torch.cuda.device(tensor.device) if tensor.is_cuda else contextlib.nullcontext()
