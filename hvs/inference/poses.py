"""Poses of a capture as the rasteriser draws them, a Gaussian per limb."""

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

import hvs
from hvs.data import Sequence, find_sequences
from hvs.data.datasets import load_view
from hvs.data.stores import DataError
from hvs.geometry import Camera, Skeleton
from hvs.pictures import PART_COLOURS, mosaic
from hvs.runtime import UserError, write_atomically

from .footage import choose
from .paths import frame_person, look_at
from .shapes import (
    ALPHAS,
    LARGEST,
    LAST_SEED,
    PAPER,
    Rasterising,
    check_range,
    choose_device,
    choose_file,
    palette,
    render,
)

# Pictures beside one another, and poses in all.
COLUMNS, MOST = 4, 1000
# Where the virtual camera stands: metres away, part of that above the person, and radians beside their front. It shows
# this radius at least, in metres, of somebody with one known joint.
DISTANCE, ABOVE, BESIDE, NARROWEST = 4.0, 0.15, 0.45, 0.1
Colours = Literal["limb", "part"]


@dataclass(frozen=True)
class Poses(Rasterising):
    """A picture of poses of a capture, a Gaussian per limb, as the network gets to see them."""

    root: Path | None = None
    """Folder of a capture. The sample capture, made if it is not there yet, by default."""
    sequence: str | None = None
    """Name of the sequence in the capture. All of them by default."""
    frames: tuple[int, ...] = ()
    """Which frames of the sequence, or of the first one. Random ones by default."""
    count: int = 8
    """Of random frames."""
    view: str | None = None
    """Camera of the capture to see them by, with its images beside. A virtual one before each person by default."""
    colours: Colours = "limb"
    """One for each limb of the body, or one for each part: body, hands, face."""
    alpha: float = 0.025
    """How sharply a limb ends; smaller is sharper."""
    size: int = 256
    """Side of each picture, in pixels."""
    seed: int = 0
    """Of the random frames."""
    out: Path = Path("runs/shapes/poses.png")
    """PNG file."""

    def __post_init__(self) -> None:
        check_range("count", self.count, MOST)
        check_range("size", self.size, LARGEST // COLUMNS)
        check_range("alpha", self.alpha, *ALPHAS)
        check_range("seed", self.seed, LAST_SEED, 0)


def draw_poses(settings: Poses) -> None:
    device = choose_device(settings)
    file = choose_file(settings.out, settings.out)
    drawn, beside = [], []
    chosen = choose_poses(settings)
    for sequence, frame in tqdm(chosen, "poses", unit="pose"):
        points, valid = sequence.points(frame)
        if not valid.any():
            raise UserError(f"{sequence.folder}: frame {frame}: all joints are unknown")
        camera, image = see(sequence, frame, points, valid, settings)
        drawn.append(draw_pose(points, valid, camera, sequence.layout.skeleton, settings, device))
        beside += [] if image is None else [image]
    rows = []
    for first in range(0, len(drawn), COLUMNS):
        rows += [pictures[first : first + COLUMNS] for pictures in (beside, drawn) if pictures]
    sheet = mosaic(rows)
    write_atomically(file, lambda path: sheet.save(path, "PNG"))
    for sequence, frame in chosen:
        print(f"pose     {sequence.folder}, frame {frame}")
    print(f"picture  {file}")


def see(sequence: Sequence, frame: int, points: Tensor, valid: Tensor, settings: Poses) -> tuple[Camera, Tensor | None]:
    """The camera to see a pose by, and its image [3, size, size] if it is the capture's."""
    if settings.view is None:
        return before(points, valid, sequence, settings.size), None
    seen = load_view(close_up(sequence), frame, settings.view, settings.size, "centre")
    if seen is None:
        raise UserError(f"{sequence.folder}: frame {frame}, view {settings.view}: nobody is in the image")
    return seen.camera, seen.image


def draw_pose(
    points: Tensor, valid: Tensor, camera: Camera, skeleton: Skeleton, settings: Poses, device: torch.device
) -> Tensor:
    """The limbs between joints [J, 3] in the world that are valid [J], as a picture [3, size, size] on the CPU."""
    whole = valid[torch.tensor(skeleton.edges)].all(1).to(device)  # [N]
    points, camera = points.to(device), camera.to(device)
    colours = torch.tensor(limb_colours(skeleton, settings.colours), device=device)
    limbs = (v[whole] for v in (*hvs.limb_gaussians(camera.to_camera(points), skeleton), colours))
    background = points.new_tensor(PAPER)
    return render(*limbs, background, camera.rays(), alpha=settings.alpha, backend=settings.backend).cpu()


def limb_colours(skeleton: Skeleton, colours: Colours) -> list[list[float]]:
    """A colour in 0..1 for each limb."""
    first, last = skeleton.parts["body"]
    body = [max(edge) for edge in skeleton.edges if first <= max(edge) < last]
    wheel = iter(palette(torch.arange(len(body)) / len(body)).tolist())
    found = []
    for edge in skeleton.edges:
        part = next(name for name, (start, stop) in skeleton.parts.items() if start <= max(edge) < stop)
        plain = [value / 255 for value in PART_COLOURS[part]]
        found.append(next(wheel) if part == "body" and colours == "limb" else plain)
    return found


def before(points: Tensor, valid: Tensor, sequence: Sequence, size: int) -> Camera:
    """A camera a little beside and above a person's front, who fills its picture."""
    up = torch.tensor(sequence.layout.up)
    centre, radius = frame_person(points[valid])
    shoulders = [sequence.layout.skeleton.joints.index(name) for name in ("LShoulder", "RShoulder")]
    # Whose shoulders are unknown is seen from anywhere.
    left = points[shoulders[0]] - points[shoulders[1]] if valid[shoulders].all() else torch.tensor((1.0, 0.0, 0.0))
    front = F.normalize(torch.linalg.cross(left, up), dim=0)
    side = torch.linalg.cross(up, front)
    outward = math.cos(BESIDE) * front + math.sin(BESIDE) * side + ABOVE * up
    return look_at(centre + DISTANCE * F.normalize(outward, dim=0), centre, max(radius, NARROWEST), up, size)


def choose_poses(settings: Poses) -> list[tuple[Sequence, int]]:
    """Sequences and frames, those asked for or random ones, in ascending order.

    Raises:
        DataError: no such capture, or a broken one.
        UserError: it has no such sequence, frame or view.
    """
    sequences = open_capture(settings.root, settings.sequence)
    if settings.view is not None:
        for sequence in sequences:
            choose("view", settings.view, sequence.views)
    if settings.frames:
        return [(sequences[0], choose_frame(sequences[0], frame)) for frame in settings.frames]
    known = [(sequence, frame) for sequence in sequences for frame in sequence.available(sequence.layout.points)]
    if not known:
        raise UserError(f"{sequences[0].folder}: no 3D poses")
    count = min(settings.count, len(known))
    places = np.random.default_rng(settings.seed).choice(len(known), count, replace=False)
    return [known[place] for place in sorted(places)]


def open_capture(root: Path | None, name: str | None = None) -> list[Sequence]:
    """All sequences of a capture, by default the sample, or the one of that name."""
    sequences = {sequence.name: sequence for sequence in find_sequences(root or sample_capture(), "all")}
    return list(sequences.values()) if name is None else [sequences[choose("sequence", name, sequences)]]


def sample_capture() -> Path:
    """Where the sample capture lies; it is made first if it is not there yet."""
    try:
        from hvs.data.sample import make_sample

        return make_sample()
    except ModuleNotFoundError as error:
        raise UserError(f"the sample capture needs the package {error.name}: pip install 'hvs[sample]'") from error


def choose_frame(sequence: Sequence, frame: int | None) -> int:
    """That frame of a sequence, or the middle one that has a 3D pose."""
    frames = sequence.available(sequence.layout.points)
    if not frames:
        raise DataError(f"{sequence.folder}: no 3D poses")
    if frame is None:
        return frames[len(frames) // 2]
    if frame not in frames:
        raise UserError(f"frame: got {frame}, wanted one of {frames[0]} to {frames[-1]} of {sequence.folder}")
    return frame


def close_up(sequence: Sequence) -> Sequence:
    """The sequence with images cut close around the person, whatever the data set does."""
    layout = replace(sequence.layout, crop_side=None)
    return replace(sequence, layout=layout)
