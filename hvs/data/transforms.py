"""From pictures to the tensors that a network sees: the crop around a person, resizing and compositing."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from hvs.geometry import Camera
from hvs.geometry.cameras import ResizeConvention

from .decoding import REDUCTIONS, WHITE, Picture

# A crop that follows the person's size is larger than the person by this factor.
MARGIN = 1.25
# Such a crop needs this many joints in the image, this many pixels apart: others would be a few pixels, enlarged.
LEAST_JOINTS, LEAST_EXTENT = 3, 4.0


class Box(NamedTuple):
    """A square window of the image: its top left pixel and its side, in pixels."""

    left: int
    top: int
    side: int


def crop_box(keypoints: Tensor, valid: Tensor, width: int, height: int, side: int | None = None) -> Box | None:
    """The square window around a person, wholly inside the image.

    Args:
        keypoints: pixels, [J, 2].
        valid: which of them count, [J].
        width, height: of the image, in pixels.
        side: of the window, in pixels; by default it follows the person: max(min(1.25·dx, W), min(1.25·dy, H)) if the
            keypoints span dx × dy. Never more than the image's shorter side.

    Returns:
        The window; None if no valid keypoint lies inside the image or, if the window follows the person, if there are
        fewer than three or all within four pixels.
    """
    limits = keypoints.new_tensor((width - 1, height - 1))
    inside = valid & ((keypoints >= 0) & (keypoints <= limits)).all(-1)
    if not inside.any():
        return None
    low, high = keypoints[valid].clamp(min=torch.zeros_like(limits), max=limits).aminmax(dim=0)
    if side is None:
        if inside.sum() < LEAST_JOINTS or (high - low).max() < LEAST_EXTENT:
            return None
        dx, dy = (MARGIN * (high - low)).tolist()
        side = round(max(min(dx, width), min(dy, height)))
    side = max(1, min(side, width, height))
    left, top = ((low + high - side) / 2).round().int().tolist()
    return Box(max(0, min(left, width - side)), max(0, min(top, height - side)), side)


def crop_camera(camera: Camera, box: Box, resolution: int, resize: ResizeConvention) -> Camera:
    """The camera of the window, scaled to `resolution` pixels a side in the convention `resize` of `Camera.resize`."""
    return camera.crop(box.left, box.top, box.side, box.side).resize(resolution, resolution, resize)


def reduction_for(box: Box, resolution: int) -> int:
    """How far a picture can be reduced when decoded, so that the window keeps at least `resolution` pixels a side."""
    return max(reduction for reduction in REDUCTIONS if reduction == 1 or box.side >= reduction * resolution)


def align(box: Box, reduction: int) -> Box:
    """The window, moved and shrunk by less than `reduction` pixels to align with the reduced picture's pixels."""
    left, top, side = (value - value % reduction for value in box)
    return Box(left, top, side)


def crop_image(picture: Picture, box: Box, resolution: int) -> Tensor:
    """The window of an image as [3, resolution, resolution] in 0..1, resized with antialiased bilinear filtering.

    The window must be aligned for its `reduction_for`.
    """
    reduction = reduction_for(box, resolution)
    left, top, side = (value // reduction for value in box)
    pixels = picture.rgb(reduction)[:, top : top + side, left : left + side]
    # This is fast on bytes in the channels-last layout.
    return F.interpolate(pixels[None], (resolution, resolution), mode="bilinear", antialias=True)[0].float() / 255


def crop_mask(picture: Picture, box: Box, resolution: int) -> Tensor:
    """The window of a mask as [1, resolution, resolution], 0 or 1 (nearest)."""
    left, top, side = box
    grey = picture.grey()[:, top : top + side, left : left + side]
    nearest = F.interpolate(grey[None], (resolution, resolution), mode="nearest-exact")[0]
    return (nearest >= WHITE).float()


def composite(image: Tensor, mask: Tensor, background: tuple[int, int, int]) -> Tensor:
    """mask·image + (1 - mask)·background, with image [..., 3, H, W] in 0..1, mask [..., 1, H, W], background 0..255."""
    colour = image.new_tensor(background)[:, None, None] / 255
    return torch.lerp(colour.expand_as(image), image, mask)
