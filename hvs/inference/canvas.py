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
    height, width = full.height, full.width
    scale, offset = _window(full, crop)  # [B, 2] each
    # Cells of a grid finer than the crop's would skip some of its pixels.
    shrink = max(1, int(scale.amax().ceil().item()))
    side = image.new_tensor((crop.width, crop.height))
    x, y = (torch.arange(shrink * n, device=image.device, dtype=image.dtype) for n in (width, height))
    fine = torch.stack(torch.meshgrid(x, y, indexing="xy"), -1)  # [H', W', 2]
    fine = (fine + 0.5) / shrink - 0.5
    pixels = fine * scale[:, None, None] + offset[:, None, None]
    grid = (2 * pixels + 1) / side - 1
    colour = colour.to(image)[:, None, None]
    # What lies outside the crop is zero, and so the difference to the colour is.
    placed = F.grid_sample(image - colour, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    return F.avg_pool2d(placed, shrink) + colour


def _window(full: Camera, crop: Camera) -> tuple[Tensor, Tensor]:
    """x_crop = scale · x_full + offset, [..., 2] each."""
    scale = torch.stack((crop.K[..., 0, 0] / full.K[..., 0, 0], crop.K[..., 1, 1] / full.K[..., 1, 1]), -1)
    return scale, crop.K[..., :2, 2] - scale * full.K[..., :2, 2]
