import pytest
import torch
from torch.nn import functional as F

from hvs.geometry import Camera


def make_scene(
    count: int = 17,
    height: int = 33,
    width: int = 40,
    channels: int = 3,
    batch: tuple[int, ...] = (1,),
    seed: int = 0,
    dtype: torch.dtype = torch.float64,
    smallest: float = 0.01,
    largest: float = 0.3,
) -> dict[str, torch.Tensor]:
    """Random Gaussians, some behind the camera and some out of view, seen through a distorting lens."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*batch, *shape, generator=generator, dtype=torch.float64)

    focal = 0.9 * max(height, width)
    reach = torch.tensor([width / focal, height / focal, 1.0]) * 0.4
    depth = 2.5 + 1.2 * normal(count, 1)
    means = normal(count, 3) * reach * depth
    means[..., 2:] = depth
    first = F.normalize(normal(count, 3), dim=-1)
    second = F.normalize(torch.linalg.cross(first, normal(count, 3)), dim=-1)
    rotations = torch.stack((first, second, torch.linalg.cross(first, second)), -1)
    spread = torch.rand(*batch, count, 3, generator=generator, dtype=torch.float64)
    scales = smallest * (largest / smallest) ** spread
    K = torch.tensor([[focal, 0, width / 2 - 0.3], [0, 1.1 * focal, height / 2], [0, 0, 1]], dtype=torch.float64)
    distortion = torch.tensor([-0.1, 0.05, 1e-3, -2e-3, 0.01], dtype=torch.float64)
    rays = Camera(K, torch.eye(3).double(), torch.zeros(3).double(), distortion, height, width).rays()
    scene = dict(
        means=means,
        rotations=rotations,
        scales=scales,
        features=normal(count, channels),
        background=normal(channels),
        rays=rays.expand(*batch, height, width, 3),
    )
    return {name: value.to(dtype) for name, value in scene.items()}


@pytest.fixture(scope="session")
def scene():
    return make_scene
