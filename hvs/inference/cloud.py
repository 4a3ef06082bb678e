"""What is fitted to images: coloured ellipsoids in front of a plain background, and corrections of the cameras.

The renderer composites nothing, so what lies behind shines through. A colour may therefore depend on the viewing
direction, linearly in its logit.
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
# Standard deviations in metres. The renderer's background takes the smallest variance, rounded up to a power of ten.
SMALLEST, LARGEST = 0.032, 1.0


class Cloud(nn.Module):
    """K ellipsoids in the world in front of a plain background.

    Args:
        means: [K, 3], in metres.
        scale: initial standard deviation of all of them, in metres.
        colours: in 0..1, [K, 3].
        background: in 0..1, [3].
    """

    def __init__(self, means: Tensor, scale: float, colours: Tensor, background: Tensor) -> None:
        super().__init__()
        self.means = nn.Parameter(means.clone())
        self.quaternions = nn.Parameter(F.pad(torch.zeros_like(means), (1, 0), value=1.0))
        self.log_scales = nn.Parameter(torch.full_like(means, math.log(scale)))
        self.logits = nn.Parameter(colours.clamp(0.02, 0.98).logit())
        # How the logits change with the viewing direction, [K, 3 colours, 3].
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
        """Pictures [V, 3, H, W] for cameras with one batch axis and their rays [V, H, W, 3]."""
        eyes = cameras.position[:, None]  # [V, 1, 3]
        towards = F.normalize(self.means - eyes, dim=-1)
        colours = (self.logits + (self.tints * towards[..., None, :]).sum(-1)).sigmoid()  # [V, K, 3]
        means = cameras.to_camera(self.means.expand(len(eyes), -1, -1))
        gaussians = means, cameras.R[:, None] @ self.rotations, self.scales.expand_as(means), colours
        behind = (self._backdrop(eyes), torch.eye(3).to(means), means.new_full((1, 3), SMALLEST), self.background)
        # One more Gaussian in the background's colour, behind all others and as narrow as any.
        gaussians = (torch.cat((v, one.expand_as(v[:, :1])), 1) for v, one in zip(gaussians, behind, strict=True))
        return hvs.rasterize(*gaussians, self.background, rays, alpha=ALPHA, eps=FAINTEST, backend=backend)

    def _backdrop(self, eyes: Tensor) -> Tensor:
        """Mean of one more Gaussian in the cameras' frames, behind all others, [V, 1, 3].

        The depth and width of the renderer's background follow from the farthest and the narrowest Gaussian. With a
        fixed Gaussian that is both, the background stays put while the others move, and the farthest is found at once.
        """
        distance = (eyes - self.centre).norm(dim=-1, keepdim=True) + self.radius
        return F.pad(2 * distance, (2, 0))


class Corrections(nn.Module):
    """Small rotations and translations of all V cameras but the first, which anchors the world."""

    def __init__(self, cameras: Camera) -> None:
        super().__init__()
        self.turns = nn.Parameter(torch.zeros_like(cameras.t[1:]))  # [V - 1, 3], axes times angles in radians
        self.moves = nn.Parameter(torch.zeros_like(cameras.t[1:]))  # [V - 1, 3], metres

    def forward(self, cameras: Camera, rays: Tensor, views: list[int]) -> tuple[Camera, Tensor]:
        """The cameras of some views, translated, and their rays, rotated."""
        turns, moves = (F.pad(v, (0, 0, 1, 0))[views] for v in (self.turns, self.moves))
        rays = rotate(self._matrices(turns), rays.flatten(1, 2)).view_as(rays)
        return replace(cameras, t=cameras.t + moves), rays

    @torch.no_grad()
    def corrected(self, cameras: Camera) -> Camera:
        """All cameras, with the corrections applied."""
        turns, moves = (F.pad(v, (0, 0, 1, 0)) for v in (self.turns, self.moves))
        back = self._matrices(turns).mT
        return replace(cameras, R=back @ cameras.R, t=(back @ (cameras.t + moves)[..., None])[..., 0])

    @staticmethod
    def _matrices(turns: Tensor) -> Tensor:
        return rotation_from_quaternion(F.pad(turns / 2, (1, 0), value=1.0))
