"""Layers of the decoder and the discriminator: equalised, modulated, normalised by second moments, blurred.

Equalised learning rate: weights are drawn from N(0, 1) and multiplied by 1/√fan where they are used (Karras et al.
2018, "Progressive Growing of GANs"). Modulation, demodulation and leaky ReLU × √2 are those of StyleGAN2 (Karras et al.
2020).
"""

import math
from contextlib import nullcontext

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from ..kernels.precision import without_autocast

SLOPE = 0.2
GAIN = math.sqrt(2)
# Added to a filter's L2 norm before the demodulation divides by it.
DEMODULATION_EPS = 1e-8
# Smallest value whose square root the normalisations take, so that their gradients stay finite.
SMALLEST_SQUARE = 1e-16


def activate(x: Tensor) -> Tensor:
    """Leaky ReLU with slope 0.2 times √2, which keeps the second moment of a normal input."""
    return F.leaky_relu(x, SLOPE) * GAIN


def modulated_conv2d(
    x: Tensor,
    weight: Tensor,
    style: Tensor,
    bias: Tensor,
    *,
    stride: int = 1,
    transposed: bool = False,
    demodulate: bool = True,
    rescale: Tensor | None = None,
    gain: float = 1.0,
) -> Tensor:
    """Convolution whose weight is scaled per sample and input channel by a style, then normalised per filter.

    A separate weight for each sample, ``w'[b,o,i] = w[o,i]·s[b,i] / (‖w[o]·s[b]‖ + 1e-8)``, would take one convolution
    per sample. The style acts on input channels and the norm on output channels, so the same results from scaling the
    input, one convolution for the whole batch, and scaling the output.

    Args:
        x: [B, I, H, W].
        weight: [O, I, k, k], or [I, O, k, k] if transposed; k is odd and the padding is k // 2.
        style: [B, I].
        bias: [O].
        stride: 1 or 2; a transposed convolution of stride 2 doubles the size exactly.
        demodulate: divide by the norm of the modulated filter; without it, x may have fewer digits than the weight.
        rescale: [I], an extra scale of the input channels that the norm leaves out.
        gain: factor on the result, bias included.

    Returns:
        [B, O, H', W'] with H' = H / stride (rounded up), or H · stride if transposed.
    """
    scale = style if rescale is None else style * rescale
    x = x * scale[..., None, None].to(x.dtype if demodulate else weight.dtype)
    padding = weight.shape[-1] // 2
    if transposed:
        x = F.conv_transpose2d(x, weight, stride=stride, padding=padding, output_padding=stride - 1)
    else:
        x = F.conv2d(x, weight, stride=stride, padding=padding)
    bias = (bias[:, None, None] * gain).to(x.dtype)
    if not demodulate:
        return torch.add(bias, x, alpha=gain)
    factor = _demodulation(weight, style, transposed) * gain
    return torch.addcmul(bias, x, factor.to(x.dtype))


def _demodulation(weight: Tensor, style: Tensor, transposed: bool) -> Tensor:
    """One over the norm of every modulated filter, [B, O, 1, 1]."""
    # In half precision a sum of squares would lose the norm's digits, and in float32 it costs next to nothing.
    with without_autocast(weight.device):
        energy = weight.square().sum((2, 3))
        energy = energy if transposed else energy.mT  # [I, O]
        norm = (style.square().to(energy.dtype) @ energy).clamp_min(SMALLEST_SQUARE).sqrt()
        return (1 / (norm + DEMODULATION_EPS))[..., None, None]


class EqualisedLinear(nn.Module):
    """Linear layer with equalised learning rate: [..., in_features] -> [..., out_features]."""

    def __init__(self, in_features: int, out_features: int, bias: float = 0.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_features, in_features))
        self.bias = nn.Parameter(torch.full((out_features,), bias))
        self.scale = 1 / math.sqrt(in_features)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x * self.scale, self.weight, self.bias)


class EqualisedConv(nn.Module):
    """Convolution with equalised learning rate and padding k // 2: [B, I, H, W] -> [B, O, H / stride, W / stride]."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        self.scale = 1 / math.sqrt(in_channels * kernel**2)
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight * self.scale, self.bias, self.stride, padding=self.weight.shape[-1] // 2)


class Blur(nn.Module):
    """Binomial low-pass filter of odd size, padded with zeros to keep the size: [B, C, H, W] -> [B, C, H, W]."""

    def __init__(self, size: int) -> None:
        super().__init__()
        row = torch.tensor([math.comb(size - 1, i) for i in range(size)], dtype=torch.float32)
        self.register_buffer("kernel", torch.outer(row, row) / row.sum() ** 2, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        channels, size = x.shape[1], self.kernel.shape[-1]
        return F.conv2d(x, self.kernel.expand(channels, 1, size, size).to(x.dtype), padding=size // 2, groups=channels)


class SecondMoment(nn.Module):
    """Running mean square of every channel, by which the input of a layer is normalised.

    In training the statistic of [B, C, H, W] is updated before it is used; the first batch sets it. Until then it is 1,
    so a model that was never trained does not normalise. A batch that is not finite is left out of it. If several
    processes train together, it covers all their batches, which have the same size.
    """

    MOMENTUM = 0.995

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("mean_square", torch.ones(channels))
        self.register_buffer("initialised", torch.zeros((), dtype=torch.bool))

    def forward(self, x: Tensor) -> Tensor:
        """The factors [C] that bring the channels of x to second moment 1; updates the statistic in training."""
        if self.training:
            self._update(x)
        return self.mean_square.clamp_min(SMALLEST_SQUARE).rsqrt()

    @torch.no_grad()
    def _update(self, x: Tensor) -> None:
        # Half precision overflows in the square, so the sum is float32 at least.
        dtype = torch.promote_types(x.dtype, torch.float32)
        # Two means, because torch is slow at summing over axes that are not adjacent.
        batch = x.to(dtype).square().mean((2, 3)).mean(0).to(self.mean_square.dtype)
        if dist.is_available() and dist.is_initialized():
            # Not all backends can average.
            dist.all_reduce(batch)
            batch = batch / dist.get_world_size()
        # Selected on the device: a Python branch on the flags would wait for the GPU. A value that is not finite would
        # stay for ever.
        fine = batch.isfinite().all()
        moved = torch.where(self.initialised, batch.lerp(self.mean_square, self.MOMENTUM), batch)
        self.mean_square.copy_(torch.where(fine, moved, self.mean_square))
        self.initialised.logical_or_(fine)


class ModulatedConv(nn.Module):
    """One layer of the decoder: second-moment normalisation, modulated convolution, bias, leaky ReLU × √2.

    Args:
        in_channels, out_channels: of the images.
        style_features: length of the style vector.
        kernel: odd size of the filters.
        stride: 1; or 2, which blurs before a convolution and after a transposed one.
        transposed: scale the image up by the stride instead of down.
        activation: False leaves out the demodulation and the leaky ReLU, as the last layer does, which keeps the
            precision of its weights even in autocast.

    Attributes:
        recompute: keep only the input for the backward pass, which computes the rest again.
    """

    recompute = False

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        style_features: int,
        kernel: int = 3,
        stride: int = 1,
        transposed: bool = False,
        activation: bool = True,
    ) -> None:
        super().__init__()
        channels = (in_channels, out_channels) if transposed else (out_channels, in_channels)
        self.weight = nn.Parameter(torch.randn(*channels, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        self.style = EqualisedLinear(style_features, in_channels, bias=1.0)
        self.moment = SecondMoment(in_channels)
        self.blur = Blur(5) if stride > 1 else None
        # For a transposed layer's [in, out, k, k] weight this is what PyTorch calls fan_out: in · k² in both cases.
        self.scale = 1 / math.sqrt(in_channels * kernel**2)
        self.stride = stride
        self.transposed = transposed
        self.activation = activation

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        """Images x [B, in_channels, H, W] and style vectors [B, style_features] -> [B, out_channels, H', W']."""
        if self.blur and not self.transposed:
            x = self.blur(x)
        # Outside what may be computed twice: the statistic must move only once.
        rescale = self.moment(x)
        if self.recompute:
            return checkpoint(self._convolve, x, style, rescale, use_reentrant=False, preserve_rng_state=False)
        return self._convolve(x, style, rescale)

    def _convolve(self, x: Tensor, style: Tensor, rescale: Tensor) -> Tensor:
        if not self.activation:
            # In the last layer: bfloat16 has no more than 256 steps between black and white, and over the whole
            # background this rounding would decide the sign of the pixel loss's gradient.
            style = style.to(self.weight.dtype)
        with nullcontext() if self.activation else without_autocast(x.device):
            # The weight's scale goes into the style and the activation's gain into the demodulation: the result is the
            # same, with fewer passes over images and weights.
            x = modulated_conv2d(
                x,
                self.weight,
                self.style(style) * self.scale,
                self.bias,
                stride=self.stride,
                transposed=self.transposed,
                demodulate=self.activation,
                rescale=rescale,
                gain=GAIN if self.activation else 1.0,
            )
        if self.blur and self.transposed:
            x = self.blur(x)
        # In place: nothing needs the old values, and the backward pass then keeps one image less.
        return F.leaky_relu(x, SLOPE, inplace=True) if self.activation else x
