"""Fills tiles that show nothing but the background."""

import triton
import triton.language as tl

from .geometry import TILE, tile_pixels

# Channels that are written at a time.
TOGETHER = tl.constexpr(4)


@triton.jit
def fill(latent, denominator, background, share, top, left, channels, height, width, piece, pieces):
    """Write the background's features, times ``share``, into one image's tile with this corner, and zero as the
    denominator, which nobody reads there.

    Programs divide the channels among them: this is one piece of several. Whole rows of a tile are written, which takes
    less time than patches.
    """
    y, x, inside = tile_pixels(top, left, 0, height, width, TILE * TILE)
    pixel, size = y * width + x, height * width
    if piece == 0:
        tl.store(denominator + pixel, tl.zeros((TILE * TILE,), tl.float32), inside)
    c = piece * TOGETHER + tl.arange(0, TOGETHER)
    at = latent + c[:, None].to(tl.int64) * size + pixel[None, :]
    step = tl.full((), TOGETHER, tl.int64) * pieces * size
    for start in range(piece * TOGETHER, channels, pieces * TOGETHER):
        c = start + tl.arange(0, TOGETHER)
        shown = tl.load(background + c, c < channels, 0.0).to(tl.float32) * share
        shown = tl.broadcast_to(shown[:, None], (TOGETHER, TILE * TILE))
        tl.store(at, shown, (c < channels)[:, None] & inside[None, :])
        at += step
