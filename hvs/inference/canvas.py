"""The crop around a person and the full frame: keypoints of the frame in the crop, and crops put back in the frame."""

import torch
from torch import Tensor
from torch.nn import functional as F

from hvs.geometry import Camera


def to_crop(keypoints: Tensor, full: Camera, crop: Camera) -> Tensor:
    """Pixels of the full frame [..., J, 2] as pixels of a crop, its camera from `crop` and `resize`."""
    scale, offset = _window(full, crop)
    return keypoints * scale.unsqueeze(-2) + offset.unsqueeze(-2)


def place(image: Tensor, crop: Camera, full: Camera, colour: Tensor) -> Tensor:
    """Crops put back in the full frame, so that what stands still in the world stands still in the picture.

    Args:
        image: the crops, [B, 3, h, w].
        crop: their cameras, from `Camera.crop` and `resize`, with the batch axis [B].
        full: the camera they were cropped from; its size is the size of the canvas.
        colour: colour of the rest of the canvas, [3].

    Returns:
        [B, 3, H, W]; interpolated where the crop is enlarged, averaged where it is reduced.
    """
    scale, offset = _window(full, crop)  # [B, 2] each
    # Outside the crop the sampler gives zero, so it samples the difference from the colour.
    colour = colour.to(image)[:, None, None]
    side = image.new_tensor((crop.width, crop.height))
    x, y = (torch.arange(n, device=image.device, dtype=image.dtype) for n in (full.width, full.height))
    pixels = torch.stack(torch.meshgrid(x, y, indexing="xy"), -1)  # [H, W, 2]
    placed = []
    for picture, by, moved, shrink in zip(image - colour, scale, offset, scale.clamp(min=1).tolist(), strict=True):
        # Where the canvas has fewer pixels than the crop, plain sampling would skip some of the crop's.
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
