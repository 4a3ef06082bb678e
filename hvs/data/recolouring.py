"""People in colours that they never wore, so that a few people teach how colours are handed on."""

import math
from typing import Any

import torch
from torch import Tensor

# Brightness is multiplied by two to a power between minus and plus this.
BRIGHTNESS = 0.7
# Direction of grey in RGB.
GREY = 1 / math.sqrt(3)


def recolour(batch: dict[str, Any], part: float, background: tuple[int, int, int], generator: torch.Generator) -> None:
    """Turn the hue and change the brightness of some pairs' people, the same in both images; what is behind stays.

    Args:
        batch: as :func:`hvs.data.collate` makes it, on any device; its images are replaced.
        part: of the pairs, in 0..1.
        background: the colour behind the people, 0..255.
        generator: of the colours, on the CPU.
    """
    image, mask = batch["image_a"], batch["mask_a"]
    count = len(image)
    chosen = torch.rand(count, generator=generator) < part
    angle = 2 * math.pi * torch.rand(count, generator=generator)
    brightness = torch.exp2(BRIGHTNESS * (2 * torch.rand(count, generator=generator) - 1))
    maps = torch.where(chosen[:, None, None], brightness[:, None, None] * _turn_hue(angle), torch.eye(3))
    maps = maps.to(image.device, non_blocking=True)
    behind = image.new_tensor(background)[:, None, None] / 255
    for side in ("a", "b"):
        image, mask = batch[f"image_{side}"], batch[f"mask_{side}"]
        coloured = torch.einsum("bij,bjhw->bihw", maps, image).clamp(0, 1)
        batch[f"image_{side}"] = torch.lerp(behind, coloured, mask)


def _turn_hue(angle: Tensor) -> Tensor:
    """Rotations about the axis of grey, [B, 3, 3], of angles [B]."""
    identity = torch.eye(3)
    along = torch.full((3, 3), GREY**2)
    turn = identity.roll(1, 0)
    cross = GREY * (turn - turn.mT)
    cos, sin = angle.cos()[:, None, None], angle.sin()[:, None, None]
    return along + cos * (identity - along) + sin * cross
