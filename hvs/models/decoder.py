"""Decoder: latent image and appearance -> picture, a U-Net modulated by the appearance."""

import math

import torch
from torch import Tensor, nn

from .layers import ModulatedConv

LEVELS = 4
WIDEST = 3
# The factor by which `start_quiet` scales weights.
QUIET = 0.1


class Decoder(nn.Module):
    """Style-modulated U-Net (Rochette et al. 2021) whose layers are those of StyleGAN2.

    Level i of the U-Net is ``base · 2^min(i, 3)`` channels wide; every doubling of the size beyond the latent's halves
    the width, three times at most.

    Args:
        features: channels C of the latent image.
        style_features: length of the flattened appearance, N · C.
        base: channels of the U-Net's first level.
        doublings: how often the picture is doubled in size beyond the latent.
    """

    def __init__(self, features: int, style_features: int, base: int, doublings: int = 0) -> None:
        super().__init__()

        def layer(inputs: int, outputs: int, **options: int) -> ModulatedConv:
            return ModulatedConv(inputs, outputs, style_features, **options)

        widths = [base * 2 ** min(i, WIDEST) for i in range(LEVELS + 1)]
        outer = [base // 2 ** min(i, WIDEST) for i in range(doublings + 1)]
        steps = list(zip(widths, widths[1:], strict=False))
        self.stem = _Chain(layer(features, features), layer(features, base))
        self.down = nn.ModuleList(_Chain(layer(fine, fine, stride=2), layer(fine, coarse)) for fine, coarse in steps)
        self.middle = nn.ModuleList(
            _Chain(layer(widths[-1], widths[-1]), layer(widths[-1], widths[-1])) for _ in range(2)
        )
        self.up = nn.ModuleList(layer(coarse, fine, stride=2, transposed=True) for fine, coarse in reversed(steps))
        self.merge = nn.ModuleList(layer(2 * fine, fine) for fine, _ in reversed(steps))
        self.outer = nn.ModuleList(
            _Chain(layer(coarse, fine, stride=2, transposed=True), layer(fine, fine))
            for coarse, fine in zip(outer, outer[1:], strict=False)
        )
        self.to_rgb = layer(outer[-1], 3, kernel=1, activation=False)

    def forward(self, latent: Tensor, appearance: Tensor) -> Tensor:
        """Picture [B, 3, H, W], near 0..1 but not clamped, with H = h · 2^doublings.

        Args:
            latent: [B, C, h, w]; h and w are multiples of 16.
            appearance: [B, N, C].
        """
        style = appearance.flatten(1)
        x = self.stem(latent, style)
        skips = []
        for block in self.down:
            skips.append(x)
            x = block(x, style)
        for block in self.middle:
            x = (x + block(x, style)) / math.sqrt(2)
        for up, merge in zip(self.up, self.merge, strict=True):
            x = merge(torch.cat((up(x, style), skips.pop()), 1), style)
        for block in self.outer:
            x = block(x, style)
        return 0.5 * (self.to_rgb(x, style) + 1)

    def save_memory(self) -> None:
        """Let the layers on the largest images, those of the latent's size and larger, keep only their input.

        These few layers hold most of what the backward pass needs, which then computes it again.
        """
        for part in (self.stem, self.up[-1], self.merge[-1], self.outer, self.to_rgb):
            for layer in part.modules():
                if isinstance(layer, ModulatedConv):
                    layer.recompute = True

    @torch.no_grad()
    def start_quiet(self) -> None:
        """Divide by ten the weights that make a new decoder's pictures noisy and its channels depend on the style.

        Drawn from N(0, 1), they paint noise over the whole picture and flip the sign of every sixth channel from one
        person to another: training would first have to remove the noise, and what it learns from one person would not
        help with the next.
        """
        self.to_rgb.weight.mul_(QUIET)
        for layer in self.modules():
            if isinstance(layer, ModulatedConv):
                layer.style.weight.mul_(QUIET)


class _Chain(nn.ModuleList):
    """Layers in sequence, all with the same style."""

    def __init__(self, *layers: ModulatedConv) -> None:
        super().__init__(layers)

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        for layer in self:
            x = layer(x, style)
        return x
