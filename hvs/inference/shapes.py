"""The renderer on its own: coloured spheres and ellipsoids, how much of the background they cover, and their depth."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

import hvs
from hvs.geometry.rotations import rotate
from hvs.kernels import backends
from hvs.pictures import heat, mosaic
from hvs.runtime import UserError, make_folder, refuse_folders, select_device, write_atomically

Shape = Literal["sphere", "ellipsoid", "two-spheres", "spheres", "ellipsoids"]
Backend = Literal["auto", "triton", "torch", "reference"]
Gaussians = tuple[Tensor, Tensor, Tensor, Tensor]
# Distance of the shapes in metres, focal length as a multiple of the picture's side, and radius in metres of a cloud of
# many.
DISTANCE, FOCAL, CLOUD = 2.0, 2.0, 0.4
# The largest picture, which takes some five gigabytes of memory, and the most shapes, which take minutes to draw.
LARGEST, MOST = 4096, 1_000_000
# The largest random seed, and the range of alpha.
LAST_SEED, ALPHAS = 2**32 - 1, (1e-6, 1000)
# A Gaussian is visible to about this multiple of its standard deviation, times the root of alpha.
SEEN = 1.6
# Floor of the sum of weights: in a very deep scene the background weighs less than the renderer's default floor.
FAINTEST = 1e-20
# Number of bands of coverage, with a line between neighbours.
BANDS = 10
PAPER, DARK = (0.96, 0.94, 0.90), (0.07, 0.07, 0.10)
CORAL, BLUE, GOLD = (0.93, 0.35, 0.29), (0.20, 0.50, 0.82), (0.99, 0.75, 0.24)
PALETTE = (CORAL, GOLD, (0.62, 0.80, 0.36), (0.15, 0.70, 0.66), BLUE, (0.57, 0.37, 0.76))
# Direction to the light (up, left and towards the camera), and how much of a colour is left in the shade.
LIGHT, SHADE = (-0.5, -0.65, -0.57), 0.75


@dataclass(frozen=True)
class Rasterising:
    """Which rasteriser runs, and where."""

    backend: Backend = "auto"
    """Backend of the rasteriser; "auto" takes the best one that the device can run."""
    device: str = "auto"
    """"cpu", "cuda", ...; "auto" takes the GPU if there is one."""


@dataclass(frozen=True)
class Shapes(Rasterising):
    """A picture of spheres or ellipsoids: their colours, how much of the background they cover, and their depth."""

    what: Literal["all", Shape] = "all"
    """Which shapes; "all" draws all five, one below the other."""
    count: int = 300
    """Number of shapes, for "spheres" and "ellipsoids"."""
    radius: float | None = None
    """Standard deviation of a Gaussian, the longest one of an ellipsoid, in metres. By default it fills the picture."""
    alpha: float = 0.025
    """How sharply a Gaussian ends; smaller is sharper, and looks smaller."""
    size: int = 384
    """Side of each picture, in pixels."""
    seed: int = 0
    """Random seed for "spheres"."""
    out: Path | None = None
    """PNG file. runs/shapes/<what>.png by default."""

    def __post_init__(self) -> None:
        check_range("count", self.count, 1, MOST)
        check_range("size", self.size, 1, LARGEST)
        check_range("seed", self.seed, 0, LAST_SEED)
        check_range("alpha", self.alpha, *ALPHAS)
        if self.radius is not None:
            check_range("radius", self.radius, 1e-4, 100)


def draw_shapes(settings: Shapes) -> None:
    """Draw the shapes, a row of three pictures each, into a PNG file."""
    device = choose_device(settings)
    file = choose_file(settings.out or Path("runs/shapes") / f"{settings.what}.png")
    shapes = get_args(Shape) if settings.what == "all" else (settings.what,)
    rows = [draw(SHAPES[shape](settings), settings, device) for shape in tqdm(shapes, "shapes", unit="picture")]
    sheet = mosaic(rows, ["colour", "coverage", "depth"])
    write_atomically(file, lambda path: sheet.save(path, "PNG"))
    print(f"picture  {file}")


def draw(gaussians: Gaussians, settings: Shapes, device: torch.device) -> list[Tensor]:
    """Colour, coverage and depth of Gaussians in front of a camera, [3, size, size] each, on the CPU.

    One call of the rasteriser draws all three: a pixel is the weighted mean of the features, so a feature that is one
    on every Gaussian and zero on the background gives the Gaussians' share of the pixel.
    """
    means, rotations, scales, colours = (v.to(device) for v in gaussians)
    one = torch.ones_like(means[:, :1])
    features = torch.cat((colours, one, means[:, 2:]), 1)  # [N, 5]
    background = F.pad(means.new_tensor(PAPER), (0, 2))
    rays = camera(settings.size, device).rays()
    image = render(
        means, rotations, scales, features, background, rays, alpha=settings.alpha, backend=settings.backend
    ).cpu()
    coverage = image[3].clamp(0, 1)
    return [image[:3], contours(coverage), shade_depth(image[4], coverage)]


def render(*inputs: Tensor, alpha: float, backend: Backend) -> Tensor:
    """:func:`hvs.rasterize` with a background that never fades."""
    with torch.inference_mode():
        return hvs.rasterize(*inputs, alpha=alpha, eps=FAINTEST, backend=backend)


def camera(size: int, device: torch.device) -> hvs.Camera:
    """The camera that sees the shapes, at the origin, with square pictures of this side."""
    focal, centre = FOCAL * size, (size - 1) / 2
    K = torch.tensor([[focal, 0, centre], [0, focal, centre], [0, 0, 1]], device=device)
    zero = torch.zeros(3, device=device)
    return hvs.Camera(K, torch.eye(3, device=device), zero, zero[:0], size, size)


def contours(coverage: Tensor) -> Tensor:
    """Coverage [H, W] in 0..1 as heat-map colours, with a line at every tenth."""
    band = (coverage * BANDS).floor()
    padded = F.pad(band[None], (0, 1, 0, 1), mode="replicate")[0]
    line = (padded[1:, :-1] != band) | (padded[:-1, 1:] != band)
    return heat(coverage) * torch.where(line, 0.6, 1.0)


def shade_depth(depth: Tensor, coverage: Tensor) -> Tensor:
    """Mean depth of the Gaussians, near ones bright, fading into the dark as the background shows."""
    depth = depth / coverage.clamp(min=1e-6)
    seen = coverage > 0.5
    low, high = depth[seen].aminmax() if seen.any() else depth.aminmax()
    near = (low + high - 2 * depth) / (high - low).clamp(min=1e-3)
    colours = heat((0.6 + 0.3 * near).clamp(0, 1))
    return torch.lerp(colours.new_tensor(DARK)[:, None, None], colours, coverage)


def sphere(settings: Shapes) -> Gaussians:
    return place([(0, 0, 0)], [(settings.radius or 1.0,) * 3], [CORAL])


def ellipsoid(settings: Shapes) -> Gaussians:
    longest = settings.radius or 1.3
    means, _, scales, colours = place([(0, 0, 0)], [(longest, longest / 2, longest / 4)], [BLUE])
    turn = hvs.geometry.rotation_about_axis(F.normalize(torch.tensor([0.3, 0.4, -1.0]), dim=0), torch.tensor(0.7))
    return means, turn[None], scales, colours


def two_spheres(settings: Shapes) -> Gaussians:
    """A near and a far sphere that overlap: the near one weighs more, whichever comes first."""
    radius = settings.radius or 0.7
    return place([(-0.1, 0.05, -0.2), (0.12, -0.06, 0.3)], [(radius,) * 3, (1.2 * radius,) * 3], [CORAL, BLUE])


def spheres(settings: Shapes) -> Gaussians:
    """A ball of spheres of different sizes at random places."""
    random = torch.Generator().manual_seed(settings.seed)
    outward = F.normalize(torch.randn(settings.count, 3, generator=random), dim=1)
    distance = torch.rand(settings.count, 1, generator=random) ** (1 / 3)
    radius = settings.radius or visible(CLOUD * min(0.4, 0.9 * settings.count**-0.4), settings.alpha)
    scales = radius * (0.5 + 0.5 * torch.rand(settings.count, 1, generator=random)).expand(-1, 3)
    turn = torch.atan2(outward[:, 1], outward[:, 0]) / (2 * math.pi)
    colours = light(palette(turn + 0.1 * torch.randn(settings.count, generator=random)), outward * distance)
    return place(ball(settings.count) * outward * distance, scales, colours)


def ellipsoids(settings: Shapes) -> Gaussians:
    """A ball covered by flat petals along spirals, like the seeds of a sunflower."""
    index = torch.arange(settings.count) + 0.5
    height = 1 - 2 * index / settings.count
    angle = math.pi * (3 - math.sqrt(5)) * index
    across = (1 - height**2).sqrt()
    outward = torch.stack((across * angle.cos(), -height, across * angle.sin()), 1)
    # Tilted towards the camera, to show the pole.
    tilt = hvs.geometry.rotation_about_axis(torch.tensor([1.0, 0.0, 0.0]), torch.tensor(0.9))
    along = F.normalize(torch.linalg.cross(outward, torch.tensor([0.0, 1.0, 0.0]).expand_as(outward)), dim=1)
    rotations = tilt @ torch.stack((outward, along, torch.linalg.cross(outward, along)), 2)
    outward = rotate(tilt, outward)
    radius = settings.radius or visible(CLOUD * min(0.5, 2.2 * settings.count**-0.5), settings.alpha)
    scales = radius * torch.tensor([0.35, 0.5, 1.0]).expand(settings.count, 3)
    means, _, scales, colours = place(
        ball(settings.count) * outward, scales, light(palette(index / settings.count), outward)
    )
    return means, rotations, scales, colours


SHAPES: dict[Shape, Callable[[Shapes], Gaussians]] = {
    "sphere": sphere,
    "ellipsoid": ellipsoid,
    "two-spheres": two_spheres,
    "spheres": spheres,
    "ellipsoids": ellipsoids,
}


def place(offsets, scales, colours) -> Gaussians:
    """Gaussians at offsets [N, 3] from the middle of the picture, with the camera's axes."""
    offsets, scales, colours = (torch.as_tensor(v, dtype=torch.float32) for v in (offsets, scales, colours))
    return offsets + offsets.new_tensor((0, 0, DISTANCE)), torch.eye(3).expand(len(offsets), 3, 3), scales, colours


def ball(count: int) -> float:
    """Radius of a ball of `count` shapes; a few stay nearer to the middle, a single one lies in it."""
    return CLOUD * math.sqrt(1 - 1 / count)


def visible(radius: float, alpha: float) -> float:
    """The standard deviation of a Gaussian that appears to have this radius."""
    return radius / (SEEN * math.sqrt(alpha))


def palette(place: Tensor) -> Tensor:
    """Colours [N, 3] of places [N] in 0..1 on a colour wheel."""
    wheel = torch.tensor((*PALETTE, PALETTE[0]))
    place = place % 1 * len(PALETTE)
    below = place.long()
    return torch.lerp(wheel[below], wheel[below + 1], (place - below)[:, None])


def light(colours: Tensor, outward: Tensor) -> Tensor:
    """Colours [N, 3] of surfaces that face directions [N, 3], lit from one side."""
    facing = (outward @ outward.new_tensor(LIGHT)).clamp(min=0)
    return colours * (SHADE + (1 - SHADE) * facing)[:, None]


def choose_device(settings: Rasterising) -> torch.device:
    """The device of the settings; it can run their backend."""
    device = select_device(settings.device)
    try:
        backends.select(settings.backend, torch.empty(0, device=device))
    except ValueError as error:
        raise UserError(str(error)) from error
    return device


def choose_file(file: Path) -> Path:
    """The PNG file to write; its folder is made."""
    if file.suffix.lower() != ".png":
        raise UserError(f"out: got {file}, wanted a name that ends in .png")
    refuse_folders(file)
    make_folder(file.parent)
    return file


def check_range(name: str, value: float, least: float, most: float) -> None:
    """Refuse a setting outside the range, ends included."""
    if not least <= value <= most:
        raise UserError(f"{name}: got {value}, wanted {least} to {most}")
