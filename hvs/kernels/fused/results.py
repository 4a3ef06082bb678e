"""What a forward pass leaves for the backward pass."""

from dataclasses import dataclass, fields

from torch import Tensor


@dataclass(frozen=True)
class Forward:
    """The results of a forward pass, and what its backward pass needs.

    Attributes:
        latent: [B, C, H, W].
        denominator: sums of weights, [B, H, W]; zero in tiles that meet no Gaussian.
        starts: start of each tile's list in ``members``, [B, T] int64; empty in small scenes.
        counts: number of Gaussians that each tile meets, [B, T] int32; FILLED, which is -1, in place of some zeros.
        members: the tiles' lists of Gaussians, one after the other, [P] int32; empty in small scenes.
        listed: 1 where a Gaussian is in a tile's list, else 0, [B, T, blocks·128] int8; empty in large scenes.
        pair_tiles: b·T + tile of the pairs in the order of their Gaussians, [P] int32; empty in small scenes.
        ends: end of each Gaussian's pairs in ``pair_tiles``, and of its pieces, [2, B, N] int64; empty in small scenes.
        piece_tiles: the first of each PIECE of a Gaussian's pairs, b·T + tile, [Q] int32; empty in small scenes.
        piece_owners: b·N + Gaussian of each piece, [Q] int32; empty in small scenes.
        patches: bounding boxes of the tiles' patches, [B, T, 4, 8], see `survey`.
        gaussians: [B, blocks, 24, 128], see `values`.
        image_values: [B, 4], see `background_weight`.
        farthest: flat index pixel·N + Gaussian of the deepest response, [B] int64; -1 if no Gaussian is visible.
    """

    latent: Tensor
    denominator: Tensor
    starts: Tensor
    counts: Tensor
    members: Tensor
    listed: Tensor
    pair_tiles: Tensor
    ends: Tensor
    piece_tiles: Tensor
    piece_owners: Tensor
    patches: Tensor
    gaussians: Tensor
    image_values: Tensor
    farthest: Tensor

    def tensors(self) -> tuple[Tensor, ...]:
        return tuple(getattr(self, field.name) for field in fields(self))
