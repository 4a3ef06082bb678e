"""Where the sample is filmed: a ring of calibrated cameras, and a bright studio with a floor and a round wall."""

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from hvs.geometry import Camera

if TYPE_CHECKING:
    from .raycast import Rig

# A person of 1.8 m at the centre fills about 0.7 of the picture's height.
DISTANCE, FOCAL = 4.2, 1.65
CENTRE = (0.0, 0.0, 0.98)
WALL = 6.0
HEIGHTS = (1.1, 1.7, 0.8, 2.2)
# Points on the outline of the unit square, [P, 2].
_OUTLINE = torch.tensor([(i / 8, j / 8) for i in range(9) for j in range(9) if i in (0, 8) or j in (0, 8)])


def ring(sizes: list[tuple[int, int]], rng: np.random.Generator) -> list[Camera]:
    """Cameras around the origin of a world with z up, one per (width, height), float64, 5 distortion coefficients."""
    cameras = []
    up, target = torch.tensor((0.0, 0.0, 1.0)).double(), torch.tensor(CENTRE).double()
    for index, (width, height) in enumerate(sizes):
        angle = 2 * np.pi * (index + rng.uniform(-0.15, 0.15)) / len(sizes)
        eye = DISTANCE * np.sin(angle), -DISTANCE * np.cos(angle), HEIGHTS[index % 4] + rng.uniform(-0.1, 0.1)
        focal, stretch = FOCAL * height * rng.uniform(0.97, 1.03), rng.uniform(0.995, 1.005)
        x, y = np.array((width - 1, height - 1)) / 2 + height * rng.uniform(-0.01, 0.01, 2)
        K = torch.tensor(((focal, 0.0, x), (0.0, focal * stretch, y), (0.0, 0.0, 1.0))).double()
        k1, k2, k3 = rng.uniform((-0.12, -0.02, -0.01), (0.06, 0.04, 0.01))
        p1, p2 = rng.uniform(-1e-3, 1e-3, 2)
        distortion = torch.tensor((k1, k2, p1, p2, k3)).double()
        camera = Camera.look_at(torch.tensor(eye).double(), target, up, K, height, width, distortion)
        # Readers get cameras in float32, so the true values must be representable in it.
        cameras.append(camera.to(torch.float32).to(torch.float64))
    return cameras


def make_rigs(cameras: list[Camera]) -> list[tuple[list[int], "Rig"]]:
    """What ray casting needs of cameras in a world with z up: for each picture size, which cameras, and their rig."""
    sizes = [(camera.height, camera.width) for camera in cameras]
    groups = [[i for i, size in enumerate(sizes) if size == wanted] for wanted in sorted(set(sizes))]
    return [(group, _make_rig(Camera.stack([cameras[i] for i in group]))) for group in groups]


def _make_rig(cameras: Camera) -> "Rig":
    from .raycast import Rig

    eyes = -(cameras.R.mT @ cameras.t[..., None])[..., 0]
    rays = torch.einsum("vhwi,vij->vhwj", cameras.rays(), cameras.R)
    backdrop = np.stack([_studio(eye, ray) for eye, ray in zip(eyes.numpy(), rays.numpy(), strict=True)])
    return Rig(eyes.float().numpy(), rays.float().numpy(), backdrop)


def windows(camera: Camera, vertices: Tensor) -> Tensor:
    """The windows [frames, 4] (left, top, right, bottom), ends excluded, that hold all vertices [frames, N, 3]."""
    seen = vertices @ camera.R.mT.float() + camera.t.float()
    low, high = (seen[..., :2] / seen[..., 2:]).aminmax(dim=1)  # [frames, 2]
    # The lens bends this rectangle, but what lies inside its outline stays inside.
    outline = low[:, None] + (high - low)[:, None] * _OUTLINE
    pixels = camera.project(camera.to_world(F.pad(outline.double(), (0, 1), value=1.0)))
    # Smoothed edges reach a pixel further.
    first, last = pixels.amin(1).floor() - 2, pixels.amax(1).ceil() + 3
    size = torch.tensor((camera.width, camera.height)).repeat(2)
    return torch.cat((first, last), 1).clamp(min=0).minimum(size).int()


def to_world(camera: Camera, axes: Tensor) -> Camera:
    """The same camera in a world whose axes are the rows of `axes` [3, 3]."""
    return replace(camera, R=camera.R @ axes.mT)


def _studio(eye: np.ndarray, rays: np.ndarray) -> np.ndarray:
    """The empty studio, [H, W, 3] uint8."""
    x, y, z = np.moveaxis(rays, -1, 0)
    # Distance to where the ray meets the round wall; the eye is inside.
    a, b = x * x + y * y, eye[0] * x + eye[1] * y
    wall = (np.sqrt(b * b - a * (eye[:2] @ eye[:2] - WALL**2)) - b) / a
    floor = np.divide(-eye[2], z, out=np.full_like(z, np.inf), where=z < 0)
    on_floor = floor < wall
    point = eye + np.minimum(floor, wall)[..., None] * rays
    centre = np.hypot(point[..., 0], point[..., 1])
    floor_light = 196 - 40 * np.clip(centre / WALL, 0, 1) ** 1.5
    azimuth = np.arctan2(point[..., 1], point[..., 0])
    wall_light = 176 + 8 * np.clip(point[..., 2], 0, 4) + 7 * np.sign(np.sin(9 * azimuth))
    light = np.where(on_floor, floor_light, wall_light)[..., None]
    tint = np.where(on_floor[..., None], (1.0, 0.97, 0.92), (0.93, 0.97, 1.03))
    return np.rint(light * tint).clip(0, 255).astype(np.uint8)
