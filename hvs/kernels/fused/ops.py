"""PyTorch operators of the Triton backend."""

import torch
from torch import Tensor

from . import launch


@torch.library.custom_op("hvs::rasterize_fused", mutates_args=())
def rasterize(
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
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The latent, and what its gradient needs (`launch.Forward`).

    Args:
        means [B, N, 3], rotations [B, N, 3, 3], scales [B, N, 3], features [B, N, C], background [B, C],
        rays [B, H, W, 3], each of float32 or a half type; everything is computed in float32.
    """
    return launch.forward(
        means, rotations, scales, features, background, rays, alpha, beta, eps, near, tolerance
    ).tensors()


@rasterize.register_fake
def _(means, rotations, scales, features, background, rays, alpha, beta, eps, near, tolerance):
    batch, count, channels = features.shape
    height, width = rays.shape[1:3]
    rows, columns = launch.tile_grid(height, width)
    tiles = rows * columns

    def new(*shape, dtype=torch.float32):
        return features.new_empty(shape, dtype=dtype)

    if launch.is_small(batch, count, height, width):
        starts, members, pairs, ends = (0,), batch * tiles * count, 0, (0,)
    else:
        members = pairs = torch.library.get_ctx().new_dynamic_size()
        starts, ends = (batch, tiles), (batch, count)
    return (
        new(batch, channels, height, width, dtype=features.dtype),
        new(batch, height, width),
        new(*starts, dtype=torch.int64),
        new(batch, tiles, dtype=torch.int32),
        new(members, dtype=torch.int32),
        new(pairs, dtype=torch.int32),
        new(*ends, dtype=torch.int64),
        new(batch, launch.survey.TILE_VALUES.value, tiles),
        new(batch, 4, launch.PATCHES.value * tiles),
        new(batch, launch.prepare.GAUSSIAN_VALUES.value, count),
        new(batch, launch.extents.IMAGE_VALUES.value),
        new(batch, dtype=torch.int64),
    )


@torch.library.custom_op("hvs::rasterize_fused_backward", mutates_args=())
def rasterize_backward(
    d_latent: Tensor,
    saved: list[Tensor],
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
    return launch.backward(d_latent, launch.Forward(*saved), *inputs, alpha, eps, with_rays)


@rasterize_backward.register_fake
def _(d_latent, saved, means, rotations, scales, features, background, rays, alpha, eps, with_rays):
    gradients = (v.new_empty(v.shape) for v in (means, rotations, scales, features, background))
    return *gradients, rays.new_empty(rays.shape if with_rays else (0,))


def _refuse(ctx, *_):
    raise RuntimeError("hvs.rasterize: second derivatives are not implemented")


rasterize_backward.register_autograd(_refuse)


def _save_for_backward(ctx, inputs, output):
    *tensors, ctx.alpha, _, ctx.eps, _, _ = inputs
    ctx.mark_non_differentiable(*output[1:])
    # PyTorch would fill gradients of all that with zeros, which nobody reads.
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*output, *tensors)


def _backward(ctx, d_latent, *_):
    if d_latent is None:
        return (None,) * len(ctx.needs_input_grad)
    with_rays = ctx.needs_input_grad[5]
    saved, inputs = ctx.saved_tensors[:-6], ctx.saved_tensors[-6:]
    *gradients, d_rays = rasterize_backward(d_latent, list(saved), *inputs, ctx.alpha, ctx.eps, with_rays)
    return *gradients, d_rays if with_rays else None, None, None, None, None, None


rasterize.register_autograd(_backward, setup_context=_save_for_backward)
