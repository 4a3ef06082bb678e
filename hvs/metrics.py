"""Scores of pictures and poses, one value per sample.

Pictures are [B, 3, H, W] and are clamped to 0..1; masks are [B, 1, H, W], 1 on the person. Poses are [B, J, 3] in
metres, errors in millimetres. A sample that cannot be scored (no foreground, no valid joint) scores NaN: average with
``torch.nanmean``. Pictures and poses of other shapes, and arrays, are a ValueError.
"""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from .kernels.precision import with_all_digits, without_autocast

# Metres to millimetres.
MILLIMETRES = 1000
# Half the width of the window of SSIM, 11 pixels.
SSIM_MARGIN = 5
# Smallest side of a foreground box that SSIM and LPIPS can look at, in pixels.
SMALLEST_BOX = 32


def psnr(predicted: Tensor, target: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB, [B]."""
    predicted, target = _pictures(predicted, target)
    square = (predicted - target).square()
    return -10 * square.mean((1, 2, 3)).log10()


def psnr_foreground(predicted: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB over the bounding box of the mask, [B]."""
    predicted, target = _pictures(predicted, target, mask)
    box = foreground_box(mask)
    square = (predicted - target).square().mean(1, keepdim=True)
    return -10 * ((square * box).sum((1, 2, 3)) / box.sum((1, 2, 3))).log10()


def ssim(predicted: Tensor, target: Tensor) -> Tensor:
    """Structural similarity (Wang et al. 2004): 11×11 Gaussian window, σ 1.5, where it fits into the picture, [B].

    Raises:
        ValueError: the pictures are smaller than the window.
    """
    from torchmetrics.functional.image import structural_similarity_index_measure

    predicted, target = _pictures(predicted, target)
    if min(predicted.shape[-2:]) <= 2 * SSIM_MARGIN:
        raise ValueError(f"predicted: got shape {tuple(predicted.shape)}, wanted at least 11×11 pixels")
    if not len(predicted):
        return predicted.new_zeros(0)
    # Variances, differences of two means of squares, are lost in half precision.
    with without_autocast(predicted.device):
        _, similarity = structural_similarity_index_measure(
            predicted, target, sigma=1.5, data_range=1.0, reduction="none", return_full_image=True
        )
    inside = slice(SSIM_MARGIN, -SSIM_MARGIN)
    return similarity[..., inside, inside].mean((1, 2, 3))


def lpips_alex(path: str | Path | None = None) -> nn.Module | None:
    """LPIPS on AlexNet (Zhang et al. 2018), a module: two pictures -> [B]; None and a warning without its weights.

    Pictures that are too small for AlexNet score NaN.

    Args:
        path: torchvision's ``alexnet-owt-7be5be79.pth``; looked for in torch's download cache if not given.

    Raises:
        ValueError: a path was given, and is not such a file.
    """
    from .losses import SMALLEST, load_lpips

    distance = load_lpips("alex", path)
    return _Lpips(distance, SMALLEST["alex"]) if distance else None


class _Lpips(nn.Module):
    def __init__(self, distance: nn.Module, smallest: int) -> None:
        super().__init__()
        self.distance, self.smallest = distance, smallest

    @torch.no_grad()
    def forward(self, predicted: Tensor, target: Tensor) -> Tensor:
        predicted, target = _pictures(predicted, target)
        if min(predicted.shape[-2:]) < self.smallest:
            return predicted.new_full(predicted.shape[:1], torch.nan)
        return self.distance(predicted, target, normalize=True).flatten()


def on_foreground(
    metric: Callable[[Tensor, Tensor], Tensor], predicted: Tensor, target: Tensor, mask: Tensor
) -> Tensor:
    """A score of whole pictures, taken on the bounding box of each sample's mask instead, [B].

    Sides of boxes below 32 pixels are widened to that, as far as the picture allows.
    """
    predicted, target = _pictures(predicted, target, mask)
    scores = []
    for sample in range(len(mask)):
        where = mask[sample, 0].nonzero()
        if len(where) == 0:
            scores.append(predicted.new_full((), torch.nan))
            continue
        rows, columns = (
            _widen(int(first), int(last) + 1, limit)
            for first, last, limit in zip(where.amin(0), where.amax(0), mask.shape[-2:], strict=True)
        )
        pair = (image[sample : sample + 1, :, rows, columns] for image in (predicted, target))
        scores.append(metric(*pair)[0])
    return torch.stack(scores) if scores else predicted.new_zeros(0)


def foreground_box(mask: Tensor) -> Tensor:
    """The bounding box of each mask [B, 1, H, W] as another mask, bool."""
    inside = []
    for axis, other in ((-2, -1), (-1, -2)):
        occupied = (mask != 0).any(other, keepdim=True)
        from_start, from_end = occupied.cumsum(axis) > 0, occupied.flip(axis).cumsum(axis).flip(axis) > 0
        inside.append(from_start & from_end)
    return inside[0] & inside[1]


def mpjpe(predicted: Tensor, target: Tensor, valid: Tensor | None = None) -> Tensor:
    """Mean per-joint position error in millimetres, [B]; over valid joints [B, J] only, if given (MPVJPE).

    Both poses are compared as they are given: make them relative to the root first if that is what you want.
    """
    predicted, target, valid = _poses(predicted, target, valid)
    # Unknown joints may hold anything, NaN included.
    difference = torch.where(valid[..., None], predicted - target, 0)
    return difference.norm(dim=-1).sum(-1) / valid.sum(-1) * MILLIMETRES


def n_mpjpe(predicted: Tensor, target: Tensor, valid: Tensor | None = None) -> Tensor:
    """:func:`mpjpe` after scaling the prediction to fit the target best in least squares, [B].

    Rhodin et al. 2018; both poses are relative to the root.
    """
    predicted, target, valid = _poses(predicted, target, valid)
    found, wanted = (torch.where(valid[..., None], pose, 0) for pose in (predicted, target))
    # A prediction that is one point has no scale; it stays as it is.
    square = found.square().sum((1, 2))
    scale = torch.where(square > 0, (found * wanted).sum((1, 2)) / square, 1)
    return mpjpe(predicted * scale[:, None, None], target, valid)


def p_mpjpe(predicted: Tensor, target: Tensor, valid: Tensor | None = None) -> Tensor:
    """:func:`mpjpe` after the similarity (rotation, scale, translation) of the prediction that fits best, [B].

    Procrustes analysis in least squares (Umeyama 1991), reflections excluded.
    """
    predicted, target, valid = _poses(predicted, target, valid)
    known = valid[..., None]
    found, wanted = (torch.where(known, pose, 0) for pose in (predicted, target))
    found_centre, wanted_centre = (pose.sum(1, keepdim=True) / known.sum(1, keepdim=True) for pose in (found, wanted))
    found, wanted = (found - found_centre) * known, (wanted - wanted_centre) * known
    # Samples without a valid joint are NaN here; the decomposition refuses those, and their score is NaN anyway.
    with without_autocast(predicted.device), with_all_digits():
        left, singular, right = torch.linalg.svd(torch.nan_to_num(found.mT @ wanted))
        sign = torch.ones_like(singular)
        sign[:, -1] = torch.det(left @ right).sign()
        rotation = left * sign[:, None] @ right
        square = found.square().sum((1, 2))
        scale = torch.where(square > 0, (singular * sign).sum(-1) / square, 1)
        aligned = scale[:, None, None] * (predicted - found_centre) @ rotation + wanted_centre
    return mpjpe(aligned, target, valid)


def _pictures(predicted: Tensor, target: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Both pictures, clamped to 0..1, in float32."""
    _check_tensors(predicted=predicted, target=target)
    for name, picture in (("predicted", predicted), ("target", target)):
        # Clamped to 0..1, bytes would be black and white.
        if not picture.is_floating_point():
            raise ValueError(f"{name}: got {picture.dtype}, wanted a floating dtype, in 0..1")
    if predicted.ndim != 4 or predicted.shape != target.shape:
        shapes = f"{tuple(predicted.shape)} and {tuple(target.shape)}"
        raise ValueError(f"predicted, target: got shapes {shapes}, wanted one for both, [B, 3, H, W]")
    wanted = (len(predicted), 1, *predicted.shape[-2:])
    if mask is not None and mask.shape != wanted:
        raise ValueError(f"mask: got shape {tuple(mask.shape)}, wanted {wanted}")
    return predicted.float().clamp(0, 1), target.float().clamp(0, 1)


def _poses(predicted: Tensor, target: Tensor, valid: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Both poses in float32 or better, and the joints to compare, [B, J] bool."""
    _check_tensors(predicted=predicted, target=target)
    if predicted.ndim != 3 or predicted.shape[2] != 3 or predicted.shape != target.shape:
        shapes = f"{tuple(predicted.shape)} and {tuple(target.shape)}"
        raise ValueError(f"predicted, target: got shapes {shapes}, wanted one for both, [B, J, 3]")
    if valid is None:
        valid = torch.ones_like(target[..., 0], dtype=torch.bool)
    if valid.shape != target.shape[:2]:
        raise ValueError(f"valid: got shape {tuple(valid.shape)}, wanted {tuple(target.shape[:2])}")
    dtype = torch.promote_types(torch.promote_types(predicted.dtype, target.dtype), torch.float32)
    return predicted.to(dtype), target.to(dtype), valid > 0


def _check_tensors(**values: object) -> None:
    for name, value in values.items():
        if not isinstance(value, Tensor):
            raise ValueError(f"{name}: got {type(value).__name__}, wanted a tensor")


def _widen(start: int, stop: int, limit: int) -> slice:
    side = min(max(stop - start, SMALLEST_BOX), limit)
    start = min(max((start + stop - side) // 2, 0), limit - side)
    return slice(start, start + side)
