"""``hvs.rasterize``: renders Gaussians along rays into a latent image, by whichever backend suits the device."""

import math
from numbers import Real

import torch
from torch import Tensor

from . import reference, tiled
from .backends import select
from .limits import KAPPA_SLACK, LARGEST, LARGEST_COMPONENT, SMALLEST_SCALE, SMALLEST_VARIANCE
from .precision import without_autocast
from .transforms import refuse_transforms

_AXES = {
    "means": ("N", "3"),
    "rotations": ("N", "3", "3"),
    "scales": ("N", "3"),
    "features": ("N", "C"),
    "background": ("C",),
    "rays": ("H", "W", "3"),
}


def rasterize(
    means: Tensor,
    rotations: Tensor,
    scales: Tensor,
    features: Tensor,
    background: Tensor,
    rays: Tensor,
    *,
    alpha: float = 0.025,
    beta: float = 2.0,
    eps: float = 1e-8,
    near: float = 1e-2,
    tolerance: float = 1e-6,
    backend: str = "auto",
) -> Tensor:
    """Render Gaussians with features into an image of features, differentiably.

    The weight of a Gaussian on a unit ray r is half of its line integral, times a falloff with the depth z of its
    strongest response: ``w = 1/(1 + z⁴) · ½ √(πα/q) · exp(-D/α)``, where ``q = |u|²``, ``z = u·m/q`` and
    ``D = |m × u|²/q`` with ``u = diag(1/s) ρᵀ r`` and ``m = diag(1/s) ρᵀ μ``. The background is one more token, β times
    as deep as the deepest response in the image. A pixel is the weighted mean of all features; nothing is composited,
    so the order of the Gaussians does not matter. Source: Rochette et al., "Human Pose Manipulation and Novel View
    Synthesis using Differentiable Rendering", FG 2021.

    ``...`` stands for any number of batch axes, which broadcast. Gradients flow to every tensor. Geometry is computed
    in float32 (float64 if the inputs are), whatever autocast says. For finite input the result is never NaN.

    Args:
        means: centres in metres in the camera's frame (x right, y down, z forward), [..., N, 3].
        rotations: matrices whose columns are the Gaussians' axes, [..., N, 3, 3].
        scales: standard deviations along those axes in metres, positive, [..., N, 3]; floored at 1e-4.
        features: features of the Gaussians, [..., N, C].
        background: feature of the background, [..., C].
        rays: unit viewing rays of the pixels, [..., H, W, 3]; their length is not checked. They are rendered in tiles
            of 16×16, so that a list of rays takes less time as a square image than as a single row.
        alpha: sharpness of a Gaussian's falloff; smaller is sharper.
        beta: depth of the background, as a multiple of that of the deepest response.
        eps: floor of the sum of weights.
        near: a Gaussian whose mean has a smaller depth than this, in metres, has weight 0 and does not count for the
            deepest response.
        tolerance: a pair of a pixel and a Gaussian whose weight is at most this fraction of the smallest possible sum
            of weights may be skipped; this changes the latent by at most ``N · tolerance · 2 max|f|``. The reference
            skips none.
        backend: "triton" (fused kernels for a GPU; float32), "torch" (tiled and culled, any device), "reference"
            (dense, by autograd, slow), or "auto": "triton" where it can run, else "torch".

    Returns:
        The latent image, [..., C, H, W], in the dtype of ``features``.

    Raises:
        ValueError: an argument has the wrong shape, dtype or device, or (checked on the CPU only) a scale is not
            positive; "triton" was asked for and cannot run; the call is transformed by torch.func or differentiated in
            forward mode.
    """
    tensors = dict(means=means, rotations=rotations, scales=scales, features=features, background=background, rays=rays)
    batch = _check_tensors(tensors)
    _check_numbers(alpha=alpha, beta=beta, eps=eps, near=near, tolerance=tolerance)
    backend = select(backend, means)
    size = rays.shape[-3:-1]
    if 0 in (*batch, *size, *background.shape[-1:]):
        empty = background[..., None, None].expand(*batch, background.shape[-1], *size).to(features.dtype)
        # Part of the graph, like any other image.
        return empty + 0 * sum(tensor.sum() for tensor in tensors.values())

    flat = [_flatten_batch(tensor, batch, len(_AXES[name])) for name, tensor in tensors.items()]
    if backend == "triton":
        from .fused import ops  # imports triton, which a machine without a GPU need not have

        latent, *_ = ops.rasterize(*flat, alpha, beta, eps, near, tolerance)
    else:
        with without_autocast(means.device):
            latent = _render(backend, *flat, alpha, beta, eps, near, tolerance)
    return latent if len(batch) == 1 else latent.reshape(*batch, *latent.shape[1:])


def _render(
    backend: str,
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
) -> Tensor:
    """Render one batch axis by a backend that takes clamped tensors and the background's weight."""
    renderer = dict(torch=tiled, reference=reference)[backend]
    wanted, dtype = features.dtype, torch.promote_types(means.dtype, torch.float32)
    means, rotations, scales, features, background, rays = (
        v.to(dtype) for v in (means, rotations, scales, features, background, rays)
    )
    means, scales = means.clamp(-LARGEST, LARGEST), scales.clamp(SMALLEST_SCALE, LARGEST)
    rotations = rotations.clamp(-LARGEST_COMPONENT, LARGEST_COMPONENT)
    visible = means[..., 2] >= near  # [B, N]
    gaussians = means, rotations, scales
    weight = _background_weight(*gaussians, rays, visible, alpha, beta, renderer)
    return renderer.render(*gaussians, features, background, weight, rays, visible, alpha, eps, tolerance).to(wanted)


def _background_weight(
    means: Tensor, rotations: Tensor, scales: Tensor, rays: Tensor, visible: Tensor, alpha: float, beta: float, renderer
) -> Tensor:
    """Weight of each image's background token, [B]; if no Gaussian is visible, the background is at depth zero."""
    batch, count = visible.shape
    width = rays.shape[2]
    variance = scales.detach().square().flatten(1)
    variance = torch.cat((variance, variance.new_full((batch, 1), math.inf)), 1).amin(1)
    variance = variance.clamp(SMALLEST_VARIANCE, None if count else SMALLEST_VARIANCE)
    kappa = 10 ** (variance.log10() - KAPPA_SLACK).ceil()
    depth = means.new_zeros(batch)
    if count:
        index = renderer.farthest(means.detach(), rotations.detach(), scales.detach(), rays.detach(), visible)
        pixel, gaussian = index // count, index % count
        image = torch.arange(batch, device=index.device)
        at = (image, gaussian)
        ray = rays[image, pixel // width, pixel % width].clamp(-LARGEST_COMPONENT, LARGEST_COMPONENT)
        z, _, _ = reference.response(*(v[at][:, None] for v in (means, rotations, scales)), ray[:, None])
        depth = torch.where(visible.any(1), z[:, 0, 0].clamp(-LARGEST, LARGEST), depth)
    return 1 / (1 + (beta * depth) ** 4) * 0.5 * (math.pi * alpha * kappa).sqrt()


def _flatten_batch(tensor: Tensor, batch: torch.Size, axes: int) -> Tensor:
    """Expand a tensor to the common batch, as one batch axis; returned as it is if it already has that axis."""
    own, shape = tensor.shape[: tensor.ndim - axes], tensor.shape[tensor.ndim - axes :]
    if own != batch:
        tensor = tensor.expand(*batch, *shape)
    return tensor if len(batch) == 1 else tensor.reshape(math.prod(batch), *shape)


def _check_tensors(tensors: dict[str, Tensor]) -> torch.Size:
    """The common batch axes, or a ValueError that names the argument at fault."""
    sizes: dict[str, tuple[str, int]] = {"3": ("", 3)}
    batches = []
    for name, tensor in tensors.items():
        axes = _AXES[name]
        if not isinstance(tensor, Tensor):
            raise ValueError(f"{name}: got {type(tensor).__name__}, wanted a tensor [..., {', '.join(axes)}]")
        if not torch.compiler.is_compiling():
            refuse_transforms(name, tensor)
        shape = tensor.shape
        if len(shape) < len(axes):
            raise ValueError(_wrong_shape(name, shape))
        for axis, size in zip(axes, shape[len(shape) - len(axes) :], strict=True):
            source, wanted = sizes.setdefault(axis, (name, size))
            if size != wanted:
                as_in = f" with {axis} = {wanted} as in {source}" if source else ""
                raise ValueError(_wrong_shape(name, shape) + as_in)
        batches.append(shape[: len(shape) - len(axes)])
    means = tensors["means"]
    wanted_dtype = torch.promote_types(means.dtype, torch.float32)
    for name, tensor in tensors.items():
        if not tensor.is_floating_point():
            raise ValueError(f"{name}: got dtype {tensor.dtype}, wanted a floating dtype")
        if torch.promote_types(tensor.dtype, torch.float32) != wanted_dtype:
            half = " (or a half type)" if wanted_dtype == torch.float32 else ""
            raise ValueError(f"{name}: got dtype {tensor.dtype}, wanted {wanted_dtype}{half}, to match means")
        if tensor.device != means.device:
            raise ValueError(f"{name}: is on {tensor.device}, wanted {means.device}, where means is")
    batch = batches[0]
    try:
        if any(own != batch for own in batches):
            batch = torch.broadcast_shapes(*batches)
    except RuntimeError:
        shapes = ", ".join(f"{name} {tuple(v.shape)}" for name, v in tensors.items())
        raise ValueError(f"batch axes do not broadcast: got {shapes}") from None
    scales = tensors["scales"]
    # On a GPU, reading the values would wait for the device; there the floor of the scales has to suffice.
    if scales.device.type == "cpu" and not torch.compiler.is_compiling() and (scales <= 0).any():
        raise ValueError(f"scales: got {scales.min().item():g} in shape {tuple(scales.shape)}, wanted all positive")
    return batch


def _wrong_shape(name: str, shape: torch.Size) -> str:
    return f"{name}: got shape {tuple(shape)}, wanted [..., {', '.join(_AXES[name])}]"


def _check_numbers(**numbers: float) -> None:
    for name, number in numbers.items():
        # A tensor would take part in some of the formulas with its gradient and in others without.
        if not isinstance(number, (Real, torch.SymFloat, torch.SymInt)):
            raise ValueError(f"{name}: got {type(number).__name__}, wanted a number, through which no gradient flows")
        least = name in ("near", "tolerance", "beta")
        # Comparisons only, because math.isfinite does not accept the symbolic numbers of torch.compile.
        if not (0 <= number < math.inf if least else 0 < number < math.inf):
            raise ValueError(f"{name}: got {number}, wanted a finite number {'≥' if least else '>'} 0")
