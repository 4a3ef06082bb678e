"""PyTorch operators of the Triton backend.

They are what `torch.library.custom_op` would make of the same functions, without its wrappers around every call, which
take the host a good while (`python -m bench.host`; docs/performance.md).
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..transforms import refuse_batches
from . import launch, programs
from .results import Forward

_library = torch.library.Library("hvs", "FRAGMENT")


def _define(name: str, function: Callable, fake: Callable, gradient: type[torch.autograd.Function]):
    """Register a function of tensors and numbers as operator ``hvs::name``; its annotations give the schema.

    Args:
        function: the implementation, for any device.
        fake: makes empty outputs of the same shapes, for the compiler.
        gradient: applied where gradients may be needed; calls the operator itself.
    """

    def differentiable(*inputs):
        if torch.is_grad_enabled():
            return gradient.apply(*inputs)
        with torch._C._AutoDispatchBelowAutograd():
            return operator(*inputs)

    schema = torch.library.infer_schema(function, mutates_args=())
    _library.define(name + schema, tags=torch.Tag.pt2_compliant_tag)
    operator = getattr(torch.ops.hvs, name).default
    _library.impl(name, function, "CompositeExplicitAutograd")
    _library.impl(name, differentiable, "Autograd")
    torch.library.register_fake(operator, fake, lib=_library)
    return operator


def _rasterize(
    means: Tensor,
    rotations: Tensor,
    scales: Tensor,
    features: Tensor,
    background: Tensor,
    rays: Tensor,
    alpha: float,
    beta: float,
    eps: float,
    near: float,
    tolerance: float,
) -> tuple[(Tensor,) * 14]:
    """The latent and what its gradient needs, as in `results.Forward`.

    Args:
        means [B, N, 3], rotations [B, N, 3, 3], scales [B, N, 3], features [B, N, C], background [B, C],
        rays [B, H, W, 3], each in float32 or a half type; everything is computed in float32.
    """
    inputs = means, rotations, scales, features, background, rays
    return launch.forward(*inputs, alpha, beta, eps, near, tolerance).tensors()


def _rasterize_fake(means, rotations, scales, features, background, rays, alpha, beta, eps, near, tolerance):
    batch, count, channels = features.shape
    height, width = rays.shape[1:3]
    rows, columns = programs.tile_grid(height, width)
    tiles = rows * columns

    def new(*shape, dtype=torch.float32):
        return features.new_empty(shape, dtype=dtype)

    if programs.is_small(batch, count, height, width):
        blocks, _, together = programs.gaussian_values(count)
        starts, listed, pairs, pieces, each = (0,), (batch, tiles, blocks * together), 0, 0, (0,)
    else:
        pairs = torch.library.get_ctx().new_dynamic_size()
        pieces = torch.library.get_ctx().new_dynamic_size()
        starts, listed, each = (batch, tiles), (0,), (batch, count)
    return (
        new(batch, channels, height, width, dtype=features.dtype),
        new(batch, height, width),
        new(*starts, dtype=torch.int64),
        new(batch, tiles, dtype=torch.int32),
        new(pairs, dtype=torch.int32),
        new(*listed, dtype=torch.int8),
        new(pairs, dtype=torch.int32),
        new(2, *each, dtype=torch.int64),
        new(pieces, dtype=torch.int32),
        new(pieces, dtype=torch.int32),
        new(batch, tiles, 4, launch.PATCHES.value),
        new(batch, *programs.gaussian_values(count)),
        new(batch, launch.background_weight.IMAGE_VALUES.value),
        new(batch, dtype=torch.int64),
    )


class _Rasterize(torch.autograd.Function):
    @staticmethod
    def forward(ctx, *inputs):
        with torch._C._AutoDispatchBelowAutograd():
            outputs = rasterize(*inputs)
        *tensors, ctx.alpha, _, ctx.eps, _, _ = inputs
        ctx.mark_non_differentiable(*outputs[1:])
        # Otherwise PyTorch would fill gradients of all these outputs with zeros, which nobody reads.
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*outputs, *tensors)
        return outputs

    @staticmethod
    def backward(ctx, d_latent, *_):
        if d_latent is None:
            return (None,) * len(ctx.needs_input_grad)
        refuse_batches(d_latent)
        with_rays = ctx.needs_input_grad[5]
        # Once: activation checkpointing hands them out a single time.
        tensors = ctx.saved_tensors
        saved, inputs = tensors[:-6], tensors[-6:]
        *gradients, d_rays = rasterize_backward(d_latent, saved, *inputs, ctx.alpha, ctx.eps, with_rays)
        return *gradients, d_rays if with_rays else None, None, None, None, None, None


rasterize = _define("rasterize_fused", _rasterize, _rasterize_fake, _Rasterize)


def _rasterize_backward(
    d_latent: Tensor,
    saved: Sequence[Tensor],
    means: Tensor,
    rotations: Tensor,
    scales: Tensor,
    features: Tensor,
    background: Tensor,
    rays: Tensor,
    alpha: float,
    eps: float,
    with_rays: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of means, rotations, scales, features, background and rays; the last is empty unless ``with_rays``."""
    inputs = means, rotations, scales, features, background, rays
    return launch.backward(d_latent, Forward(*saved), *inputs, alpha, eps, with_rays)


def _rasterize_backward_fake(
    d_latent, saved, means, rotations, scales, features, background, rays, alpha, eps, with_rays
):
    gradients = (v.new_empty(v.shape) for v in (means, rotations, scales, features, background))
    return *gradients, rays.new_empty(rays.shape if with_rays else (0,))


class _RasterizeBackward(torch.autograd.Function):
    @staticmethod
    def forward(ctx, *inputs):
        with torch._C._AutoDispatchBelowAutograd():
            return rasterize_backward(*inputs)

    @staticmethod
    def backward(ctx, *_):
        raise RuntimeError("hvs.rasterize: second derivatives are not implemented")


rasterize_backward = _define(
    "rasterize_fused_backward", _rasterize_backward, _rasterize_backward_fake, _RasterizeBackward
)
