"""The same model computed as the original computes it: the same numbers from the same weights, at its cost."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from unittest.mock import patch

from torch import Tensor
from torch.nn import functional as F

from hvs.losses import PerceptualLoss
from hvs.losses.perceptual import pyramid
from hvs.models import layers, synthesis

from .dense import dense_rasterize


@contextmanager
def as_the_original_is_built() -> Iterator[None]:
    """Within this context, every model and loss computes as the original does.

    The rasteriser is dense, in textbook form; every sample has its own convolution weights; a perceptual loss computes
    the target's features twice, with a graph for a backward pass that never comes.
    """
    with ExitStack() as stack:
        stack.enter_context(patch.object(synthesis, "rasterize", dense_rasterize))
        stack.enter_context(patch.object(layers, "modulated_conv2d", per_sample_conv2d))
        stack.enter_context(patch.object(PerceptualLoss, "forward", compare_with_gradients))
        yield


def per_sample_conv2d(
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
    """As :func:`hvs.models.layers.modulated_conv2d`, by one convolution with a group per sample, as in StyleGAN2."""
    if rescale is not None:
        x = x * rescale[:, None, None]
    batch, padding = len(x), weight.shape[-1] // 2
    weights = weight * (style[:, :, None, None, None] if transposed else style[:, None, :, None, None])
    if demodulate:
        axes = (1, 3, 4) if transposed else (2, 3, 4)
        weights = weights / (weights.square().sum(axes, keepdim=True).sqrt() + layers.DEMODULATION_EPS)
    options = dict(stride=stride, padding=padding, groups=batch)
    if transposed:
        options["output_padding"] = stride - 1
    convolve = F.conv_transpose2d if transposed else F.conv2d
    y = convolve(x.flatten(0, 1)[None], weights.flatten(0, 1), **options)
    return (y.unflatten(1, (batch, -1))[0] + bias[:, None, None]) * gain


def compare_with_gradients(self: PerceptualLoss, predicted: Tensor, target: Tensor) -> Tensor:
    """As :meth:`hvs.losses.PerceptualLoss.forward`."""
    total = predicted.new_zeros(())
    target = target.detach().requires_grad_()
    for image, wanted in zip(pyramid(predicted), pyramid(target), strict=True):
        found, *twice = (self._features(picture) for picture in (image, wanted, wanted))
        total = total + self._compare(found, [(one + other).detach() / 2 for one, other in zip(*twice, strict=True)])
    return total
