"""gsplat's rasteriser (github.com/nerfstudio-project/gsplat) on the same Gaussians and channels, if it is installed.

It composites instead of averaging, so the pictures differ, but the work is comparable: the same ellipsoids with the
same number of channels. It cuts them off at 3.3 standard deviations, ours where the tolerance allows, at five or six.
"""

import importlib.util
from collections.abc import Callable

import torch
from torch import Tensor

from hvs.geometry import quaternion_from_rotation

ALPHA = 0.025


def is_installed() -> bool:
    return importlib.util.find_spec("gsplat") is not None


def fits(scene, device: str) -> bool:
    """Whether gsplat is installed, and can render the scene: on a GPU, one image, float32."""
    return is_installed() and torch.device(device).type == "cuda" and scene.batch == 1 and scene.dtype == torch.float32


def prepare(inputs: dict[str, Tensor]) -> tuple[Callable[..., Tensor], dict[str, Tensor]]:
    """gsplat as a rasteriser, whose images are [1, H, W, C], and its arguments."""
    from gsplat import rasterization

    with torch.no_grad():
        rays = inputs["rays"][0]
        height, width, _ = rays.shape
        plane = rays[..., :2] / rays[..., 2:]
        fx = (width - 1) / (plane[0, -1, 0] - plane[0, 0, 0])
        fy = (height - 1) / (plane[-1, 0, 1] - plane[0, 0, 1])
        K = torch.eye(3, device=rays.device)
        K[0, 0], K[1, 1], K[0, 2], K[1, 2] = fx, fy, width / 2, height / 2
        # exp(-D/α) is exp(-D'/2) with smaller deviations.
        scales = inputs["scales"][0] * (ALPHA / 2) ** 0.5
        arguments = dict(
            means=inputs["means"][0], quats=quaternion_from_rotation(inputs["rotations"][0]), scales=scales
        )
        arguments |= dict(colors=inputs["features"][0], backgrounds=inputs["background"])
        leaves = {name: value.detach().clone().requires_grad_() for name, value in arguments.items()}
    opacities = torch.full_like(leaves["scales"][:, 0], 0.9)
    view = torch.eye(4, device=rays.device)[None]

    def render(**tensors: Tensor) -> Tensor:
        image, _, _ = rasterization(
            **tensors, opacities=opacities, viewmats=view, Ks=K[None], width=width, height=height, packed=False
        )
        return image

    return render, leaves
