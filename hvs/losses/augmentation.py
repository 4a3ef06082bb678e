"""Adaptive discriminator augmentation: "Training GANs with limited data" (Karras et al. 2020).

Each transform is drawn for each picture, with a probability that adapts to the discriminator. Moves are by whole
pixels, so nothing is interpolated, and colours change by one affine map of RGB: all of it is twice differentiable.
"""

import math

import torch
from torch import Tensor, nn

# The probability moves this far at every step, to bring the mean sign of the logits on real pictures to TARGET.
STEP = 2.5e-3
TARGET = 0.5
MOMENTUM = 0.8
# Largest move, as a fraction of the picture's side.
MOVE = 0.125
# Standard deviations; those of contrast and saturation are of the logarithm, to base two, of a factor.
BRIGHTNESS, CONTRAST, SATURATION = 0.2, 0.5, 1.0
# Each component of the direction of grey in RGB.
GREY = 1 / math.sqrt(3)


class AdaptiveAugmentation(nn.Module):
    """Changes real and generated pictures alike, more often the better the discriminator tells them apart.

    The probability and what it follows are buffers: part of the state, on the device, never waited for.
    """

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("probability", torch.zeros(()))
        self.register_buffer("sign", torch.zeros(()))

    def forward(self, *batches: Tensor) -> tuple[Tensor, ...]:
        """Batches of pictures [B, 3, H, W] in 0..1, picture i of each with the same transforms.

        Raises:
            ValueError: the batches differ in shape, or there is none.
        """
        if len(shapes := {tuple(pictures.shape) for pictures in batches}) != 1:
            raise ValueError(f"batches: got shapes {sorted(shapes)}, wanted one for all")
        count, _, height, width = batches[0].shape
        # Products in half precision would change pictures that are to stay as they are.
        with torch.autocast(batches[0].device.type, enabled=False):
            places = self._moves(count, height, width)
            matrix, offset = self._colours(count)
            changed = []
            for pictures in batches:
                moved = pictures.flatten(2).gather(2, places.expand(-1, 3, -1))  # [B, 3, H·W]
                coloured = matrix.to(moved.dtype) @ (moved - 0.5) + offset.to(moved.dtype) + 0.5
                changed.append(coloured.unflatten(2, (height, width)))
        return tuple(changed)

    @torch.no_grad()
    def adapt(self, sign: Tensor, part: float = 1.0) -> None:
        """Let the probability follow the mean sign of the logits of real pictures; the sign is ignored if not finite.

        Args:
            sign: mean sign for these pictures (scalar).
            part: the fraction of a step's pictures that these are; all parts together move as far as the whole.
        """
        sign = torch.where(sign.isfinite(), sign.float(), self.sign)
        self.sign.lerp_(sign, 1 - MOMENTUM**part)
        self.probability.add_(part * STEP * (self.sign - TARGET).sign()).clamp_(0, 1)

    def _chosen(self, count: int) -> Tensor:
        """Which pictures a transform applies to, [B] bool."""
        return torch.rand(count, device=self.probability.device) < self.probability

    def _moves(self, count: int, height: int, width: int) -> Tensor:
        """Flips, quarter turns and translations: where each pixel comes from, [B, 1, H·W] flat indices."""
        device = self.probability.device
        y, x = torch.meshgrid(torch.arange(height, device=device), torch.arange(width, device=device), indexing="ij")
        y, x = y.expand(count, -1, -1), x.expand(count, -1, -1)
        for size, axis in ((height, 0), (width, 1)):
            furthest = MOVE * size
            move = torch.rand(count, device=device).mul(2 * furthest).sub(furthest).round().long()
            move = torch.where(self._chosen(count), move, 0)[:, None, None]
            # What comes in from outside repeats the edge.
            if axis == 0:
                y = (y + move).clamp(0, size - 1)
            else:
                x = (x + move).clamp(0, size - 1)
        turns = torch.where(self._chosen(count), torch.randint(1, 4, (count,), device=device), 0)[:, None, None]
        if height != width:
            # A quarter turn would change the shape.
            turns = 2 * (turns > 1)
        half, quarter = turns >= 2, turns % 2 == 1
        y, x = torch.where(half, height - 1 - y, y), torch.where(half, width - 1 - x, x)
        y, x = torch.where(quarter, x, y), torch.where(quarter, width - 1 - y, x)
        x = torch.where(self._chosen(count)[:, None, None], width - 1 - x, x)
        return (y * width + x).flatten(1)[:, None]

    def _colours(self, count: int) -> tuple[Tensor, Tensor]:
        """Brightness, contrast, luma flip, hue and saturation as one map of RGB about grey: [B, 3, 3] and [B, 3, 1]."""
        device = self.probability.device

        def drawn(value: Tensor, neutral: float) -> Tensor:
            return torch.where(self._chosen(count), value, neutral)[:, None, None]

        identity = torch.eye(3, device=device)
        axis = torch.full((3, 1), GREY, device=device)
        along = axis @ axis.T  # projects on grey
        brightness = drawn(BRIGHTNESS * torch.randn(count, device=device), 0.0)
        contrast = drawn(torch.exp2(CONTRAST * torch.randn(count, device=device)), 1.0)
        flip = drawn(torch.full((count,), -1.0, device=device), 1.0)
        angle = drawn(math.pi * (2 * torch.rand(count, device=device) - 1), 0.0)
        saturation = drawn(torch.exp2(SATURATION * torch.randn(count, device=device)), 1.0)
        # Rodrigues' rotation about the axis of grey.
        turn = identity.roll(1, 0)
        cross = GREY * (turn - turn.mT)
        hue = along + angle.cos() * (identity - along) + angle.sin() * cross
        saturate = along + saturation * (identity - along)
        mirror = identity + (flip - 1) * along
        # The luma flip reverses brightness, the rest leaves grey unchanged.
        return saturate @ hue @ mirror * contrast, (flip * brightness * contrast).expand(-1, 3, 1)
