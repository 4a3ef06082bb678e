"""All that a tile of a small scene needs before the background's weight is known.

The weight takes the deepest response in the whole image. Small scenes do not wait for it: their lists are those for the
smallest weight that the background may have, which are hardly longer. Some channels of empty tiles are filled here and
the others in `blend`: writing takes the memory, and finding what to write the multiprocessors.
"""

import triton
import triton.language as tl

from .background_weight import IMAGE_VALUES, enter_response, store_nearest
from .fill import fill
from .geometry import own_tile
from .lists import list_tile
from .search import deepest_of, radius_of, search_tile
from .survey import survey_tile
from .values import TOGETHER, image_of


@triton.jit
def survey_small(
    tiles,
    patches,
    counts,
    members,
    listed,
    latent,
    denominator,
    filled,
    depths,
    places,
    image_values,
    first_depths,
    variances,
    gaussians,
    background,
    rays,
    background_stride,
    rays_stride,
    blocks,
    count,
    channels,
    height,
    width,
    alpha,
    BLOCK: tl.constexpr,
):
    """One program per tile and image.

    Writes what `survey` writes; the number of Gaussians that each tile meets, counts [B, T] (int32), and which these
    are, in front of members [B, T, N] (int32) and as flags, listed [B, T, blocks·128] (int8); where it meets none, the
    first ``filled`` channels of latent [B, C, H, W], and zeros into denominator [B, H, W]; the deepest response in each
    tile, depths [B, T], with its flat index pixel·N + Gaussian, the lowest among equals, places [B, T] (int64), -inf
    and NOWHERE where the bounds show that no response is as deep as the deepest of first_depths [B, blocks]; and into
    image_values [B, 4] the deepest of all and the background's weight at depth zero.
    """
    tile, tile_count, top, left = own_tile()
    b = tl.program_id(2).to(tl.int64)
    here = b * tile_count + tile
    gaussians = image_of(gaussians, b, count)
    rays += b * rays_stride
    low_x, low_y, high_x, high_y, x, y, z = survey_tile(
        tiles, patches, rays, tile, tile_count, top, left, b, height, width
    )
    members += here * count
    room = blocks * TOGETHER
    found = list_tile(members, listed + here * room, gaussians, room, low_x, low_y, high_x, high_y, BLOCK)
    tl.store(counts + here, found)
    if found == 0:
        latent += b * channels * height * width
        denominator += b * height * width
        background += b * background_stride
        fill(latent, denominator, background, 1.0, top, left, 0, filled, height, width, 0, 1)
    best = deepest_of(first_depths + b * blocks, blocks, BLOCK)
    radius = radius_of(low_x, low_y, high_x, high_y, x, y, z)
    depth, place = search_tile(gaussians, rays, best, tile, count, height, width, x, y, z, radius, BLOCK)
    tl.store(depths + here, depth)
    tl.store(places + here, place)
    image_values += b * IMAGE_VALUES
    enter_response(image_values, depth, place)
    if tile == 0:
        store_nearest(image_values, variances + b * blocks, blocks, count, alpha)
