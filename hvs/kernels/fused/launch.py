"""Memory and launches of the kernels: how a scene is cut into programs."""

import contextlib
from dataclasses import dataclass, fields
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..pyramid import pad, pool
from . import blend, chain, extents, gradient, lists, search, survey
from .geometry import TILE

# Gaussians that a program looks at together.
BLOCK = 128
# Tiles along the sides of a cell, in scenes where it pays to look at cells first.
SIDE = 8
# Pairs of a tile and a Gaussian, all images together, up to which every tile has room for every Gaussian (64 MiB).
SMALL_PAIRS = 1 << 24
# Pairs of an image up to which the search for the deepest response looks at every tile at once.
SEARCH_PAIRS = 1 << 22
# Gaussians that one tile looks at for a first bound of the deepest response.
SURVEYED = 4096
# Programs per image that share the search of large scenes.
SEARCH_PROGRAMS = 1024
# Programs of `blend`, enough to fill a GPU.
BLEND_PROGRAMS = 4096
# Programs of the backward pass, enough to fill a GPU; in small scenes each has rows of its own for all Gaussians.
GRADIENT_PROGRAMS = 1024
GRADIENT_FLOATS = 1 << 24
# Gaussians of a tile that a dot product takes together, and of a block of `chain`.
GROUP = 16
# Most channels that a program has at a time; with more of them `blend` spills registers (`bench/resources.py`).
BLEND_CHANNELS = 256
ON_AMD = torch.version.hip is not None


@dataclass(frozen=True)
class Forward:
    """What a forward pass leaves behind.

    Attributes:
        latent: [B, C, H, W].
        denominator: [B, H, W] sums of weights.
        starts, counts: of the T tiles' lists, [B, T] int64 and int32.
        members: the Gaussians of the lists, int32; all N of every tile, [B·T·N], those it meets in front, or the pairs
            there are, [P].
        slots: places of the pairs in the order of their Gaussians, [P] int32; empty in small scenes.
        ends: of the Gaussians' pairs in that order, [B, N] int64; empty in small scenes.
        gaussians: [B, 19, N], see `extents`.
        image_values: [B, 2], see `extents`.
        farthest: flat index pixel·N + Gaussian of the deepest response, [B] int64; -1 where nothing is visible.
    """

    latent: Tensor
    denominator: Tensor
    starts: Tensor
    counts: Tensor
    members: Tensor
    slots: Tensor
    ends: Tensor
    gaussians: Tensor
    image_values: Tensor
    farthest: Tensor

    def tensors(self) -> tuple[Tensor, ...]:
        return tuple(getattr(self, field.name) for field in fields(self))


def tile_grid(height: int, width: int) -> tuple[int, int]:
    """Rows and columns of tiles."""
    tile = TILE.value
    return (height + tile - 1) // tile, (width + tile - 1) // tile


def is_small(batch: int, count: int, height: int, width: int) -> bool:
    """Whether every tile has room for every Gaussian."""
    rows, columns = tile_grid(height, width)
    return batch * rows * columns * count <= SMALL_PAIRS


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
    geometry = [_inner_contiguous(v) for v in (means, rotations, scales)]
    features, background, rays = (_inner_contiguous(v) for v in (features, background, rays))
    batch, count, channels = features.shape
    height, width = rays.shape[1:3]
    rows, columns = tile_grid(height, width)
    tile_count = rows * columns
    blocks = _divide(count, BLOCK)
    empty = means.new_empty
    tiles = empty(batch, survey.TILE_VALUES.value, tile_count, dtype=torch.float32)
    image_keys = means.new_zeros(batch, 2, dtype=torch.int32)
    scene = (*geometry, rays, *(v.stride(0) for v in (*geometry, rays)), count, height, width, near)

    side = 1 if tile_count * count <= SEARCH_PAIRS else SIDE
    cells = _divide(rows, side) * _divide(columns, side)
    shares = 1 if side == 1 else max(1, min(blocks, SEARCH_PROGRAMS // cells))
    depths = empty(batch, cells * shares, dtype=torch.float32)
    places = empty(batch, cells * shares, dtype=torch.int64)
    gaussians = empty(batch, extents.GAUSSIAN_VALUES.value, count, dtype=torch.float32)
    image_values = empty(batch, extents.IMAGE_VALUES.value, dtype=torch.float32)
    farthest = empty(batch, dtype=torch.int64)
    latent = empty(batch, channels, height, width, dtype=features.dtype)
    denominator = empty(batch, height, width, dtype=torch.float32)
    sizes = blend_sizes(channels, features.dtype)
    with _on(means):
        skip = max(1, min(_divide(count, SURVEYED), tile_count))
        survey.survey[tile_count, batch](tiles, image_keys, *scene, skip, BLOCK=BLOCK)
        search.search[cells, shares, batch](depths, places, tiles, image_keys, *scene, SIDE=side, BLOCK=BLOCK)
        extents.extents[max(1, blocks), batch](
            *(gaussians, image_values, farthest, depths, places, image_keys, *geometry),
            *(*(v.stride(0) for v in geometry), count, cells * shares, alpha, beta, eps, near, tolerance),
            BLOCK=BLOCK,
        )
        shown = image_values, background, background.stride(0)
        size = channels, height, width
        if is_small(batch, count, height, width):
            found = _small_lists(latent, denominator, tiles, gaussians, *shown, *size, eps)
        else:
            found = _large_lists(tiles, gaussians, rows, columns)
            lists.fill_large[tile_count, batch](latent, denominator, found[1], *shown, *size, eps)
        pieces = (TILE.value**2 // sizes["PIXELS"]) * _divide(channels, sizes["CHANNELS"])
        programs = max(1, min(tile_count, BLEND_PROGRAMS // (batch * pieces)))
        blend.blend[programs, pieces, batch](
            *(latent, denominator, *found[:3], gaussians, image_values, features, background, rays),
            *(features.stride(0), background.stride(0), rays.stride(0), count, *size, alpha, eps),
            **sizes,
            **dot_options(features.dtype),
            GROUP=GROUP,
        )
    return Forward(latent, denominator, *found, gaussians, image_values, farthest)


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
    sizes = gradient_sizes()
    in_slots = not is_small(batch, count, height, width)
    if in_slots:
        programs, sums = tile_count, len(saved.slots)
    else:
        room = GRADIENT_FLOATS // max(1, batch * count * (channels + gradient.MOMENTS.value))
        programs = max(1, min(tile_count, GRADIENT_PROGRAMS // batch, room))
        sums = batch * programs * count
    moments = means.new_zeros(sums, gradient.MOMENTS.value, dtype=torch.float32)
    feature_sums = means.new_zeros(sums, channels, dtype=torch.float32)
    tile_backgrounds = means.new_empty(batch, tile_count, channels, dtype=torch.float32)
    tile_weights = means.new_empty(batch, tile_count, dtype=torch.float32)
    projection = torch.empty_like(saved.denominator)
    d_rays = rays.new_zeros(batch, height, width, 3, dtype=torch.float32) if with_rays else rays.new_empty(0)
    gradients = [v.new_empty(v.shape) for v in (*geometry, features, background)]
    options = dict(SLOTS=in_slots, WITH_RAYS=with_rays)
    size = channels, height, width
    d_latent = d_latent.contiguous()
    with _on(means):
        gradient.background_gradient[tile_count, batch](
            *(tile_backgrounds, tile_weights, projection, d_latent, saved.latent, saved.denominator, saved.counts),
            *(saved.image_values, background, background.stride(0), *size, eps),
            num_warps=4 if ON_AMD else 8,
        )
        gradient.gradient[programs, batch](
            *(moments, feature_sums, d_rays, d_latent, projection, saved.denominator),
            *(saved.starts, saved.counts, saved.members, saved.slots, saved.gaussians, features, rays),
            *(features.stride(0), rays.stride(0), count, *size, alpha, eps),
            **sizes,
            **options,
            **dot_options(features.dtype),
            GROUP=GROUP,
        )
        chain.chain[_divide(count, GROUP) + 1, batch](
            *(*gradients, d_rays, moments, feature_sums, tile_backgrounds, tile_weights),
            *(saved.ends, saved.gaussians, saved.image_values, saved.farthest, *geometry, rays),
            *(*(v.stride(0) for v in (*geometry, rays)), programs, tile_count, count, *size),
            **options,
            CHANNELS=sizes["CHANNELS"],
            BLOCK=GROUP,
        )
    return *gradients, d_rays.to(rays.dtype)


def blend_sizes(channels: int, dtype: torch.dtype) -> dict[str, int]:
    """Channels that a program of `blend` has, all of them if possible, and pixels that it then has registers for."""
    size = min(BLEND_CHANNELS, max(16, triton.next_power_of_2(channels)))
    # Tensor cores, which multiply the half types, take their factors from fewer registers.
    if dtype != torch.float32 and size <= 128:
        return dict(CHANNELS=size, PIXELS=64, num_warps=8)
    return dict(CHANNELS=size, PIXELS=16, num_warps=4 if size <= 128 else 8)


def gradient_sizes() -> dict[str, int]:
    """Channels that a program of `gradient` has at a time, and pixels."""
    # A warp of an AMD GPU is twice as wide.
    return dict(CHANNELS=16, PIXELS=32, num_warps=4) if ON_AMD else dict(CHANNELS=16, PIXELS=64, num_warps=8)


def _small_lists(latent: Tensor, denominator: Tensor, tiles: Tensor, gaussians: Tensor, *shown) -> tuple[Tensor, ...]:
    image_values, background, background_stride, *size = shown
    (batch, _, tile_count), count = tiles.shape, gaussians.shape[2]
    starts = tiles.new_empty(batch, tile_count, dtype=torch.int64)
    counts = tiles.new_empty(batch, tile_count, dtype=torch.int32)
    members = tiles.new_empty(batch * tile_count * count, dtype=torch.int32)
    lists.list_small[tile_count, batch](
        *(starts, counts, members, latent, denominator, tiles, gaussians, image_values, background),
        *(background_stride, count, *size),
        BLOCK=BLOCK,
    )
    return starts, counts, members, members.new_empty(0), starts.new_empty(0)


def _large_lists(tiles: Tensor, gaussians: Tensor, rows: int, columns: int) -> tuple[Tensor, ...]:
    batch, count = gaussians.shape[0], gaussians.shape[2]
    boxes = pad(tiles[:, :4].unflatten(-1, (rows, columns)), SIDE)
    cells = torch.cat((pool(boxes[:, :2], SIDE, torch.amin), pool(boxes[:, 2:], SIDE, torch.amax)), 1)
    totals = tiles.new_empty(batch, count, dtype=torch.int32)
    pairs = lists.pair_large
    grid, options = (count, batch), dict(SIDE=SIDE, num_warps=2)
    arguments = cells, tiles, gaussians, count, rows, columns
    pairs[grid](totals, totals, totals, *arguments, FILL=False, **options)
    ends = totals.flatten().cumsum(0, dtype=torch.int64).view_as(totals)
    found = int(ends[-1, -1])
    pair_tiles = tiles.new_empty(found, dtype=torch.int32)
    pairs[grid](pair_tiles, totals, ends, *arguments, FILL=True, **options)

    pair_tiles, slots = pair_tiles.sort(stable=True)
    borders = torch.arange(batch * rows * columns + 1, device=tiles.device, dtype=torch.int32)
    starts = torch.searchsorted(pair_tiles, borders)
    counts = starts.diff().to(torch.int32).view(batch, -1)
    owners = torch.repeat_interleave(totals.flatten(), output_size=found)
    members = (owners[slots] % count).to(torch.int32)
    return starts[:-1].view(batch, -1).contiguous(), counts, members, slots.to(torch.int32), ends


def _divide(count: int, size: int) -> int:
    return (count + size - 1) // size


def _inner_contiguous(tensor: Tensor) -> Tensor:
    """Contiguous but for the batch axis, which may be broadcast."""
    return tensor if tensor[0].is_contiguous() else tensor.contiguous()


def dot_options(dtype: torch.dtype) -> dict[str, Any]:
    """How dot products of features are done: in their own type, and if that is float32, as precisely as
    `torch.set_float32_matmul_precision` asks for."""
    types = {torch.float32: tl.float32, torch.float16: tl.float16, torch.bfloat16: tl.bfloat16}
    # The interpreter has no bfloat16 to multiply in.
    dot = tl.float32 if triton.knobs.runtime.interpret else types[dtype]
    asked = "highest" if ON_AMD else torch.get_float32_matmul_precision()
    return dict(DOT=dot, PRECISION={"highest": "ieee", "high": "tf32x3", "medium": "tf32"}[asked])


def _on(tensor: Tensor):
    """Triton launches on the current device."""
    return torch.cuda.device(tensor.device) if tensor.is_cuda else contextlib.nullcontext()
