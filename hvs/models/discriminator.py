"""Discriminator: picture -> map of logits, real or generated."""

import math

from torch import Tensor, nn

from .layers import Blur, EqualisedConv, activate

BASE = 32
BLOCKS = 4
WIDEST = 3


class Discriminator(nn.Module):
    """Residual discriminator like StyleGAN2's (Karras et al. 2020) that judges every patch of the picture."""

    def __init__(self) -> None:
        super().__init__()
        widths = [BASE * 2 ** min(i, WIDEST) for i in range(BLOCKS + 1)]
        self.stem = EqualisedConv(3, BASE, kernel=1)
        self.blocks = nn.ModuleList(_Block(*pair) for pair in zip(widths, widths[1:], strict=False))
        self.head = EqualisedConv(widths[-1], 1, kernel=1)

    def forward(self, image: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Pictures [B, 3, H, W] in 0..1 -> logits [B, 1, H/16, W/16], and the activations for feature matching.

        The activations are the outputs of the stem and of the four blocks.
        """
        activations = [activate(self.stem(2 * image - 1))]
        for block in self.blocks:
            activations.append(block(activations[-1]))
        return self.head(activations[-1]), activations


class _Block(nn.Module):
    """Two layers and a shortcut, at half the size."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.blur = Blur(3)
        self.first = EqualisedConv(in_channels, in_channels, kernel=3)
        self.second = EqualisedConv(in_channels, out_channels, kernel=3, stride=2)
        self.shortcut = EqualisedConv(in_channels, out_channels, kernel=1, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        deep = activate(self.second(self.blur(activate(self.first(x)))))
        return (deep + activate(self.shortcut(self.blur(x)))) / math.sqrt(2)
