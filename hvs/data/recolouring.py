"""People in clothes of colours they never wore, so that a few people teach how colours carry over between views."""

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from hvs.geometry import Camera, Skeleton
from hvs.geometry.limbs import copy_once
from hvs.geometry.rotations import rotation_about_axis

from .sampling import step_generator

# Parts that each have their own colour, and words in the joint names of all but the last part.
LEGS, HEAD, UPPER = range(3)
WORDS = {LEGS: ("hip", "knee", "ankle", "foot", "toe"), HEAD: ("nose", "eye", "ear", "head", "neck", "jaw")}
# Brightness is multiplied by 2^p, with p between minus and plus this.
BRIGHTNESS = 0.7
# Separate random numbers from those that draw the items of a step.
OWN_SEED = 7919
# Side of the grid on which pixels are assigned to parts.
GRID = 32


def draw_colours(count: int, part: float, seed: int, step: int) -> Tensor:
    """Draw maps of RGB for the pairs of a step and each part of the body, [count, 3, 3, 3]: a new hue and brightness.

    Args:
        count: number of pairs.
        part: fraction of them that change, in 0..1; the maps of the others change nothing.
        seed, step: the result depends on these alone.
    """
    generator = step_generator(seed + OWN_SEED, step)
    chosen = torch.rand(count, generator=generator) < part
    angle, power = torch.rand(2, count, len((LEGS, HEAD, UPPER)), generator=generator)
    brightness = torch.exp2(BRIGHTNESS * (2 * power - 1))[..., None, None]
    # A rotation about the grey axis.
    hue = rotation_about_axis(torch.full((3,), 3**-0.5), 2 * math.pi * angle)
    return torch.where(chosen[:, None, None, None], brightness * hue, torch.eye(3))


def recolour(batch: dict[str, Any], maps: Tensor, skeleton: Skeleton) -> None:
    """Give each pair's person other colours, the same in both images; the background stays as it is.

    Args:
        batch: as :func:`hvs.data.collate` makes it, on any device; its images are replaced.
        maps: of RGB for each pair and part of the body, [B, 3, 3, 3].
        skeleton: of the batch's points.
    """
    maps = maps.to(batch["image_a"], non_blocking=True)
    behind = copy_once(skeleton.background, maps.dtype, maps.device)[:, None, None] / 255
    for side in ("a", "b"):
        image = batch[f"image_{side}"]
        parts = which_part(batch["points"], batch["valid"], batch[f"camera_{side}"], skeleton)
        parts = F.interpolate(parts[:, None].to(image.dtype), image.shape[-2:], mode="nearest-exact")
        coloured = image
        for part in (LEGS, HEAD, UPPER):
            coloured = torch.where(parts == part, torch.einsum("bij,bjhw->bihw", maps[:, part], image), coloured)
        batch[f"image_{side}"] = torch.lerp(behind, coloured.clamp(0, 1), batch[f"mask_{side}"])


def which_part(points: Tensor, valid: Tensor, camera: Camera, skeleton: Skeleton) -> Tensor:
    """The part of the body whose limbs are nearest to each cell of a picture, [B, rows, columns].

    Args:
        points: joints in the world, [B, J, 3].
        valid: which of them are known, [B, J].
        camera: of the pictures, with the batch axis [B].
    """
    rows, columns = min(GRID, camera.height), min(GRID, camera.width)
    first, last = skeleton.parts["body"]
    # Of a body without limbs, those that there are have to do.
    edges = tuple(edge for edge in skeleton.edges if first <= max(edge) < last) or skeleton.edges
    starts, ends = copy_once(edges, torch.long, points.device).T
    owners = copy_once(tuple(_part_of(edge, skeleton) for edge in edges), torch.long, points.device)
    pixels = camera.project(points)
    start, along = pixels[:, starts, None], (pixels[:, ends] - pixels[:, starts])[:, :, None]  # [B, E, 1, 2]
    y, x = torch.meshgrid(
        (torch.arange(rows, device=points.device) + 0.5) * (camera.height / rows) - 0.5,
        (torch.arange(columns, device=points.device) + 0.5) * (camera.width / columns) - 0.5,
        indexing="ij",
    )
    cells = torch.stack((x, y), -1).reshape(-1, 2).to(pixels)
    away = cells - start  # [B, E, rows · columns, 2]
    share = ((away * along).sum(-1, keepdim=True) / along.square().sum(-1, keepdim=True).clamp(min=1e-6)).clamp(0, 1)
    distance = (away - share * along).square().sum(-1)
    known = (valid[:, starts] & valid[:, ends])[..., None] & distance.isfinite()
    nearest = distance.where(known, torch.inf).argmin(1)
    return owners[nearest].unflatten(1, (rows, columns))


def _part_of(edge: tuple[int, int], skeleton: Skeleton) -> int:
    named = {part: [_is_of(part, skeleton.joints[joint]) for joint in edge] for part in WORDS}
    if any(named[HEAD]):
        return HEAD
    return LEGS if all(named[LEGS]) else UPPER


def _is_of(part: int, joint: str) -> bool:
    return any(word in joint.lower() for word in WORDS[part])
