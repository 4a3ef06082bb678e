"""Points in space from where calibrated cameras see them, even if some of the cameras are wrong.

Each joint is found on its own: pairs of views propose a point (the middle of the shortest line between their rays),
the proposal that most views agree with wins (RANSAC with the truncated squares of MSAC: Torr and Zisserman, CVIU 78,
2000), and Levenberg-Marquardt refines it over all views with a loss on which outliers have little influence (Geman and
McClure, 1987). No random numbers are drawn, and the order of the views does not matter.
"""

import math
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from .cameras import Camera
from .distortion import distort, to_plane, undistort

# A view counts where the detector's confidence is above this.
CONFIDENT = 0.25
# A view agrees with a point if it sees it this near to the keypoint, as a fraction of the image's shorter side.
AGREEMENT = 0.015
# The loss flattens at residuals this many times as large: views that are a little off are only noisy.
LOSS_SCALE = 1.5
# Of the views that see a joint, at least this fraction must agree.
CONSENSUS = 1 / 4
# Where rays are closer to parallel than this, depth is a guess.
LEAST_ANGLE = math.radians(1.0)
# Proposals per joint; up to 11 views that is all their pairs.
MOST_PAIRS = 64
# A camera sees nothing nearer than this (metres).
NEAR = 1e-2
# Steps, difference for numerical derivatives, and largest remaining error, on the plane z = 1.
NEWTON_STEPS, SLOPE_STEP, UNDISTORTED = 10, 1e-6, 1e-6
REFINEMENT_STEPS = 15
# Triples of joint, pair and view scored at once, some 300 MB.
CHUNK = 2**20


class Triangulation(NamedTuple):
    """What :func:`triangulate` finds.

    Attributes:
        points: world, in metres, [..., 3] float64; zero where nothing was found.
        confidence: mean over the views that agree, [...] float64; zero where nothing was found.
        inliers: the views that agree, [V, ...] bool.
        error: mean distance in pixels between point and keypoint over these views, lens distortion removed, [...].
    """

    points: Tensor
    confidence: Tensor
    inliers: Tensor
    error: Tensor


class _Views(NamedTuple):
    """Distortion-free cameras: matrices [V, 3, 4] from the world to ideal pixels, centres [V, 3], thresholds [V]."""

    matrices: Tensor
    centres: Tensor
    thresholds: Tensor


@torch.no_grad()
def triangulate(
    keypoints: Tensor,
    confidence: Tensor,
    cameras: Sequence[Camera],
    *,
    threshold: float | None = None,
    least_views: int = 2,
) -> Triangulation:
    """Points that several cameras see, without gradient.

    Args:
        keypoints: pixels, lens distortion included, [V, ..., 2] on any device; not seen if not finite.
        confidence: of each keypoint, [V, ...]; it counts above 0.25, with its confidence (1 at most) as its weight.
        cameras: one for each view, on any device; their images may differ in size.
        threshold: largest distance in pixels between the keypoint and the projected point of a view that agrees; by
            default 1.5 % of the shorter side of each image.
        least_views: how many views must see a joint, at least 2. Of these a quarter must agree, and three if there are
            that many, on rays that differ by a degree or more.

    Returns:
        Points, their confidence, the views behind them, and their error in pixels.

    Raises:
        ValueError: an argument is no tensor, shapes do not agree, the threshold is not positive, or `least_views` is
            below 2.
    """
    if isinstance(cameras, Camera) or any(camera.batch_shape for camera in cameras):
        raise ValueError("cameras: got a batch of them in one, wanted a list of single ones, one for each view")
    views = len(cameras)
    for name, value in (("keypoints", keypoints), ("confidence", confidence)):
        if not isinstance(value, Tensor):
            raise ValueError(f"{name}: got {type(value).__name__}, wanted a tensor")
    if keypoints.ndim < 2 or keypoints.shape[0] != views or keypoints.shape[-1] != 2:
        raise ValueError(f"keypoints: got shape {tuple(keypoints.shape)}, wanted [{views}, ..., 2], one per camera")
    if confidence.shape != keypoints.shape[:-1]:
        raise ValueError(f"confidence: got shape {tuple(confidence.shape)}, wanted {tuple(keypoints.shape[:-1])}")
    if threshold is not None and not threshold > 0:
        raise ValueError(f"threshold: got {threshold}, wanted more than 0 pixels")
    if least_views < 2:
        raise ValueError(f"least_views: got {least_views}, wanted at least 2")
    shape, device = keypoints.shape[1:-1], keypoints.device
    cameras = [camera.to(device, torch.float64) for camera in cameras]
    # In an order of their own, so that listing them differently gives the same bits.
    order = sorted(range(views), key=lambda view: torch.cat((cameras[view].t, cameras[view].R.flatten())).tolist())
    count = math.prod(shape)
    ideal, seen = _ideal_pixels(keypoints.double().reshape(views, count, 2), cameras)
    confidence = confidence.double().reshape(views, count)
    seen &= confidence > CONFIDENT
    ideal, seen, confidence = (tensor[order].transpose(0, 1) for tensor in (ideal, seen, confidence))  # [P, V, ...]
    found = _solve([cameras[view] for view in order], ideal, confidence.where(seen, 0.0), threshold, least_views)
    points, agreed, error = found
    mean = confidence.where(agreed, 0.0).sum(1) / agreed.sum(1).clamp(min=1)
    inliers = torch.empty_like(agreed)
    inliers[:, order] = agreed
    return Triangulation(
        points.reshape(*shape, 3), mean.reshape(shape), inliers.T.reshape(views, *shape), error.reshape(shape)
    )


def _solve(
    cameras: list[Camera], ideal: Tensor, confidence: Tensor, threshold: float | None, least_views: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Points [P, 3], which views agree [P, V], and errors [P], from ideal pixels [P, V, 2] and confidence [P, V]."""
    count, device = len(ideal), ideal.device
    points = torch.zeros(count, 3, dtype=torch.float64, device=device)
    agreed = torch.zeros(ideal.shape[:2], dtype=torch.bool, device=device)
    error = torch.zeros(count, dtype=torch.float64, device=device)
    if len(cameras) < 2:
        return points, agreed, error
    K, R, t = (torch.stack([getattr(camera, name) for camera in cameras]) for name in ("K", "R", "t"))
    limits = [AGREEMENT * min(c.width, c.height) if threshold is None else threshold for c in cameras]
    views = _Views(K @ torch.cat((R, t[..., None]), -1), -(R.mT @ t[..., None])[..., 0], t.new_tensor(limits))
    inverse, singular = torch.linalg.inv_ex(K @ R)
    # A view whose numbers are beyond all measure proposes nothing.
    inverse = inverse.where(singular[:, None, None] == 0, torch.nan)
    directions = F.normalize(torch.einsum("vij,pvj->pvi", inverse, F.pad(ideal, (0, 1), value=1.0)), dim=-1)
    worth = (confidence > 0).sum(1) >= least_views
    for rows in worth.nonzero()[:, 0].split(max(1, CHUNK // (MOST_PAIRS * len(cameras)))):
        weights = confidence[rows].clamp(max=1.0)
        start, known = _best_proposal(ideal[rows], directions[rows], weights, views)
        found = _refine(start, ideal[rows], weights, views)
        points[rows], agreed[rows], error[rows] = _judge(found, known, ideal[rows], weights, views)
    return points, agreed, error


def _ideal_pixels(pixels: Tensor, cameras: list[Camera]) -> tuple[Tensor, Tensor]:
    """Where lenses without distortion would put pixels [V, P, 2], and for which of them that is known [V, P]."""
    ideal, known = torch.zeros_like(pixels), torch.zeros_like(pixels[..., 0], dtype=torch.bool)
    for view, camera in enumerate(cameras):
        finite = pixels[view].isfinite().all(-1)
        seen = pixels[view].where(finite[:, None], 0.0)
        bent = to_plane(seen, camera.K)
        straight = undistort_exactly(bent, camera.distortion)
        off = (distort(straight, camera.distortion) - bent).norm(dim=-1)
        # Far outside the image a lens model may have no inverse.
        known[view] = finite & (off < UNDISTORTED)
        straight = straight.where(known[view, :, None], 0.0)
        ideal[view] = straight @ camera.K[:2, :2].mT + camera.K[:2, 2]
    return ideal, known


def undistort_exactly(bent: Tensor, distortion: Tensor) -> Tensor:
    """`undistort` [P, 2], polished by Newton's method."""
    straight = undistort(bent, distortion)
    if distortion.shape[-1] == 0:
        return straight
    sideways = SLOPE_STEP * torch.eye(2, dtype=bent.dtype, device=bent.device)
    for _ in range(NEWTON_STEPS):
        off = distort(straight, distortion) - bent
        d_x, d_y = ((distort(straight + aside, distortion) - bent - off) / SLOPE_STEP for aside in sideways)
        step = torch.stack((_cross(off, d_y), _cross(d_x, off)), -1) / _cross(d_x, d_y)[:, None]
        straight = torch.where(step.isfinite().all(-1, keepdim=True), straight - step, straight)
    return straight


def _cross(a: Tensor, b: Tensor) -> Tensor:
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]


@cache
def _pairs(views: int) -> list[tuple[int, int]]:
    """All pairs of this many views; if they are too many, a selection with every view equally often."""
    if views * (views - 1) // 2 <= MOST_PAIRS:
        return [(i, j) for i in range(views) for j in range(i + 1, views)]
    gaps = torch.linspace(1, (views - 1) // 2, max(1, MOST_PAIRS // views)).round().int().tolist()
    return [(i, (i + gap) % views) for gap in gaps for i in range(views)][:MOST_PAIRS]


def _best_proposal(ideal: Tensor, directions: Tensor, weights: Tensor, views: _Views) -> tuple[Tensor, Tensor]:
    """The point [P, 3] of the pair that fits all views best, and whether there was any [P]."""
    seen = weights > 0
    # Views that see a joint come first, so that one table of pairs per number of views serves all joints.
    ranked = torch.argsort(seen.int(), dim=1, descending=True, stable=True)  # [P, V]
    counts = seen.sum(1)  # [P]
    tables = [_pairs(n) for n in range(seen.shape[1] + 1)]
    most = max(1, max(map(len, tables)))
    table = torch.tensor([pairs + [(0, 0)] * (most - len(pairs)) for pairs in tables], device=ideal.device)[counts]
    i, j = (torch.gather(ranked, 1, table[..., side]) for side in (0, 1))  # [P, M]
    used = i != j
    a, b = (torch.gather(directions, 1, k[..., None].expand(-1, -1, 3)) for k in (i, j))  # [P, M, 3]
    from_a, from_b = views.centres[i], views.centres[j]
    # Where along each ray the two come closest.
    cosine, between = (a * b).sum(-1), from_b - from_a
    sine2 = 1 - cosine**2
    along_a, along_b = (between * a).sum(-1), (between * b).sum(-1)
    used &= sine2 > math.sin(LEAST_ANGLE) ** 2
    sine2 = sine2.where(used, 1.0)
    depth_a, depth_b = (along_a - cosine * along_b) / sine2, (cosine * along_a - along_b) / sine2
    used &= (depth_a > NEAR) & (depth_b > NEAR)
    middle = (from_a + depth_a[..., None] * a + from_b + depth_b[..., None] * b) / 2
    middle = middle.where(used[..., None], 0.0)
    off = _residuals(middle[:, :, None], ideal[:, None], views)[0]  # [P, M, V, 2]
    squares = (off.square().sum(-1) / views.thresholds**2).clamp(max=1.0).nan_to_num(nan=1.0)
    score = (squares * weights[:, None]).sum(-1).where(used, torch.inf)  # [P, M]
    best = score.argmin(1, keepdim=True)
    start = torch.gather(middle, 1, best[..., None].expand(-1, -1, 3))[:, 0]
    return start, torch.gather(used, 1, best)[:, 0]


def _residuals(points: Tensor, ideal: Tensor, views: _Views) -> tuple[Tensor, Tensor]:
    """Ideal pixels of points [..., 1, 3] minus the seen ones [..., V, 2], NaN behind a camera; and homogeneous ones."""
    x = (points[..., None, :] * views.matrices[:, :, :3]).sum(-1) + views.matrices[:, :, 3]  # [..., V, 3]
    # The last row of K is (0, 0, 1): the third coordinate is the depth in metres.
    depth = x[..., 2:].where(x[..., 2:] > NEAR, torch.nan)
    return x[..., :2] / depth - ideal, x


def _refine(points: Tensor, ideal: Tensor, weights: Tensor, views: _Views) -> Tensor:
    """Points [P, 3] moved to where the sum over views of weight · s/(1 + s), s = (residual/scale)², is smallest."""
    scales = LOSS_SCALE * views.thresholds

    def cost(points: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        off, x = _residuals(points[:, None], ideal, views)
        square = off.square().sum(-1) / scales**2
        # Behind a camera the loss is at its bound and pulls nowhere.
        square = square.nan_to_num(nan=torch.inf)
        return (weights * (1 - 1 / (1 + square))).sum(1), square, off.nan_to_num(nan=0.0), x

    damping = torch.full_like(points[:, 0], 1e-3)
    value, square, off, x = cost(points)
    eye = torch.eye(3, dtype=points.dtype, device=points.device)
    for _ in range(REFINEMENT_STEPS):
        pull = weights / (1 + square) ** 2 / scales**2  # [P, V]
        depth = x[..., 2:].clamp(min=NEAR)
        # d(x/z) = (dx - (x/z) dz) / z
        slope = views.matrices[:, :2, :3] - (x[..., :2] / depth)[..., None] * views.matrices[:, 2:, :3]
        slope = slope / depth[..., None]  # [P, V, 2, 3]
        gradient = (pull[..., None] * (slope * off[..., None]).sum(-2)).sum(1)  # [P, 3]
        curvature = torch.einsum("pv,pvik,pvil->pkl", pull, slope, slope)
        size = curvature.diagonal(dim1=-2, dim2=-1).mean(-1) * damping + torch.finfo(points.dtype).tiny
        step = torch.linalg.solve_ex(curvature + size[:, None, None] * eye, gradient)[0]
        tried = points - step
        found = cost(tried.nan_to_num())
        better = (found[0] < value) & step.isfinite().all(-1)
        points = tried.where(better[:, None], points)
        old = (value, square, off, x)
        value, square, off, x = (
            new.where(better.reshape(-1, *[1] * (new.ndim - 1)), was) for new, was in zip(found, old, strict=True)
        )
        damping = torch.where(better, damping * 0.1, damping * 10).clamp(1e-12, 1e6)
    return points


def _judge(
    points: Tensor, known: Tensor, ideal: Tensor, weights: Tensor, views: _Views
) -> tuple[Tensor, Tensor, Tensor]:
    """Points [P, 3], which views agree [P, V], and errors [P]; all zero if too few agree, or on near-parallel rays."""
    distance = _residuals(points[:, None], ideal, views)[0].norm(dim=-1)
    seen = weights > 0
    # NaN, behind a camera, is not below anything.
    agreed = seen & (distance <= views.thresholds)
    counts, seeing = agreed.sum(1), seen.sum(1)
    enough = (counts >= seeing.clamp(max=3)) & (counts >= CONSENSUS * seeing)
    towards = F.normalize(points[:, None] - views.centres, dim=-1) * agreed[..., None]
    # The mean of two unit rays is as long as the cosine of half the angle between them.
    spread = towards.sum(1).norm(dim=-1) / counts.clamp(min=1)
    found = known & enough & (spread < math.cos(LEAST_ANGLE / 2)) & points.isfinite().all(-1)
    agreed &= found[:, None]
    error = distance.where(agreed, 0.0).sum(1) / agreed.sum(1).clamp(min=1)
    return points.where(found[:, None], 0.0), agreed, error
