"""People in colours that they never wore, so that a few people teach how colours are handed on."""

import math
from typing import Any

import torch
from torch import Tensor

from .sampling import step_generator

# Brightness is multiplied by two to a power between minus and plus this.
BRIGHTNESS = 0.7
# Numbers of their own, not those that the items of a step are drawn by.
OWN_SEED = 7919


def draw_colours(count: int, part: float, seed: int, step: int) -> Tensor:
    """Maps of RGB for the pairs of a step, [count, 3, 3]: another hue and brightness for some, none for the others.

    Args:
        count: of pairs.
        part: of them that change, in 0..1.
        seed, step: that all depends on.
    """
    generator = step_generator(seed + OWN_SEED, step)
    chosen, angle, power = torch.rand(3, count, generator=generator)
    brightness = torch.exp2(BRIGHTNESS * (2 * power - 1))[:, None, None]
    return torch.where(chosen[:, None, None] < part, brightness * _turn_hue(2 * math.pi * angle), torch.eye(3))


def recolour(batch: dict[str, Any], maps: Tensor, background: tuple[int, int, int]) -> None:
    """Give each pair's person other colours, the same in both images; what is behind them stays.

    Args:
        batch: as :func:`hvs.data.collate` makes it, on any device; its images are replaced.
        maps: of the RGB of each pair, [B, 3, 3].
        background: the colour behind the people, 0..255.
    """
    maps = maps.to(batch["image_a"], non_blocking=True)
    behind = maps.new_tensor(background)[:, None, None] / 255
    for side in ("a", "b"):
        coloured = torch.einsum("bij,bjhw->bihw", maps, batch[f"image_{side}"]).clamp(0, 1)
        batch[f"image_{side}"] = torch.lerp(behind, coloured, batch[f"mask_{side}"])


def _turn_hue(angle: Tensor) -> Tensor:
    """Rotations of RGB about the axis of grey, [B, 3, 3], of angles [B]: Rodrigues' formula."""
    identity, along = torch.eye(3), torch.full((3, 3), 1 / 3)
    turn = identity.roll(1, 0)
    cross = (turn - turn.mT) / math.sqrt(3)
    cos, sin = angle.cos()[:, None, None], angle.sin()[:, None, None]
    return along + cos * (identity - along) + sin * cross
