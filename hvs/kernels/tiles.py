"""The work of the tiled backend: the Gaussians that each tile meets, in chunks that need little memory."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from .limits import LARGEST_COMPONENT
from .pyramid import TILE, gather_tiles

# Pairs of a pixel and a Gaussian in one chunk; some twenty intermediates of this size are alive at a time.
PAIRS_PER_CHUNK = 1 << 18
# The product with the features pads every tile of a chunk to the longest list of Gaussians; only one intermediate has
# this size.
PADDED_PAIRS_PER_CHUNK = 1 << 20


@dataclass(frozen=True)
class Block:
    """P pairs of a tile of one chunk and a Gaussian.

    Attributes:
        gaussians: b·N + Gaussian of each pair, [P].
        slots: which of the chunk's A tiles each pair belongs to, [P].
        places: place of each pair in the padded layout, slot·longest + rank of the pair within its tile, [P].
        longest: places per tile in the padded layout.
    """

    gaussians: Tensor
    slots: Tensor
    places: Tensor
    longest: int

    def pad(self, values: Tensor, tiles: int) -> Tensor:
        """[P, n] -> [A, longest, n], zero where a tile has fewer pairs."""
        padded = values.new_zeros(tiles * self.longest, values.shape[-1])
        return padded.index_copy_(0, self.places, values).unflatten(0, (tiles, self.longest))

    def unpad(self, padded: Tensor) -> Tensor:
        """[A, longest, n] -> [P, n]."""
        return padded.flatten(0, 1)[self.places]


@dataclass(frozen=True)
class Chunk:
    """A tiles, as (image, row, column) [A] each, and their pairs in blocks."""

    tiles: tuple[Tensor, Tensor, Tensor]
    blocks: list[Block]

    @property
    def images(self) -> Tensor:
        return self.tiles[0]


@dataclass(frozen=True)
class Scene:
    """Padded rays, whitened Gaussians, and the sorted pairs of tiles and Gaussians.

    Attributes:
        rays [B, 3, H', W'], whiten [B, N, 3, 3], tiles [P] as b·T + tile in ascending order, gaussians [P] as
        b·N + Gaussian.
    """

    rays: Tensor
    whiten: Tensor
    tiles: Tensor
    gaussians: Tensor

    def rays_of(self, chunk: Chunk) -> Tensor:
        """[3, A, TILE²]."""
        rays = gather_tiles(self.rays, chunk.tiles).clamp(-LARGEST_COMPONENT, LARGEST_COMPONENT)
        return rays.movedim(1, 0).contiguous()

    def chunks(self) -> Iterator[Chunk]:
        """All tiles that meet a Gaussian, those with similar numbers of Gaussians together."""
        tiles, counts = torch.unique_consecutive(self.tiles, return_counts=True)
        first = counts.cumsum(0) - counts
        counts, order = counts.sort(descending=True, stable=True)
        tiles, first = tiles[order], first[order]
        sizes = counts.tolist()
        start = 0
        while start < len(sizes):
            longest, pairs, stop = sizes[start], 0, start
            while stop < len(sizes):
                pairs += sizes[stop]
                full = (
                    pairs * TILE**2 > PAIRS_PER_CHUNK or (stop - start + 1) * longest * TILE**2 > PADDED_PAIRS_PER_CHUNK
                )
                if full and stop > start:
                    break
                stop += 1
            part = slice(start, stop)
            yield Chunk(self._place(tiles[part]), self._blocks(first[part], counts[part], longest))
            start = stop

    def _place(self, tiles: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        height, width = self.rays.shape[2] // TILE, self.rays.shape[3] // TILE
        return tiles // (height * width), tiles // width % height, tiles % width

    def _blocks(self, first: Tensor, counts: Tensor, longest: int) -> list[Block]:
        """One block, unless a single tile meets more Gaussians than a chunk has room for."""
        room = max(1, PAIRS_PER_CHUNK // TILE**2) if len(counts) == 1 else longest
        blocks = []
        for start in range(0, longest, room):
            size = min(room, longest - start)
            rank = torch.arange(start, start + size, device=counts.device)
            slot, step = (rank < counts[:, None]).nonzero().unbind(-1)
            blocks.append(Block(self.gaussians[first[slot] + start + step], slot, slot * size + step, size))
        return blocks
