"""The Gaussians that each tile meets.

In small scenes every tile tests every Gaussian and has room for all of them, so the host need not wait for a count from
the GPU. In large scenes every Gaussian finds its own tiles, testing cells of SIDE×SIDE tiles first; the pairs are
counted, numbered and sorted by tile.
"""

import triton
import triton.language as tl

from .geometry import first_set, repeat
from .survey import TILE_VALUES, load_boxes, tiles_of_cell
from .values import address_of, addresses_of, image_of, load_extent

# Pairs of a Gaussian in large scenes over which one program sums its gradient: the largest Gaussians have thousands.
PIECE = tl.constexpr(8)
# In place of the number of Gaussians of a tile that meets none: the background has been written.
FILLED = tl.constexpr(-1)


@triton.jit
def meets(low_x, low_y, high_x, high_y, nx, ny, nz, x0, y0, x1, y1):
    """Whether Gaussians with these extents may matter on any ray in the bounding boxes x0..x1, y0..y1."""
    overlap = tl.maximum(low_x, x0) <= tl.minimum(high_x, x1)
    overlap &= tl.maximum(low_y, y0) <= tl.minimum(high_y, y1)
    # Fused where it says so, and not as the compiler likes: kernels that count pairs and others that write them must
    # come to the same bits.
    beside = 0.5 * tl.fma(nx, x0 + x1, ny * (y0 + y1)) + nz
    reach = 0.5 * tl.fma(tl.abs(nx), x1 - x0, tl.abs(ny) * (y1 - y0))
    return overlap & ~(tl.abs(beside) > reach + 1)


@triton.jit
def ranks_of(flags):
    """The place of each flag among those that are set, -1 of one that is not; and how many are set."""
    return tl.where(flags > 0, tl.cumsum(flags, 0) - 1, -1), tl.sum(flags)


@triton.jit
def member_of(rank, wanted, members):
    """The members [L] that have the wanted ranks [G]; 0 where none has."""
    return tl.sum(tl.where(rank[None, :] == wanted[:, None], members[None, :], 0), 1)


@triton.jit
def start_of(ends, i):
    """Where the i-th of consecutive ranges begins, of which the ends are given."""
    return tl.load(ends + i - 1, i > 0, 0)


@triton.jit
def list_tile(members, listed, gaussians, room, x0, y0, x1, y1, BLOCK: tl.constexpr):
    """Write the Gaussians that a tile meets, in front of members [N] (int32), and flags that are set for them, listed
    [room] (int8), of which there is one for every Gaussian that has values; returns their number."""
    found = 0
    for start in range(0, room, BLOCK):
        low_x, low_y, high_x, high_y, nx, ny, nz = load_extent(addresses_of(gaussians, start, BLOCK))
        left = meets(low_x, low_y, high_x, high_y, nx, ny, nz, x0, y0, x1, y1).to(tl.int32)
        tl.store(listed + start + tl.arange(0, BLOCK), left.to(tl.int8))
        chosen = first_set(left, BLOCK)
        # Most tiles meet none, others a handful.
        while chosen < BLOCK:
            tl.store(members + found, start + chosen)
            found += 1
            left = tl.where(tl.arange(0, BLOCK) == chosen, 0, left)
            chosen = first_set(left, BLOCK)
    return found


@triton.jit
def pair_large(
    pair_tiles,
    owners,
    piece_tiles,
    piece_owners,
    first_tiles,
    totals,
    counts,
    ends,
    piece_ends,
    cells,
    tiles,
    gaussians,
    count,
    rows,
    columns,
    FILL: tl.constexpr,
    SIDE: tl.constexpr,
):
    """One program per Gaussian and image; launched first to count its tiles, then with FILL to write them.

    Reads the bounding boxes of cells of SIDE×SIDE tiles, cells [B, 4, K]. Without FILL, writes the number of tiles that
    each Gaussian meets, and of pieces of at most PIECE of them, totals [2, B, N], and the first piece, first_tiles
    [B, N, PIECE], and adds the number of Gaussians that each tile meets to counts [B, T]. With FILL, reads totals,
    first_tiles, and the cumulative sums of both kinds of totals, ends and piece_ends [B, N] (int64), and writes the
    pairs in the order of the Gaussians: b·T + tile, pair_tiles [P], and Gaussian, owners [P]; and of each piece the
    first pair_tile, piece_tiles [Q], and b·N + Gaussian, piece_owners [Q]. All other integers are int32.
    """
    n, b = tl.program_id(0), tl.program_id(1).to(tl.int64)
    cell_count = tl.cdiv(rows, SIDE) * tl.cdiv(columns, SIDE)
    own = b * count + n
    first_tiles += own * PIECE
    if FILL:
        total = tl.load(totals + own)
        first, first_piece = start_of(ends, own), start_of(piece_ends, own)
        pair_tiles += first
        owners += first
        piece_tiles += first_piece
        piece_owners += first_piece
        if total <= PIECE:
            # Most Gaussians, whose tiles need not be found again.
            k = tl.arange(0, PIECE)
            tl.store(pair_tiles + k, tl.load(first_tiles + k, k < total), k < total)
            tl.store(owners + k, repeat(n, k), k < total)
            if total > 0:
                tl.store(piece_tiles, tl.load(first_tiles))
                tl.store(piece_owners, own.to(tl.int32))
            return
    gaussians = image_of(gaussians, b, count)
    tiles += b * TILE_VALUES * rows * columns
    cells += b * 4 * cell_count
    low_x, low_y, high_x, high_y, nx, ny, nz = load_extent(address_of(gaussians, n))
    # A Gaussian with an empty box, such as any that is not visible, meets no tile.
    last = tl.where(low_x <= high_x, cell_count, 0)
    found = 0
    lane = tl.arange(0, SIDE * SIDE)
    for start in range(0, last, SIDE * SIDE):
        cell = start + lane
        x0, y0, x1, y1 = load_boxes(cells, cell, cell_count, cell < cell_count)
        left = meets(low_x, low_y, high_x, high_y, nx, ny, nz, x0, y0, x1, y1)
        left = (left & (cell < cell_count)).to(tl.int32)
        next_one = first_set(left, SIDE * SIDE)
        while next_one < SIDE * SIDE:
            chosen = start + next_one
            left = tl.where(cell == chosen, 0, left)
            next_one = first_set(left, SIDE * SIDE)
            tile, exists = tiles_of_cell(chosen, rows, columns, SIDE)
            x0, y0, x1, y1 = load_boxes(tiles, tile, rows * columns, exists)
            met = meets(low_x, low_y, high_x, high_y, nx, ny, nz, x0, y0, x1, y1)
            met = (met & exists).to(tl.int32)
            place = found + tl.cumsum(met, 0) - met
            pair_tile = (b * rows * columns + tile).to(tl.int32)
            if FILL:
                tl.store(pair_tiles + place, pair_tile, met > 0)
                tl.store(owners + place, repeat(n, place), met > 0)
                begins = (met > 0) & (place % PIECE == 0)
                tl.store(piece_tiles + place // PIECE, pair_tile, begins)
                tl.store(piece_owners + place // PIECE, repeat(own.to(tl.int32), place), begins)
            else:
                tl.store(first_tiles + place, pair_tile, (met > 0) & (place < PIECE))
                # Integers add up to the same sum in any order, so the result is deterministic.
                tl.atomic_add(counts + b * rows * columns + tile, met, met > 0, sem="relaxed")
            found += tl.sum(met)
    if not FILL:
        tl.store(totals + own, found)
        tl.store(totals + tl.num_programs(1) * count + own, tl.cdiv(found, PIECE))
