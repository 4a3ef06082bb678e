"""Made-up batches of pairs, as training reads them: poses of the sample seen by two cameras, with noise as pictures."""

from typing import Any

import torch

import hvs

from . import scenes

# Angle between the two cameras of a pair around the body, in degrees.
APART = 60.0
# Size of the frame from which the first camera's picture is cropped.
FRAME = (1920.0, 1080.0)


def make_pairs(batch: int, input_resolution: int, target_resolution: int, device: str = "cpu") -> dict[str, Any]:
    """A batch as :func:`hvs.data.collate` makes it, without masks."""
    points = scenes.bodies(batch)
    generator = torch.Generator().manual_seed(0)
    sides = dict(a=input_resolution, b=target_resolution)
    cameras = {view: _camera(batch, side, APART * (view == "b")) for view, side in sides.items()}
    pictures = {view: torch.rand(batch, 3, side, side, generator=generator) for view, side in sides.items()}
    found: dict[str, Any] = dict(
        points=points,
        valid=torch.ones(points.shape[:2], dtype=torch.bool),
        keypoints_a=cameras["a"].project(points) * FRAME[1] / input_resolution,
        confidence_a=torch.rand(points.shape[:2], generator=generator) < 0.9,
        resolution_a=torch.tensor(FRAME).expand(batch, 2).contiguous(),
    )
    found |= {f"camera_{view}": camera for view, camera in cameras.items()}
    found |= {f"image_{view}": picture for view, picture in pictures.items()}
    return {name: value.to(device) for name, value in found.items()}


def _camera(batch: int, side: int, degrees: float) -> hvs.Camera:
    """Cameras with lens distortion, turned about the middle of the bodies."""
    middle = torch.tensor([0.0, 0.0, scenes.DISTANCE])
    angle = torch.deg2rad(torch.tensor(degrees))
    eye = middle - scenes.DISTANCE * torch.stack((angle.sin(), torch.zeros(()), angle.cos()))
    up = torch.tensor([0.0, -1.0, 0.0])
    camera = hvs.Camera.look_at(eye, middle, up, scenes.intrinsics(side, side), side, side, scenes.DISTORTION)
    return hvs.Camera.stack([camera] * batch)
