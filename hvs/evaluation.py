"""Scores of a model on pairs of views, next to the baselines that any model should beat."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from PIL.Image import Image
from torch import Tensor, nn

from . import metrics
from .models import HumanViewSynthesis
from .pictures import draw_skeleton, error_to_rgb, latent_to_rgb, mosaic
from .runtime import UserError, autocast

# In dB; an error of one grey level everywhere gives 48 dB.
HIGHEST_PSNR = 60.0


def to_device(batch: dict[str, Any], device: torch.device) -> dict[str, Any]:
    """A collated batch with its tensors and cameras on a device; copies from pinned memory do not wait for it."""
    # On a CPU nothing would wait for the copies before they are read.
    how = dict(non_blocking=device.type != "cpu")
    return {key: value.to(device, **how) if hasattr(value, "to") else value for key, value in batch.items()}


def load_lpips(device: torch.device) -> nn.Module | None:
    """:func:`hvs.metrics.lpips_alex` on a device, with the weights in torch's download cache if they are there.

    Raises:
        UserError: they are broken.
    """
    try:
        found = metrics.lpips_alex()
    except ValueError as error:
        raise UserError(str(error)) from error
    return found and found.to(device)


def synthesise(model: HumanViewSynthesis, batch: dict[str, Any], refine_steps: int = 0) -> dict[str, Tensor]:
    """Novel views of a batch of pairs: pose and appearance from image A, seen by camera B.

    As in the paper, the position of the root joint is known and the pose around it is lifted. With ``refine_steps`` the
    appearance is refined for each pair, see :meth:`HumanViewSynthesis.refine`.

    Returns:
        lifted [B, J, 3], relative [B, J, 3] (the true pose, both relative to the root in camera A's frame, metres),
        appearance [B, N, C], latent [B, C, h, w], image [B, 3, H, W].
    """
    camera_a, camera_b = batch["camera_a"], batch["camera_b"]
    lifted, relative, root = lift_poses(model, batch)
    appearance = model.encode(batch["image_a"])
    if refine_steps:
        appearance = model.refine(appearance, batch["image_a"], root + lifted, camera_a, refine_steps)
    points = camera_b.to_camera(camera_a.to_world(root + lifted))
    latent, image = model.render(points, appearance, camera_b)
    return dict(lifted=lifted, relative=relative, appearance=appearance, latent=latent, image=image)


def lift_poses(model: HumanViewSynthesis, batch: dict[str, Any]) -> tuple[Tensor, Tensor, Tensor]:
    """Lifted and true poses of image A, relative to the root, [B, J, 3] each, and the root, [B, 1, 3].

    All are in camera A's frame, in metres.
    """
    true = batch["camera_a"].to_camera(batch["points"])
    root = true[:, model.skeleton.root, None]
    lifted = model.lift(batch["keypoints_a"], batch["confidence_a"], batch["resolution_a"])
    return lifted, true - root, root


def evaluate(
    model: HumanViewSynthesis, batches: Iterable[dict[str, Any]], lpips: nn.Module | None = None
) -> dict[str, float]:
    """Mean scores over all pairs of the batches; arguments and names are those of :func:`score`."""
    return average([score(model, batches, lpips)])


def average(parts: Iterable[dict[str, Tensor]]) -> dict[str, float]:
    """Mean scores over all pairs of some parts, each as :func:`score` returns it; a part may be empty."""
    found: dict[str, list[Tensor]] = {}
    for scores in parts:
        for name, values in scores.items():
            found.setdefault(name, []).append(values)
    return {name: torch.cat(values).nanmean().item() for name, values in found.items()}


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """A model in evaluation mode; afterwards each of its parts is in the mode that it was in."""
    training = [part for part in model.modules() if part.training]
    model.eval()
    try:
        yield
    finally:
        for part in training:
            part.training = True


@torch.no_grad()
def score(
    model: HumanViewSynthesis,
    batches: Iterable[dict[str, Any]],
    lpips: nn.Module | None = None,
    precision: torch.dtype = torch.float32,
    refine_steps: int = 0,
    pictures: bool = True,
) -> dict[str, Tensor]:
    """Scores of every pair of the batches, [P] each, on the CPU; see :mod:`hvs.metrics` for each.

    Scores whose names end in ``_background_baseline`` and ``_copy_baseline`` are those of the constant background and
    of the source image, in place of the model's picture.

    Args:
        model: on any device; the mode of each of its parts is restored afterwards.
        batches: as :func:`hvs.data.collate` makes them, with images A and B of one size.
        lpips: from :func:`hvs.metrics.lpips_alex`; without it there is no "lpips" in the result.
        precision: of the networks.
        refine_steps: as in :func:`synthesise`.
        pictures: whether to draw and score pictures, too; poses alone need the lifter alone.
    """
    device = next(model.parameters()).device
    scores: dict[str, list[Tensor]] = {}
    for batch in batches:
        batch = to_device(batch, device)
        with evaluating(model), autocast(device, precision):
            if pictures:
                found = synthesise(model, batch, refine_steps)
                joints = found["lifted"], found["relative"], batch["valid"]
            else:
                joints = *lift_poses(model, batch)[:2], batch["valid"]
        batch_scores = dict(
            mpjpe_mm=metrics.mpjpe(*joints), n_mpjpe_mm=metrics.n_mpjpe(*joints), p_mpjpe_mm=metrics.p_mpjpe(*joints)
        )
        if pictures:
            target, mask = batch["image_b"], batch["mask_b"]
            colour = target.new_tensor(model.skeleton.background)[:, None, None] / 255
            copied = nn.functional.interpolate(batch["image_a"], target.shape[-2:], mode="bilinear", antialias=True)
            baselines = {"_background_baseline": colour.expand_as(target), "_copy_baseline": copied}
            for whose, picture in {"": found["image"].float(), **baselines}.items():
                scored = _picture_scores(picture, target, mask, lpips)
                batch_scores |= {f"{name}{whose}": values for name, values in scored.items()}
        for name, values in batch_scores.items():
            # A picture without any error has an infinite score, which would drown the mean.
            scores.setdefault(name, []).append(values.clamp(max=HIGHEST_PSNR) if name.startswith("psnr") else values)
    return {name: torch.cat(values).cpu() for name, values in scores.items()}


def _picture_scores(picture: Tensor, target: Tensor, mask: Tensor, lpips: nn.Module | None) -> dict[str, Tensor]:
    scores = dict(
        psnr=metrics.psnr(picture, target),
        ssim=metrics.ssim(picture, target),
        psnr_foreground=metrics.psnr_foreground(picture, target, mask),
        ssim_foreground=metrics.on_foreground(metrics.ssim, picture, target, mask),
    )
    if lpips:
        scores["lpips"] = lpips(picture, target)
        scores["lpips_foreground"] = metrics.on_foreground(lpips, picture, target, mask)
    return scores


@torch.no_grad()
def draw_pairs(
    model: HumanViewSynthesis,
    batch: dict[str, Any],
    widest: int | None = None,
    labels: Sequence[str] = (),
    refine_steps: int = 0,
    precision: torch.dtype = torch.float32,
    at_once: int | None = None,
) -> Image:
    """One row per pair: source, lifted and true pose in the target view, latent, output, target, error.

    Args:
        model: on any device; the mode of each of its parts is restored afterwards.
        batch: as :func:`hvs.data.collate` makes it.
        widest: wider pictures are scaled down to so many pixels.
        labels: to stand above the rows, if there are any.
        refine_steps: as in :func:`synthesise`.
        precision: of the networks.
        at_once: how many pairs the networks process at once; by default all.
    """
    device = next(model.parameters()).device
    count = len(batch["points"])
    at_once = at_once or count
    parts = []
    for i in range(0, count, at_once):
        part = to_device({name: value[i : i + at_once] for name, value in batch.items()}, device)
        with evaluating(model), autocast(device, precision):
            found = synthesise(model, part, refine_steps)
        parts.append({name: found[name].float().cpu() for name in ("lifted", "latent", "image")})
    found = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    batch = to_device(batch, torch.device("cpu"))
    camera_a, camera_b = batch["camera_a"], batch["camera_b"]
    root = camera_a.to_camera(batch["points"])[:, model.skeleton.root, None]
    lifted = camera_b.project(camera_a.to_world(root + found["lifted"]))
    true = camera_b.project(batch["points"])
    errors = error_to_rgb(found["image"], batch["image_b"])
    blank = torch.ones_like(batch["image_b"][0])
    rows = []
    for i, latent in enumerate(latent_to_rgb(found["latent"])):
        poses = [draw_skeleton(blank, pose[i], batch["valid"][i], model.skeleton) for pose in (lifted, true)]
        rows.append([batch["image_a"][i], *poses, latent, found["image"][i], batch["image_b"][i], errors[i]])
    captions = ["source", "lifted pose", "true pose", "latent", "output", "target", "error"]
    return mosaic(rows, captions, widest, labels)
