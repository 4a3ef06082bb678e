"""The scenes: poses of the sample capture, and clouds of any number of Gaussians."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import hvs

POSES = Path(__file__).parent / "poses.npz"
# Limbs of a body; no other scene has as many Gaussians.
LIMBS = len(hvs.skeletons.PANOPTIC.edges)
DISTANCE = 3.0
DISTORTION = torch.tensor([-0.1, 0.05, 1e-3, -1e-3, 0.0])
# Areas of a cloud's Gaussians, added up, as a multiple of the picture's area.
CLOUD_COVERAGE = 4.0


def intrinsics(height: int, width: int) -> Tensor:
    """Intrinsics of a camera whose image is filled by a body at ``DISTANCE``, [3, 3]."""
    focal = 1.4 * min(height, width)
    return torch.tensor([[focal, 0, (width - 1) / 2], [0, focal, (height - 1) / 2], [0, 0, 1]])


def make_rays(height: int, width: int, distortion: Tensor) -> Tensor:
    return hvs.Camera(intrinsics(height, width), torch.eye(3), torch.zeros(3), distortion, height, width).rays()


def bodies(batch: int) -> Tensor:
    """Poses in metres around a point ``DISTANCE`` in front of the camera, [B, J, 3]; the 65th is the first again."""
    points = torch.from_numpy(np.load(POSES)["points"]).float()
    points = points[torch.arange(batch) % len(points)]
    centre = (points.amin(1) + points.amax(1)) / 2
    return points - centre[:, None] + torch.tensor([0.0, 0.0, DISTANCE])


def limbs(batch: int, height: int, width: int) -> dict[str, Tensor]:
    """The 108 limbs of bodies that fill the image, with separate rays for each, all of the same distorting lens."""
    means, rotations, scales = hvs.limb_gaussians(bodies(batch), hvs.skeletons.PANOPTIC)
    rays = make_rays(height, width, DISTORTION)
    return dict(means=means, rotations=rotations, scales=scales, rays=rays.expand(batch, -1, -1, -1).contiguous())


def cloud(batch: int, count: int, height: int, width: int, alpha: float = 0.025) -> dict[str, Tensor]:
    """Ellipsoids all over the image; the more there are, the smaller, so that they always cover the same area."""
    generator = torch.Generator().manual_seed(0)
    focal = intrinsics(height, width)[0, 0].item()
    reach = torch.tensor([width / focal, height / focal, 0.0]) * 0.5
    depth = DISTANCE + 2 * torch.rand(batch, count, 1, generator=generator)
    means = (2 * torch.rand(batch, count, 3, generator=generator) - 1) * reach * depth
    means[..., 2:] = depth
    # In the image a Gaussian is exp(-D/α), which is visible to some 3.7 √α of its standard deviations.
    area = 4 * reach[0] * reach[1] * DISTANCE**2 * CLOUD_COVERAGE / count
    deviation = (area / torch.pi).sqrt() / (3.7 * alpha**0.5)
    spread = 0.5 + torch.rand(batch, count, 3, generator=generator)
    rotations, _ = torch.linalg.qr(torch.randn(batch, count, 3, 3, generator=generator))
    rays = make_rays(height, width, torch.zeros(0)).expand(batch, -1, -1, -1).contiguous()
    return dict(means=means, rotations=rotations, scales=deviation * spread, rays=rays)


def with_features(geometry: dict[str, Tensor], channels: int, dtype: torch.dtype, device: str) -> dict[str, Tensor]:
    """All arguments of the rasteriser; all but the rays require gradients."""
    generator = torch.Generator().manual_seed(1)
    batch, count, _ = geometry["means"].shape
    features = torch.randn(batch, count, channels, generator=generator).to(dtype)
    background = torch.randn(batch, channels, generator=generator).to(dtype)
    inputs = dict(geometry, features=features, background=background)
    return {name: inputs[name].to(device).requires_grad_(name != "rays") for name in (*geometry, *inputs)}
