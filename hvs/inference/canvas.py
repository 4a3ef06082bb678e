"""Where the crop around a person lies in the full frame, to draw on the one what is known of the other."""

import torch
from torch import Tensor
from torch.nn import functional as F

from hvs.geometry import Camera


def to_crop(keypoints: Tensor, full: Camera, crop: Camera) -> Tensor:
    """Pixels of the full frame [..., J, 2] as pixels of a crop of it, whose camera came of `crop` and `resize`."""
    scale, offset = _window(full, crop)
    return keypoints * scale.unsqueeze(-2) + offset.unsqueeze(-2)


def place(image: Tensor, crop: Camera, full: Camera, colour: Tensor) -> Tensor:
    """Crops at their places in the full frame, so that what stands still in the world stands still in the picture.

    Args:
        image: the crops, [B, 3, h, w].
        crop: their cameras, of `Camera.crop` and `resize`; batch axes [B].
        full: the camera that they were cropped from, its size the canvas's.
        colour: of the rest of the canvas, [3].

    Returns:
        [B, 3, H, W]; smooth where the crop is made larger, and each pixel a mean where it is made smaller.
    """
    scale, offset = _window(full, crop)  # [B, 2] each
    # What lies outside the crop is zero, and so the difference to the colour is.
    colour = colour.to(image)[:, None, None]
    side = image.new_tensor((crop.width, crop.height))
    x, y = (torch.arange(n, device=image.device, dtype=image.dtype) for n in (full.width, full.height))
    pixels = torch.stack(torch.meshgrid(x, y, indexing="xy"), -1)  # [H, W, 2]
    placed = []
    for picture, by, moved, shrink in zip(image - colour, scale, offset, scale.clamp(min=1).tolist(), strict=True):
        # Pixels of the canvas that are farther apart than the crop's would skip some of them.
        size = [max(1, int(n / s)) for n, s in zip((crop.height, crop.width), shrink[::-1], strict=True)]
        picture = picture[None]
        if size != [crop.height, crop.width]:
            picture = F.interpolate(picture, size, mode="bilinear", antialias=True)
        grid = (2 * (pixels * by + moved) + 1) / side - 1
        placed.append(F.grid_sample(picture, grid[None], mode="bilinear", padding_mode="zeros", align_corners=False))
    return torch.cat(placed) + colour


def _window(full: Camera, crop: Camera) -> tuple[Tensor, Tensor]:
    """x_crop = scale · x_full + offset, [..., 2] each."""
    scale = torch.stack((crop.K[..., 0, 0] / full.K[..., 0, 0], crop.K[..., 1, 1] / full.K[..., 1, 1]), -1)
    return scale, crop.K[..., :2, 2] - scale * full.K[..., :2, 2]
