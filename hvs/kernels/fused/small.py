"""All that a tile of a small scene needs before the background's weight is known.

The weight takes the deepest response in the whole image. Small scenes do not wait for it: their lists are those for the
smallest weight that the background may have, which are hardly longer. Most empty tiles are filled here, between
computations: writing takes the memory, and finding what to write the multiprocessors.
"""

import triton
import triton.language as tl

from .background_weight import IMAGE_VALUES, NEAREST, enter_response, falloff_of, largest_of, smallest_of
from .fill import fill
from .geometry import PATCHES, own_tile
from .lists import FILLED, list_tile
from .search import radius_of, search_tile
from .survey import survey_tile
from .values import TOGETHER, image_of


@triton.jit
def survey_small(
    patches,
    counts,
    members,
    listed,
    latent,
    denominator,
    depths,
    places,
    image_values,
    first_depths,
    nearest,
    gaussians,
    background,
    rays,
    background_stride,
    rays_stride,
    blocks,
    count,
    height,
    width,
    beta,
    filled_above,
    channels: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """One program per tile and image.

    Writes the bounding boxes of each tile's patches, patches [B, T, 4, 8]; the number of Gaussians that the tile meets,
    counts [B, T] (int32), and which these are, in front of members [B, T, N] (int32) and as flags, listed
    [B, T, blocks·128] (int8); the deepest response in the tile, depths [B, T], with its flat index pixel·N + Gaussian,
    the lowest among equals, places [B, T] (int64), -inf and NOWHERE where the bounds show that no response is as deep
    as the deepest of first_depths [B, blocks]; and into image_values [B, 4] the deepest of all and the background's
    weight at depth zero. Where a tile meets none, and the deepest of first_depths would give the background more than
    the weight ``filled_above``, it writes the background into latent [B, C, H, W], zeros into denominator [B, H, W],
    and FILLED in place of the number.
    """
    tile, tile_count, top, left = own_tile()
    b = tl.program_id(2).to(tl.int64)
    here = b * tile_count + tile
    gaussians = image_of(gaussians, b, count)
    rays += b * rays_stride
    patches += here * (4 * PATCHES)
    low_x, low_y, high_x, high_y, x, y, z = survey_tile(patches, rays, top, left, height, width)
    members += here * count
    room = blocks * TOGETHER
    found = list_tile(members, listed + here * room, gaussians, room, low_x, low_y, high_x, high_y, BLOCK)
    best = largest_of(first_depths + b * blocks, blocks)
    weight_at_zero = smallest_of(nearest + b * blocks, blocks)
    if (found == 0) & (weight_at_zero * falloff_of(beta * best) > filled_above):
        found = FILLED
        latent += b * channels * height * width
        denominator += b * height * width
        background += b * background_stride
        fill(latent, denominator, background, 1.0, top, left, channels, height, width, 0, 1)
    tl.store(counts + here, found)
    radius = radius_of(low_x, low_y, high_x, high_y, x, y, z)
    depth, place = search_tile(gaussians, rays, best, tile, count, height, width, x, y, z, radius, BLOCK)
    tl.store(depths + here, depth)
    tl.store(places + here, place)
    image_values += b * IMAGE_VALUES
    enter_response(image_values, depth, place)
    if tile == 0:
        tl.store(image_values + NEAREST, weight_at_zero)
