"""The tiled torch backend, for any device: a Gaussian is evaluated only in the tiles that it may reach.

The gradient is hand-written, from the saved latent O and denominator S. With ``B = diag(1/s) ρᵀ``, ``u = B r``,
``m = B μ``, ``z = p/q``, ``e = m - z u`` (so ``D = |e|²``), ``g = dL/dO`` and ``h = w dL/dw``:

    dL/dw = (g·f - g·O) / S                  (without g·O where S sits on its floor)
    k = 4 z³ / (1 + z⁴)
    dL/dB = M B⁻ᵀ      M = -Σ h [2/α e eᵀ + k/q (e uᵀ + u eᵀ) + u uᵀ / q]
    dL/dμ = Bᵀ v       v = -Σ h [2/α e + k/q u]
    dL/dr = Bᵀ h [(2z/α - k/q) e + (k z - 1)/q u]

The sums run over the pixels, so a Gaussian's geometry gradient takes nine moments per tile. These are moments of
whitened vectors: moments of the vectors themselves, multiplied by B afterwards, would lose digits to cancellation where
a Gaussian is flat.
"""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from . import culling
from .limits import LARGEST, LARGEST_EXPONENT, SMALLEST_VOLUME
from .precision import with_all_digits, without_autocast
from .pyramid import TILE, build_pyramid, gather_tiles, pad_to_tiles, scatter_tiles
from .tiles import Block, Scene


def render(*inputs) -> Tensor:
    """As :func:`hvs.kernels.reference.render`, without the pairs that the tolerance allows to be skipped."""
    latent, *_ = blend(*inputs)
    return latent


@torch.library.custom_op("hvs::farthest_tiled", mutates_args=())
def farthest(means: Tensor, rotations: Tensor, scales: Tensor, rays: Tensor, visible: Tensor) -> Tensor:
    """As :func:`hvs.kernels.reference.farthest`."""
    height, width = rays.shape[1:3]
    rays = pad_to_tiles(rays.movedim(-1, 1)).contiguous()
    whiten = culling.whitening(rotations, scales)
    return culling.farthest(means, whiten, visible, rays, build_pyramid(rays), height, width)


@farthest.register_fake
def _(means, rotations, scales, rays, visible):
    return visible.new_empty(visible.shape[:1], dtype=torch.long)


@torch.library.custom_op("hvs::blend_tiled", mutates_args=())
@with_all_digits()
def blend(
    means: Tensor,
    rotations: Tensor,
    scales: Tensor,
    features: Tensor,
    background: Tensor,
    background_weight: Tensor,
    rays: Tensor,
    visible: Tensor,
    alpha: float,
    eps: float,
    tolerance: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The normalised weighted sum of features along each ray, and what its gradient needs.

    Args:
        means [B, N, 3], rotations [B, N, 3, 3], scales [B, N, 3], features [B, N, C], background [B, C],
        background_weight [B], rays [B, H, W, 3], all of one dtype, visible [B, N] (bool).

    Returns:
        latent [B, C, H, W], denominator without its floor [B, H, W], and the pairs of a tile and a Gaussian that were
        not culled, two tensors [P] as in :class:`hvs.kernels.tiles.Scene`.
    """
    floor = background_weight.clamp(min=eps)
    padded = pad_to_tiles(rays.movedim(-1, 1)).contiguous()
    whiten = culling.whitening(rotations, scales)
    extent = culling.gaussian_extent(means, whiten, visible, tolerance * floor, alpha)
    scene = Scene(padded, whiten, *culling.tile_pairs(build_pyramid(padded), extent))
    m = (whiten * means[..., None, :]).sum(-1)
    size = scene.rays.shape[2:]
    latent = (background * (background_weight / floor)[:, None])[..., None, None].expand(-1, -1, *size).contiguous()
    total = background_weight[:, None, None, None].expand(-1, 1, *size).contiguous()
    for chunk in scene.chunks():
        r = scene.rays_of(chunk)
        S = background_weight[chunk.images, None]  # [A, 1], then [A, TILE²]
        O = background[chunk.images, :, None]  # [A, C, 1], then [A, C, TILE²]
        for block in chunk.blocks:
            w = _respond(scene, m, block, r, alpha).w
            more = S + w.new_zeros(r.shape[1:]).index_add_(0, block.slots, w)
            # A running mean: every factor is at most one, so nothing overflows, whatever the features.
            least = more.clamp(min=torch.finfo(w.dtype).tiny)
            f = block.pad(features.flatten(0, 1)[block.gaussians], len(r[0]))
            w = block.pad(w / least[block.slots], len(r[0]))
            O = torch.baddbmm(O * (S / least)[:, None], f.mT, w)
            S = more
        O = O * (S / S.clamp(min=eps))[:, None]
        scatter_tiles(latent, chunk.tiles, O)
        scatter_tiles(total, chunk.tiles, S)
    height, width = rays.shape[1:3]
    latent, total = latent[..., :height, :width].contiguous(), total[:, 0, :height, :width].contiguous()
    return latent, total, scene.tiles, scene.gaussians


@blend.register_fake
def _(means, rotations, scales, features, background, background_weight, rays, visible, alpha, eps, tolerance):
    batch, height, width, _ = rays.shape
    pairs = torch.library.get_ctx().new_dynamic_size()
    lists = (visible.new_empty(pairs, dtype=torch.long) for _ in range(2))
    return features.new_empty(batch, features.shape[-1], height, width), rays.new_empty(batch, height, width), *lists


@torch.library.custom_op("hvs::blend_tiled_backward", mutates_args=())
@with_all_digits()
def blend_backward(
    gradient: Tensor,
    latent: Tensor,
    total: Tensor,
    tiles: Tensor,
    gaussians: Tensor,
    means: Tensor,
    rotations: Tensor,
    scales: Tensor,
    features: Tensor,
    background: Tensor,
    background_weight: Tensor,
    rays: Tensor,
    alpha: float,
    eps: float,
    with_rays: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of means, rotations, scales, features, background, background_weight and rays.

    The gradient of rays is empty unless ``with_rays``.
    """
    scene = Scene(
        pad_to_tiles(rays.movedim(-1, 1)).contiguous(), culling.whitening(rotations, scales), tiles, gaussians
    )
    m = (scene.whiten * means[..., None, :]).sum(-1)
    d_features = torch.zeros_like(features).flatten(0, 1)
    moments = torch.zeros_like(rotations).flatten(0, 1)
    d_means = torch.zeros_like(means).flatten(0, 1)
    d_rays = torch.zeros_like(scene.rays) if with_rays else rays.new_empty(0)

    # dO/df_bg = w_bg/S in every pixel. dO/dw_bg = (f_bg - O)/S vanishes where only the background is visible, unless S
    # sits on its floor there.
    by_pixel = torch.bmm(gradient.flatten(2), total.clamp(min=eps).reciprocal().flatten(1)[..., None])[..., 0]
    d_background = background_weight[:, None] * by_pixel
    d_weight = torch.where(background_weight < eps, (background * by_pixel).sum(-1), 0)

    padded = [_pad_with_zeros(v) for v in (gradient, latent, total[:, None])]
    for chunk in scene.chunks():
        r = scene.rays_of(chunk)
        g, O, S = (gather_tiles(v, chunk.tiles) for v in padded)  # [A, C, TILE²] twice, [A, 1, TILE²]
        g = g / S.clamp(min=eps)
        behind = background[chunk.images, :, None]  # [A, C, 1]
        # Exactly zero where only the background is visible.
        beyond = (g * (O - behind)).sum(1)  # [A, TILE²]
        gO = torch.where(eps <= S[:, 0], beyond + torch.bmm(behind.mT, g)[:, 0], 0)
        floored = background_weight[chunk.images, None] < eps
        d_weight.index_add_(0, chunk.images, -torch.where(floored, gO, beyond).sum(-1))
        d_r = torch.zeros_like(r)
        for block in chunk.blocks:
            response = _respond(scene, m, block, r, alpha)
            w = block.pad(response.w, len(g))
            f = block.pad(features.flatten(0, 1)[block.gaussians], len(g))
            d_features.index_add_(0, block.gaussians, block.unpad(torch.bmm(w, g.mT)))
            h = (block.unpad(torch.bmm(f, g)) - gO[block.slots]) * response.w
            B = scene.whiten.flatten(0, 1)[block.gaussians]
            response = replace(response, e=_across(response))
            moment, v = _geometry_moments(response, h, alpha)
            moments.index_add_(0, block.gaussians, moment)
            d_means.index_add_(0, block.gaussians, (B * v[..., None]).sum(-2))
            if with_rays:
                d_r.index_add_(1, block.slots, _ray_gradient(response, h, B, alpha))
        if with_rays:
            scatter_tiles(d_rays, chunk.tiles, d_r.movedim(0, 1))

    moments = moments.view_as(rotations)
    along = _inverse_transposed(rotations) * scales[..., None, :]
    height, width = rays.shape[1:3]
    return (
        d_means.view_as(means),
        (along[..., None] * moments[..., None, :, :]).sum(-2) / scales[..., None, :],
        -moments.diagonal(dim1=-2, dim2=-1) / scales,
        d_features.view_as(features),
        d_background,
        d_weight,
        d_rays[..., :height, :width].movedim(1, -1).contiguous() if with_rays else d_rays,
    )


@blend_backward.register_fake
def _(gradient, latent, total, tiles, gaussians, *inputs):
    *tensors, rays, _, _, with_rays = inputs
    gradients = (torch.empty_like(v, memory_format=torch.contiguous_format) for v in tensors)
    return *gradients, rays.new_empty(rays.shape if with_rays else (0,))


def _refuse(ctx, *_):
    raise RuntimeError("hvs.rasterize: second derivatives are not implemented")


blend_backward.register_autograd(_refuse)


def _save_for_backward(ctx, inputs, output):
    *tensors, _, ctx.alpha, ctx.eps, _ = inputs
    ctx.mark_non_differentiable(*output[1:])
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*output, *tensors)


def _backward(ctx, gradient, *_):
    if gradient is None:
        return (None,) * len(ctx.needs_input_grad)
    with_rays = ctx.needs_input_grad[6]
    with without_autocast(gradient.device):
        gradients = blend_backward(gradient, *ctx.saved_tensors, ctx.alpha, ctx.eps, with_rays)
    return *gradients[:6], gradients[6] if with_rays else None, None, None, None, None


blend.register_autograd(_backward, setup_context=_save_for_backward)


@dataclass(frozen=True)
class _Response:
    """The response in every pixel, for P pairs of a tile and a Gaussian, [P, TILE²] each."""

    u: tuple[Tensor, Tensor, Tensor]
    e: tuple[Tensor, Tensor, Tensor]
    q: Tensor
    z: Tensor
    falloff: Tensor
    w: Tensor


def _respond(scene: Scene, m: Tensor, block: Block, rays: Tensor, alpha: float) -> _Response:
    """The responses of a block, from rays [3, A, TILE²] of the chunk's tiles and m [B, N, 3]."""
    B = scene.whiten.flatten(0, 1)[block.gaussians]
    m = m.flatten(0, 1)[block.gaussians]
    r = rays.index_select(1, block.slots)
    x, y, z = r
    u = tuple((B[:, i, 0, None] * x).addcmul_(B[:, i, 1, None], y).addcmul_(B[:, i, 2, None], z) for i in range(3))
    q = (u[0] * u[0]).addcmul_(u[1], u[1]).addcmul_(u[2], u[2]).clamp_(min=torch.finfo(x.dtype).tiny)
    depth = (m[:, 0, None] * u[0]).addcmul_(m[:, 1, None], u[1]).addcmul_(m[:, 2, None], u[2]).div_(q)
    depth.clamp_(-LARGEST, LARGEST)
    e = tuple(torch.addcmul(m[:, i, None], depth, u[i], value=-1) for i in range(3))
    falloff = depth.square().square_().add_(1).reciprocal_()
    w = (e[0] * e[0]).addcmul_(e[1], e[1]).addcmul_(e[2], e[2])
    w.mul_(-1 / alpha).clamp_(min=-LARGEST_EXPONENT).exp_().mul_(q.rsqrt()).mul_(falloff).mul_(
        0.5 * math.sqrt(math.pi * alpha)
    )
    return _Response(u, e, q, depth, falloff, w)


def _across(response: _Response) -> tuple[Tensor, Tensor, Tensor]:
    """e without the component along u that rounding leaves, which would dominate the gradients of a flat Gaussian."""
    e, u = response.e, response.u
    along = (e[0] * u[0]).addcmul_(e[1], u[1]).addcmul_(e[2], u[2]).div_(response.q)
    return tuple(torch.addcmul(e[i], along, u[i], value=-1) for i in range(3))


def _geometry_moments(response: _Response, h: Tensor, alpha: float) -> tuple[Tensor, Tensor]:
    """The moments M [P, 3, 3] and v [P, 3] of the module's docstring."""
    e, u, z = response.e, response.u, response.z
    by_q = h / response.q
    k_by_q = (z * z * z).mul_(response.falloff).mul_(by_q).mul_(4)
    by_alpha = h * (2 / alpha)
    of_e = [(by_alpha * e[i]).addcmul_(k_by_q, u[i]) for i in range(3)]
    of_u = [(k_by_q * e[i]).addcmul_(by_q, u[i]) for i in range(3)]
    moment = h.new_empty(len(h), 3, 3)
    for i in range(3):
        for j in range(i, 3):
            moment[:, i, j] = moment[:, j, i] = -(of_e[i] * e[j]).addcmul_(of_u[i], u[j]).sum(-1)
    return moment, -torch.stack([v.sum(-1) for v in of_e], -1)


def _inverse_transposed(rotations: Tensor) -> Tensor:
    """ρ⁻ᵀ, [..., 3, 3], zero where there is no inverse."""
    a, b, c = rotations.unbind(-1)
    crossed = torch.stack([torch.linalg.cross(*pair) for pair in ((b, c), (c, a), (a, b))], -1)
    volume = (a * crossed[..., 0]).sum(-1)
    most = rotations.norm(dim=-2).prod(-1)
    return torch.where(volume.abs() > most * SMALLEST_VOLUME, 1 / volume, 0)[..., None, None] * crossed


def _ray_gradient(response: _Response, h: Tensor, B: Tensor, alpha: float) -> Tensor:
    """dL/dr of every pair, [3, P, TILE²]."""
    z = response.z
    k = 4 * z * z * z * response.falloff
    of_e = h * (2 / alpha * z - k / response.q)
    of_u = h * (k * z - 1) / response.q
    d_u = [of_e * e + of_u * u for e, u in zip(response.e, response.u, strict=True)]
    return torch.stack([sum(B[:, i, axis, None] * d_u[i] for i in range(3)) for axis in range(3)])


def _pad_with_zeros(image: Tensor) -> Tensor:
    """[B, ..., H, W] padded to multiples of TILE. A padded pixel has zero gradient, and so passes none on."""
    down, right = -image.shape[-2] % TILE, -image.shape[-1] % TILE
    return F.pad(image, (0, right, 0, down)) if down or right else image
