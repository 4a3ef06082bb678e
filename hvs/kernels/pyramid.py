"""A pyramid of cells of rays, so that one test covers many pixels.

The leaves are tiles of 16×16 pixels. Each coarser level joins 4×4 cells of the finer one, up to a single cell that is
the whole image. A cell has a centre, which is one of its rays, the bounding box of (x/z, y/z) over its rays, and a
radius around the centre that contains all of them. The bounds are computed from the rays themselves, so they hold for
any lens.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

TILE = 16
FAN_OUT = 4
# A ray with a smaller z than this has no usable coordinates (x/z, y/z); the box of its cell is the whole plane.
FLATTEST_RAY = 1e-6


@dataclass(frozen=True)
class Cells:
    """One level of the pyramid: B images with T = height×width cells each.

    Attributes:
        centre: a ray of each cell, [B, T, 3].
        radius: upper bound of the distance between the centre and any ray of the cell, [B, T].
        low, high: bounding box of (x/z, y/z) over the cell, [B, T, 2].
    """

    centre: Tensor
    radius: Tensor
    low: Tensor
    high: Tensor
    height: int
    width: int

    def children(self, cells: Tensor, fine: "Cells") -> tuple[Tensor, Tensor]:
        """The cells of the next finer level that make up the given cells [P] of this one.

        Returns:
            their indices in the finer level [P, FAN_OUT²], and which of them exist [P, FAN_OUT²].
        """
        step = torch.arange(FAN_OUT, device=cells.device)
        rows = ((cells // self.width * FAN_OUT)[:, None] + step)[:, :, None]
        columns = ((cells % self.width * FAN_OUT)[:, None] + step)[:, None, :]
        exists = (rows < fine.height) & (columns < fine.width)
        return (rows * fine.width + columns).flatten(1), exists.flatten(1)


def pad_to_tiles(image: Tensor) -> Tensor:
    """Images [B, C, H, W] with the last row and column repeated up to multiples of TILE."""
    return pad(image, TILE)


def gather_tiles(image: Tensor, tiles: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """Pixels of A tiles, given as (image, row, column) [A] each: [B, C, H, W] -> [A, C, TILE²]."""
    rows = _rows_of(image, tiles)
    return image.reshape(-1, TILE).index_select(0, rows.flatten()).view(len(rows), image.shape[1], TILE**2)


def scatter_tiles(image: Tensor, tiles: tuple[Tensor, Tensor, Tensor], values: Tensor) -> None:
    """Write the pixels [A, C, TILE²] of A tiles into a contiguous image [B, C, H, W]."""
    image.view(-1, TILE).index_copy_(0, _rows_of(image, tiles).flatten(), values.reshape(-1, TILE))


def _rows_of(image: Tensor, tiles: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """Indices of the tiles' pixel rows, with the image seen as a list of rows of TILE pixels, [A, C, TILE]."""
    _, channels, height, width = image.shape
    b, row, column = (v[:, None, None] for v in tiles)
    channel = torch.arange(channels, device=b.device)[:, None]
    line = torch.arange(TILE, device=b.device)
    return ((b * channels + channel) * height + row * TILE + line) * (width // TILE) + column


def build_pyramid(rays: Tensor) -> list[Cells]:
    """All levels, from the tiles up to a single cell, for padded rays [B, 3, H, W]."""
    depth = rays[:, 2:]
    plane = rays[:, :2] / depth
    centre = rays[..., TILE // 2 :: TILE, TILE // 2 :: TILE]
    flat = (pool(depth, TILE, torch.amin) < FLATTEST_RAY).expand(-1, 2, -1, -1)
    low = pool(plane, TILE, torch.amin).masked_fill(flat, -torch.inf)
    high = pool(plane, TILE, torch.amax).masked_fill(flat, torch.inf)
    levels = [_cells(centre, low, high)]
    while max(low.shape[2:]) > 1:
        centre, low, high = (pad(v, FAN_OUT) for v in (centre, low, high))
        middle = FAN_OUT // 2
        centre = centre[..., middle::FAN_OUT, middle::FAN_OUT]
        low, high = pool(low, FAN_OUT, torch.amin), pool(high, FAN_OUT, torch.amax)
        levels.append(_cells(centre, low, high))
    return levels


def _cells(centre: Tensor, low: Tensor, high: Tensor) -> Cells:
    plane = centre[:, :2] / centre[:, 2:]
    # Normalising points of the plane z = 1 to unit rays moves no two of them further apart, and no two unit rays are
    # further apart than 2.
    radius = torch.maximum(high - plane, plane - low).norm(dim=1).nan_to_num(2.0).clamp(max=2.0)
    height, width = radius.shape[1:]
    centre, low, high = (v.flatten(2).mT.contiguous() for v in (centre, low, high))
    return Cells(centre, radius.flatten(1), low, high, height, width)


def pool(image: Tensor, size: int, reduce) -> Tensor:
    """[B, C, H, W] -> [B, C, H/size, W/size]; rows are reduced first, which runs along contiguous memory."""
    return reduce(reduce(image.unflatten(-2, (-1, size)), -2).unflatten(-1, (-1, size)), -1)


def pad(image: Tensor, multiple: int) -> Tensor:
    down, right = -image.shape[2] % multiple, -image.shape[3] % multiple
    return F.pad(image, (0, right, 0, down), mode="replicate") if down or right else image
