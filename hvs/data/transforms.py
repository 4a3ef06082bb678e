"""From bytes to the tensors a network sees: decoding, the crop around a person, resizing, and compositing."""

import io
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from hvs.geometry import Camera

from .stores import DataError

# How much wider than the person a crop is that follows the person's size.
MARGIN = 1.25
_BINARY = [0] * 128 + [255] * 128


class Box(NamedTuple):
    """A square window of the image: its top left pixel and its side, in pixels."""

    left: int
    top: int
    side: int


def decode_image(data: bytes, where: str) -> Image.Image:
    """A JPEG or PNG as an RGB image; `where` names file and frame in the DataError of a broken one."""
    return _decode(data, where, "RGB")


def decode_mask(data: bytes, where: str) -> Image.Image:
    """A JPEG or PNG as a mask of 0 and 255, cut at 128; errors as of `decode_image`."""
    # Not PIL's own conversion to one bit: that dithers.
    return _decode(data, where, "L").point(_BINARY)


def _decode(data: bytes, where: str, mode: str) -> Image.Image:
    try:
        image = Image.open(io.BytesIO(data), formats=("JPEG", "PNG"))
        # A mask is wanted in grey: the decoder then leaves the colours out.
        image.draft(mode, image.size)
        return image.convert(mode)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{where}: not a readable JPEG or PNG ({len(data)} bytes)") from error


def crop_box(keypoints: Tensor, valid: Tensor, width: int, height: int, side: int | None = None) -> Box | None:
    """The square window around a person, wholly inside the image.

    Args:
        keypoints: pixels, [J, 2].
        valid: which of them count, [J].
        width, height: of the image, in pixels.
        side: of the window, in pixels; by default it follows the person, max(min(1.25·dx, W), min(1.25·dy, H)) for a
            person whose keypoints span dx × dy. Never more than the image's shorter side.

    Returns:
        The window, or None where no valid keypoint lies inside the image.
    """
    limits = keypoints.new_tensor((width - 1, height - 1))
    inside = valid & ((keypoints >= 0) & (keypoints <= limits)).all(-1)
    if not inside.any():
        return None
    low, high = keypoints[valid].clamp(min=torch.zeros_like(limits), max=limits).aminmax(dim=0)
    if side is None:
        dx, dy = (MARGIN * (high - low)).tolist()
        side = round(max(min(dx, width), min(dy, height)))
    side = max(1, min(side, width, height))
    left, top = ((low + high - side) / 2).round().int().tolist()
    return Box(max(0, min(left, width - side)), max(0, min(top, height - side)), side)


def crop_camera(camera: Camera, box: Box, resolution: int, resize: str) -> Camera:
    """The camera of the window, scaled to `resolution` pixels a side in the convention `resize` of `Camera.resize`."""
    return camera.crop(box.left, box.top, box.side, box.side).resize(resolution, resolution, resize)


def crop_image(image: Image.Image, box: Box, resolution: int) -> Tensor:
    """The window as [3, resolution, resolution] in 0..1 (bilinear), or [1, ...] in {0, 1} (nearest) for a mask."""
    method = Image.Resampling.NEAREST if image.mode == "L" else Image.Resampling.BILINEAR
    left, top, side = box
    pixels = image.resize((resolution, resolution), method, box=(left, top, left + side, top + side))
    values = torch.from_numpy(np.array(pixels)).float() / 255
    return values[None] if image.mode == "L" else values.movedim(-1, 0).contiguous()


def composite(image: Tensor, mask: Tensor, background: tuple[int, int, int]) -> Tensor:
    """mask·image + (1 - mask)·background, with image [..., 3, H, W] in 0..1, mask [..., 1, H, W], background 0..255."""
    colour = image.new_tensor(background)[:, None, None] / 255
    return torch.lerp(colour.expand_as(image), image, mask)
