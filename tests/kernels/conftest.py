import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import hvs
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
) -> dict[str, Tensor]:
    """Random Gaussians, some behind the camera and some out of view, seen through a distorting lens.

    Every image of a batch has a camera of its own, so that no image can be drawn with the bounds of another.
    """
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
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
    K = K.repeat(*batch, 1, 1)
    K[..., 1, 2] += 0.3 * height * torch.arange(math.prod(batch)).view(batch)
    distortion = torch.tensor([-0.1, 0.05, 1e-3, -2e-3, 0.01], dtype=torch.float64)
    rays = Camera(K, torch.eye(3).double(), torch.zeros(3).double(), distortion, height, width).rays()
    scene = dict(
        means=means,
        rotations=rotations,
        scales=scales,
        features=normal(count, channels),
        background=normal(channels),
        rays=rays,
    )
    return {name: value.to(dtype) for name, value in scene.items()}


@pytest.fixture(scope="session")
def scene():
    return make_scene


def relative_error(a: Tensor, b: Tensor) -> float:
    """Relative L2 error, and the absolute one of what is as good as zero."""
    a, b = a.detach().double().cpu(), b.detach().double().cpu()
    return ((a - b).norm() / b.norm().clamp(min=1e-5)).item()


def compare_with_reference(
    inputs: dict[str, Tensor],
    backend: str,
    forward: float,
    backward: float,
    device: str = "cpu",
    beside_torch: float = 0.0,
    **options: float,
) -> None:
    """Latent and all gradients against the float64 reference, by their relative errors.

    Gradients may also be that many times as wrong as those of the backend "torch" in the same precision: scenes at
    random have some whose gradients it does not resolve.
    """
    inputs = {name: value.detach().to(device).requires_grad_() for name, value in inputs.items()}
    double = {name: value.detach().cpu().double().requires_grad_() for name, value in inputs.items()}
    latent = hvs.rasterize(**inputs, backend=backend, **options)
    wanted = hvs.rasterize(**double, backend="reference", **options)
    assert relative_error(latent, wanted) <= forward
    generator = torch.Generator().manual_seed(1)
    cotangent = torch.randn(wanted.shape, generator=generator, dtype=torch.float64)
    gradients = torch.autograd.grad(latent, list(inputs.values()), cotangent.to(latent), allow_unused=True)
    expected = torch.autograd.grad(wanted, list(double.values()), cotangent)
    others = expected
    if beside_torch:
        other = hvs.rasterize(**inputs, backend="torch", **options)
        others = torch.autograd.grad(other, list(inputs.values()), cotangent.to(other), allow_unused=True)
    for name, found, right, other in zip(inputs, gradients, expected, others, strict=True):
        assert found.dtype == inputs[name].dtype
        assert found.isfinite().all(), name
        assert relative_error(found, right) <= max(backward, beside_torch * relative_error(other, right)), name


@pytest.fixture(scope="session")
def relative():
    return relative_error


@pytest.fixture(scope="session")
def compare():
    return compare_with_reference


@pytest.fixture(
    params=[
        dict(means=1e30),
        dict(means=-1e30),
        dict(means=0.0),
        dict(scales=1e-30),
        dict(scales=1e30),
        dict(rotations=0.0),
        dict(rotations=1e30),
        dict(features=1e38),
        dict(rays=0.0),
        dict(rays=1e30),
        dict(rays=-1.0),
        dict(means=1e30, scales=1e30),
        dict(means=1e30, scales=1e-30, rotations=-1e30),
    ],
    ids=str,
)
def extreme(request):
    """Arguments that are finite, and as far from sense as can be."""
    return request.param


@pytest.fixture
def fisheye():
    """Gaussians all around a lens that sees a little more than what is before it, in float32: the rays at its rim look
    sideways and backwards, those of the corners straight back, and tiles with such a ray have no bounds."""
    generator = torch.Generator().manual_seed(0)
    count, side = 16, 34
    means = 2.5 * F.normalize(torch.randn(1, count, 3, generator=generator), dim=-1)
    y, x = torch.meshgrid(*[torch.linspace(-1, 1, side)] * 2, indexing="ij")
    radius = (x * x + y * y).sqrt()
    angle = (radius * math.radians(92)).clamp(max=math.pi)
    sine = angle.sin() / radius
    return dict(
        means=means,
        rotations=torch.eye(3).expand(1, count, 3, 3).clone(),
        scales=torch.full((1, count, 3), 0.15),
        features=torch.randn(1, count, 3, generator=generator),
        background=torch.zeros(1, 3),
        rays=F.normalize(torch.stack((x * sine, y * sine, angle.cos()), -1), dim=-1)[None],
    )


@pytest.fixture
def singular(scene):
    """Gaussians in float32, the first forty of which have rotations that are none: all their numbers are zero or
    the same, or two columns are equal but for their sign, and rounding alone keeps them from spanning nothing."""
    inputs = scene(44, 20, 20, dtype=torch.float32)
    rotations = inputs["rotations"]
    rotations[0, 0], rotations[0, 1:4] = 0, 0.7
    for i in range(4, 40):
        rotations[0, i, :, i % 3] = rotations[0, i, :, (i + 1) % 3] * (-1) ** i
    return inputs


@pytest.fixture
def plates(scene):
    """Gaussians three hundred times as long and wide as they are thick, turned every way, in float32."""
    inputs = scene(10, 24, 40, 5, dtype=torch.float32)
    generator = torch.Generator().manual_seed(2)
    spread = torch.rand(1, 10, 3, generator=generator)
    return inputs | dict(
        means=spread * torch.tensor([2.0, 1.0, 3.0]) + torch.tensor([-1.0, -0.5, 2.0]),
        scales=torch.tensor([0.3, 0.3, 0.001]).expand(1, 10, 3).clone(),
    )


@pytest.fixture
def needles(scene):
    """Gaussians in float32 whose long axes point at the camera but for rounding, as those of depth maps' pixels do."""
    inputs = scene(60, 40, 40)
    means = inputs["means"]
    means[..., 2] = means[..., 2].abs() + 1
    # Through a long lens: in a wide tile, whose rays differ much, they would be found all the same.
    means[..., :2] *= 0.1
    inputs["rays"] = F.normalize(inputs["rays"] * torch.tensor([0.1, 0.1, 1.0]), dim=-1)
    long = F.normalize(means, dim=-1)
    first = F.normalize(torch.linalg.cross(long, torch.ones_like(long)), dim=-1)
    inputs["rotations"] = torch.stack((first, torch.linalg.cross(long, first), long), -1)
    inputs["scales"] = torch.tensor([0.02, 0.02, 0.1]).expand(1, 60, 3)
    return {name: value.float() for name, value in inputs.items()}


@pytest.fixture
def panoptic_pose():
    """108 limbs of a crumpled body in float32."""
    skeleton = hvs.skeletons.PANOPTIC
    generator = torch.Generator().manual_seed(3)
    points = torch.randn(1, len(skeleton.joints), 3, generator=generator) * 0.1 + torch.tensor([0.1, 0.0, 2.5])
    means, rotations, scales = hvs.limb_gaussians(points, skeleton)
    K = torch.tensor([[90.0, 0, 48], [0, 90.0, 40], [0, 0, 1]])
    rays = hvs.Camera(K, torch.eye(3), torch.zeros(3), torch.zeros(0), 80, 96).rays()[None]
    features = torch.randn(1, len(skeleton.edges), 16, generator=generator)
    background = torch.randn(1, 16, generator=generator)
    inputs = dict(means=means, rotations=rotations, scales=scales)
    return inputs | dict(features=features, background=background, rays=rays)
