"""A few Gaussians and a ring of cameras around them."""

import torch

from hvs.geometry import Camera
from hvs.inference.cloud import Cloud

UP = torch.tensor([0.0, 0.0, 1.0])
GREY = torch.tensor([0.5, 0.5, 0.5])


def ring(count: int = 6, size: int = 32) -> Camera:
    """Near, with a wide angle: from afar a camera's turn looks like a move."""
    K = torch.tensor([[size, 0, (size - 1) / 2], [0, size, (size - 1) / 2], [0, 0, 1]])
    return Camera.orbit(torch.zeros(3), UP, 1.8, count, K, size, size, elevation=0.3)


def toy(seed: int = 0, count: int = 12) -> Cloud:
    """A few Gaussians of clear colours, each another ellipsoid."""
    random = torch.Generator().manual_seed(seed)
    means = 0.8 * torch.rand(count, 3, generator=random) - 0.4
    cloud = Cloud(means, 0.4, 0.1 + 0.8 * torch.rand(count, 3, generator=random), GREY)
    with torch.no_grad():
        cloud.quaternions += torch.randn(count, 4, generator=random)
        cloud.log_scales += 0.4 * torch.randn(count, 3, generator=random)
    return cloud
