"""What is fitted to images: a cloud of coloured ellipsoids before a plain background, and corrections of cameras.

The renderer composites nothing, so that what lies behind shines through; a colour may therefore depend, linearly in its
logit, on the direction that it is seen in.
"""

import math
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import hvs
from hvs.geometry import Camera, rotation_from_quaternion
from hvs.geometry.rotations import rotate

from .shapes import FAINTEST

ALPHA = 0.025
# Standard deviations in metres. The background is as wide as the smallest Gaussian, in powers of ten of the variance.
SMALLEST, LARGEST = 0.032, 1.0


class Cloud(nn.Module):
    """K ellipsoids in the world before a plain background.

    Args:
        means: [K, 3], in metres.
        scale: standard deviation of all of them at first, in metres.
        colours: in 0..1, [K, 3].
        background: in 0..1, [3].
    """

    def __init__(self, means: Tensor, scale: float, colours: Tensor, background: Tensor) -> None:
        super().__init__()
        self.means = nn.Parameter(means.clone())
        self.quaternions = nn.Parameter(F.pad(torch.zeros_like(means), (1, 0), value=1.0))
        self.log_scales = nn.Parameter(torch.full_like(means, math.log(scale)))
        self.logits = nn.Parameter(colours.clamp(0.02, 0.98).logit())
        # How the logits [K, 3 colours, 3] change along the directions that they are seen in.
        self.tints = nn.Parameter(means.new_zeros(len(means), 3, 3))
        centre = means.mean(0)
        self.register_buffer("background", background)
        self.register_buffer("centre", centre)
        self.register_buffer("radius", (means - centre).norm(dim=1).amax())

    @property
    def rotations(self) -> Tensor:
        """Their columns are the axes, [K, 3, 3]."""
        return rotation_from_quaternion(self.quaternions)

    @property
    def scales(self) -> Tensor:
        """Standard deviations, [K, 3]."""
        return self.log_scales.clamp(math.log(SMALLEST), math.log(LARGEST)).exp()

    def forward(self, cameras: Camera, rays: Tensor, backend: str = "auto") -> Tensor:
        """Pictures [V, 3, H, W] by cameras with one batch axis, and their rays [V, H, W, 3]."""
        eyes = cameras.to_world(torch.zeros_like(cameras.t)[:, None])  # [V, 1, 3]
        towards = F.normalize(self.means - eyes, dim=-1)
        colours = (self.logits + (self.tints * towards[..., None, :]).sum(-1)).sigmoid()  # [V, K, 3]
        means = cameras.to_camera(self.means.expand(len(eyes), -1, -1))
        gaussians = means, cameras.R[:, None] @ self.rotations, self.scales.expand_as(means), colours
        behind = (self._backdrop(eyes), torch.eye(3).to(means), means.new_full((1, 3), SMALLEST), self.background)
        # One of the background's colour behind all, as narrow as any.
        gaussians = (torch.cat((v, one.expand_as(v[:, :1])), 1) for v, one in zip(gaussians, behind, strict=True))
        return hvs.rasterize(*gaussians, self.background, rays, alpha=ALPHA, eps=FAINTEST, backend=backend)

    def _backdrop(self, eyes: Tensor) -> Tensor:
        """Where in the cameras' frames one more Gaussian lies, behind all others, [V, 1, 3].

        How deep and how wide the renderer's background is follows from the farthest and the narrowest Gaussian. With
        one that is both and stands still the background does too as the others move, and the farthest is found at once.
        """
        distance = (eyes - self.centre).norm(dim=-1, keepdim=True) + self.radius
        return F.pad(2 * distance, (2, 0))


class Corrections(nn.Module):
    """Small turns and moves of V cameras, all but the first, which holds the world in its place."""

    def __init__(self, cameras: Camera) -> None:
        super().__init__()
        self.turns = nn.Parameter(torch.zeros_like(cameras.t[1:]))  # [V - 1, 3], axes times angles in radians
        self.moves = nn.Parameter(torch.zeros_like(cameras.t[1:]))  # [V - 1, 3], metres

    def forward(self, cameras: Camera, rays: Tensor, views: list[int]) -> tuple[Camera, Tensor]:
        """The cameras of some views, moved, and their rays, turned."""
        turns, moves = (F.pad(v, (0, 0, 1, 0))[views] for v in (self.turns, self.moves))
        rays = rotate(self._matrices(turns), rays.flatten(1, 2)).view_as(rays)
        return replace(cameras, t=cameras.t + moves), rays

    @torch.no_grad()
    def corrected(self, cameras: Camera) -> Camera:
        """All cameras, as they were found to be."""
        turns, moves = (F.pad(v, (0, 0, 1, 0)) for v in (self.turns, self.moves))
        back = self._matrices(turns).mT
        return replace(cameras, R=back @ cameras.R, t=(back @ (cameras.t + moves)[..., None])[..., 0])

    @staticmethod
    def _matrices(turns: Tensor) -> Tensor:
        return rotation_from_quaternion(F.pad(turns / 2, (1, 0), value=1.0))
