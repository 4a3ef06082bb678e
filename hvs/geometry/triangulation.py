"""Points in space from where calibrated cameras see them: linear least squares over all views that count."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from .cameras import Camera
from .distortion import undistort

# A view counts where the detector's confidence is above this.
CONFIDENT = 0.25
STEPS = 50


class Triangulation(NamedTuple):
    """
    Attributes:
        points: world, in metres, [..., 3] float64; zero where nothing was found.
        confidence: mean of the views that were used, [...] float64; zero where nothing was found.
        inliers: the views that were used, [V, ...] bool.
        error: mean distance in pixels between point and keypoint over these views, [...].
    """

    points: Tensor
    confidence: Tensor
    inliers: Tensor
    error: Tensor


def triangulate(keypoints: Tensor, confidence: Tensor, cameras: Sequence[Camera]) -> Triangulation:
    """Points that several cameras see.

    Args:
        keypoints: pixels, lens distortion included, [V, ..., 2].
        confidence: of each, [V, ...]; above 0.25 it counts.
        cameras: one for each view.
    """
    cameras = [camera.to(torch.float64) for camera in cameras]
    shape = keypoints.shape[1:-1]
    pixels = keypoints.double().reshape(len(cameras), -1, 2)
    confidence = confidence.double().reshape(len(cameras), -1)
    used = (confidence > CONFIDENT) & pixels.isfinite().all(-1)
    used &= used.sum(0) >= 2
    rows, sides = [], []
    for camera, seen, here in zip(cameras, pixels, used, strict=True):
        plane = undistort(camera._to_plane(seen.where(here[:, None], 0.0)), camera.distortion, STEPS)
        for axis in range(2):
            row = plane[:, axis, None] * camera.R[2] - camera.R[axis]
            rows.append(row * here[:, None])
            sides.append((camera.t[axis] - plane[:, axis] * camera.t[2]) * here)
    A, b = torch.stack(rows, 1), torch.stack(sides, 1)
    found = used.any(0)
    normal = A.mT @ A + torch.eye(3).double() * ~found[:, None, None]
    points = torch.linalg.solve(normal, (A.mT @ b[..., None]))[..., 0].where(found[:, None], 0.0)
    off = torch.stack([(c.project(points) - p).norm(dim=-1) for c, p in zip(cameras, pixels, strict=True)])
    count = used.sum(0).clamp(min=1)
    mean = confidence.where(used, 0.0).sum(0) / count
    error = off.where(used, 0.0).sum(0) / count
    return Triangulation(points.reshape(*shape, 3), mean.reshape(shape), used.reshape(-1, *shape), error.reshape(shape))
