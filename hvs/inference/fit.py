"""``hvs.rasterize`` on its own: coloured Gaussians fitted to images whose cameras are known, exactly or nearly.

No network is involved. The person is a cloud of ellipsoids in the world, each with a position, three axes and a colour,
and Adam adjusts them until their pictures match the images.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL.Image import Image
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from hvs.data import Sequence
from hvs.data.datasets import load_view
from hvs.data.layouts import IMAGES, MASKS
from hvs.export import save_ply, visible_scales
from hvs.geometry import Camera
from hvs.metrics import psnr_foreground
from hvs.pictures import error_to_rgb, mosaic
from hvs.runtime import UserError, make_folder, refuse_folders, seed_everything, write_atomically

from .cloud import ALPHA, LARGEST, SMALLEST, Cloud, Corrections
from .footage import choose
from .poses import choose_frame, close_up, open_capture
from .shapes import LAST_SEED, Rasterising, check_range, choose_device, visible

# Views per step, and learning rates.
VIEWS_PER_STEP = 3
RATES = dict(means=3e-3, quaternions=1e-2, log_scales=1e-2, logits=4e-2, tints=2e-2, turns=5e-4, moves=3e-4)
# Random candidates for the initial means of the Gaussians, and the margin around the joints, in metres.
PLACES, AROUND = 200_000, 0.15
# For `visible_scales` in fit.ply: in a dense cloud a Gaussian weighs only a few times as much as its neighbours.
CONTRAST = 5.0
# Limits that keep a fit to minutes rather than hours, and the number of views in the mosaic.
MOST_GAUSSIANS, LARGEST_SIZE, SHOWN = 20_000, 1024, 5
# Masks of fewer pixels a side have no volume in common.
SMALLEST_SIZE = 16


@dataclass(frozen=True)
class Fit(Rasterising):
    """Fit coloured Gaussians to a person's images from several sides, by gradient descent through the rasteriser."""

    root: Path | None = None
    """Folder of a capture. By default the sample capture, which is made first if missing."""
    sequence: str | None = None
    """Name of the sequence in the capture. The first one by default."""
    frame: int | None = None
    """Which frame. The middle one by default."""
    held_out: str | None = None
    """Camera that is left out of the fit and predicted. The one in the middle of the list by default."""
    count: int = 400
    """Number of Gaussians."""
    steps: int = 400
    """Steps of Adam, on three views each."""
    size: int = 128
    """Side of the images, in pixels."""
    refine_cameras: bool = False
    """Also correct the rotation and position of every camera but the first."""
    seed: int = 0
    """Random seed of the initial positions and of the views of each step."""
    out: Path = Path("runs/fit")
    """Folder for fit.png, fit.npz, and fit.ply (for Gaussian-splatting viewers)."""

    def __post_init__(self) -> None:
        check_range("count", self.count, 1, MOST_GAUSSIANS)
        check_range("size", self.size, SMALLEST_SIZE, LARGEST_SIZE)
        check_range("steps", self.steps, 1, 1_000_000)
        check_range("seed", self.seed, 0, LAST_SEED)


@dataclass(frozen=True)
class Shots:
    """Images [V, 3, H, W] in 0..1 of one moment, masks [V, 1, H, W], their cameras, and the names of the views."""

    images: Tensor
    masks: Tensor
    cameras: Camera
    names: list[str]

    def __getitem__(self, views: list[int]) -> "Shots":
        names = [self.names[view] for view in views]
        return Shots(self.images[views], self.masks[views], self.cameras[views], names)


def fit(settings: Fit) -> None:
    """Fit Gaussians to all views of a frame but one, print how well all are predicted, and write picture and arrays."""
    device = choose_device(settings)
    seed_everything(settings.seed)
    sequence = open_capture(settings.root, settings.sequence)[0]
    frame = choose_frame(sequence, settings.frame)
    shots, points = load_shots(sequence, frame, settings.size, device)
    name = choose("held_out", settings.held_out, shots.names, shots.names[len(shots.names) // 2])
    held = shots.names.index(name)
    seen = [view for view in range(len(shots.names)) if view != held]
    folder = make_folder(settings.out)
    refuse_folders(*(folder / f"fit.{ending}" for ending in ("png", "npz", "ply")))
    background = torch.tensor(sequence.layout.skeleton.background, device=device) / 255
    cloud = start(shots[seen], points, background, settings.count)
    corrections = Corrections(shots[seen].cameras) if settings.refine_cameras else None
    try:
        optimise(cloud, shots[seen], settings.steps, corrections, settings.backend)
    except KeyboardInterrupt:
        print("note: stopped before the last step; the results so far are written", file=sys.stderr)
    if corrections:
        shots = corrected(shots, seen, corrections)

    with torch.no_grad():
        pictures = picture(cloud, shots, settings.backend)
        scores = psnr_foreground(pictures, shots.images, shots.masks)
        plain = background[:, None, None].expand_as(pictures)
        baseline = psnr_foreground(plain, shots.images, shots.masks)
    sheet = draw_fit(pictures.cpu(), shots.images.cpu(), shots.names, held)
    write_atomically(folder / "fit.png", lambda path: sheet.save(path, "PNG"))
    arrays = as_arrays(cloud, shots)
    write_atomically(folder / "fit.npz", lambda path: np.savez(path, **arrays))
    axes = cloud.rotations.detach(), visible_scales(cloud.scales.detach(), ALPHA, CONTRAST)
    save_ply(folder / "fit.ply", cloud.means.detach(), *axes, cloud.logits.detach().sigmoid())
    print(f"images   {sequence.folder}, frame {frame}, views {', '.join(shots.names)}")
    print("PSNR in the person's box     fit    plain background")
    print(f"{len(seen):3d} views fitted to     {scores[seen].mean():8.2f} dB {baseline[seen].mean():11.2f} dB")
    print(f"held-out view {name:10s}{scores[held]:8.2f} dB {baseline[held]:11.2f} dB")
    if corrections:
        turned, moved = corrections.turns.detach().norm(dim=1), corrections.moves.detach().norm(dim=1)
        degrees, millimetres = turned.rad2deg().max().item(), 1000 * moved.max().item()
        print(f"cameras turned by up to {degrees:.2f} degrees, moved by up to {millimetres:.1f} mm")
    print(f"picture  {folder / 'fit.png'}")
    print(f"arrays   {folder / 'fit.npz'}")
    print(f"viewers  {folder / 'fit.ply'}")


def picture(cloud: Cloud, shots: Shots, backend: str = "auto") -> Tensor:
    """The cloud as each of the cameras sees it, [V, 3, H, W]."""
    views = [shots.cameras[[view]] for view in range(len(shots.names))]
    return torch.cat([cloud(camera, camera.rays(), backend=backend) for camera in views])


def corrected(shots: Shots, seen: list[int], corrections: Corrections) -> Shots:
    """The shots with corrected cameras for the views that were fitted."""
    cameras = corrections.corrected(shots.cameras[seen])
    R, t = shots.cameras.R.clone(), shots.cameras.t.clone()
    R[seen], t[seen] = cameras.R, cameras.t
    return replace(shots, cameras=replace(shots.cameras, R=R, t=t))


def load_shots(sequence: Sequence, frame: int, size: int, device: torch.device) -> tuple[Shots, Tensor]:
    """All views of a frame that see somebody, and the joints in the world.

    Raises:
        DataError: a file is missing or broken.
        UserError: fewer than three views see anybody, or all joints are unknown.
    """
    places = IMAGES, MASKS, sequence.layout.keypoints
    views = [view for view in sequence.views if all(frame in sequence.available(place, view) for place in places)]
    found = [load_view(close_up(sequence), frame, view, size, "centre") for view in views]
    found = [view for view in found if view is not None]
    if len(found) < 3:
        raise UserError(f"{sequence.folder}: frame {frame}: {len(found)} views see anybody, wanted at least 3")
    points, valid = sequence.points(frame)
    if not valid.any():
        raise UserError(f"{sequence.folder}: frame {frame}: all joints are unknown")
    images, masks = (torch.stack([getattr(view, name) for view in found]).to(device) for name in ("image", "mask"))
    cameras = Camera.stack([view.camera for view in found]).to(device)
    return Shots(images, masks, cameras, [view.name for view in found]), points[valid].to(device)


def start(shots: Shots, points: Tensor, background: Tensor, count: int) -> Cloud:
    """Spheres at random places in the visual hull, in the mean colours that the views show there.

    Raises:
        UserError: no place around the joints [J, 3] lies within all masks.
    """
    low, high = points.amin(0) - AROUND, points.amax(0) + AROUND
    places = low + (high - low) * torch.rand(PLACES, 3, device=points.device)
    within = (look_up(shots.masks, shots.cameras, places) > 0.5).all(0)[:, 0]  # [PLACES]
    if not within.any():
        raise UserError("masks: no place in space lies within all of them; do the cameras belong to the images?")
    volume = (high - low).prod() * within.float().mean()
    hull = places[within]
    # The same place may occur twice: the gradients tell the two apart as soon as their colours differ.
    means = hull[torch.arange(count, device=hull.device) % len(hull)]
    colours = look_up(shots.images, shots.cameras, means).mean(0)
    spacing = (volume / count).item() ** (1 / 3)
    scale = min(max(visible(spacing, ALPHA), 1.1 * SMALLEST), LARGEST)
    return Cloud(means, scale, colours, background)


def look_up(images: Tensor, cameras: Camera, points: Tensor) -> Tensor:
    """What images [V, C, H, W] show at world points [P, 3], [V, P, C]; zero outside the image."""
    pixels = cameras.project(points.expand(len(images), -1, -1))
    size = pixels.new_tensor((cameras.width, cameras.height))
    found = F.grid_sample(images, ((2 * pixels + 1) / size - 1)[:, None], align_corners=False)  # [V, C, 1, P]
    return found[:, :, 0].mT


def optimise(
    cloud: Cloud,
    shots: Shots,
    steps: int,
    corrections: Corrections | None = None,
    backend: str = "auto",
    watch: Callable[[int, Tensor], None] = lambda step, loss: None,
) -> None:
    """Fit the cloud, and the cameras if there are corrections, until its pictures match the images.

    Args:
        watch: called with each step and its loss, the mean absolute difference.
    """
    parts = [(cloud, name) for name in ("means", "quaternions", "log_scales", "logits", "tints")]
    parts += [(corrections, name) for name in ("turns", "moves") if corrections]
    optimizer = torch.optim.Adam([dict(params=[getattr(part, name)], lr=RATES[name]) for part, name in parts])
    fade = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    rays = shots.cameras.rays()
    square = []
    bar = tqdm(range(steps), "fit", unit="step")
    for step in bar:
        views = torch.randperm(len(rays))[:VIEWS_PER_STEP].tolist()
        seen = shots.cameras[views], rays[views]
        if corrections:
            seen = corrections(*seen, views)
        difference = cloud(*seen, backend=backend) - shots.images[views]
        loss = difference.abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        fade.step()
        watch(step, loss.detach())
        square.append(difference.detach().square().mean())
        # Reading the numbers waits for the GPU, so it is done seldom.
        if len(square) == 20 or step == steps - 1:
            bar.set_postfix_str(f"PSNR {-10 * torch.stack(square).mean().log10().item():.2f} dB")
            square = []


def draw_fit(pictures: Tensor, images: Tensor, names: list[str], held: int) -> Image:
    """Image, fit and error, one below the other, for the held-out view and some others."""
    others = [view for view in range(len(names)) if view != held]
    places = np.linspace(0, len(others) - 1, min(SHOWN - 1, len(others))).round().astype(int)
    shown = [held, *(others[place] for place in places)]
    captions = [f"{names[held]}, held out", *(names[view] for view in shown[1:])]
    errors = error_to_rgb(pictures, images)
    return mosaic([kind[shown] for kind in (images, pictures, errors)], captions)


def as_arrays(cloud: Cloud, shots: Shots) -> dict[str, np.ndarray]:
    """The fitted cloud, in the world and in metres, and the cameras of the images."""
    tensors = dict(
        means=cloud.means,
        rotations=cloud.rotations,
        scales=cloud.scales,
        colours=cloud.logits.sigmoid(),
        tints=cloud.tints,
        background=cloud.background,
        K=shots.cameras.K,
        R=shots.cameras.R,
        t=shots.cameras.t,
        distortion=shots.cameras.distortion,
    )
    return dict({name: tensor.detach().cpu().numpy() for name, tensor in tensors.items()}, view=np.array(shots.names))
