"""Poses of a capture as the rasteriser draws them, one Gaussian per limb."""

import math
from copy import copy
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
from hvs.data.layouts import IMAGES, MASKS
from hvs.data.sample import make_sample
from hvs.data.stores import DataError
from hvs.geometry import Camera, Skeleton
from hvs.pictures import PART_COLOURS, mosaic, part_of
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

# Pictures per row, and the largest number of poses.
COLUMNS, MOST = 4, 1000
# The virtual camera: distance in metres, height above the person as a fraction of it, angle from their front in
# radians, and the least radius it shows, in metres, for somebody with one known joint.
DISTANCE, ABOVE, BESIDE, NARROWEST = 4.0, 0.15, 0.45, 0.1
Colours = Literal["limb", "part"]


@dataclass(frozen=True)
class Poses(Rasterising):
    """A picture of poses of a capture, one Gaussian per limb, as the network sees them."""

    root: Path | None = None
    """Folder of a capture. By default the sample capture, which is made first if missing."""
    sequence: str | None = None
    """Name of the sequence in the capture. All of them by default."""
    frames: tuple[int, ...] = ()
    """Which frames of the sequence, or of the first one if none is named. Random ones by default."""
    count: int = 8
    """Number of random frames."""
    view: str | None = None
    """Camera of the capture to draw them for, next to its images. By default a virtual one in front of each person."""
    colours: Colours = "limb"
    """One colour for each limb of the body, or one for each part: body, hands, face."""
    alpha: float = 0.025
    """How sharply a limb ends; smaller is sharper."""
    size: int = 256
    """Side of each picture, in pixels."""
    seed: int = 0
    """Random seed for choosing frames."""
    out: Path = Path("runs/shapes/poses.png")
    """PNG file."""

    def __post_init__(self) -> None:
        check_range("count", self.count, 1, MOST)
        check_range("size", self.size, 1, LARGEST // COLUMNS)
        check_range("alpha", self.alpha, *ALPHAS)
        check_range("seed", self.seed, 0, LAST_SEED)


@dataclass(frozen=True)
class Seen:
    """A pose of a frame, and the camera that sees it.

    Attributes:
        points, valid: joints in the world [J, 3], and which of them are known [J].
        camera: camera of the picture.
        image: what the capture's camera saw, [3, size, size]; None for a virtual one.
    """

    sequence: Sequence
    frame: int
    points: Tensor
    valid: Tensor
    camera: Camera
    image: Tensor | None = None


def draw_poses(settings: Poses) -> None:
    """Draw the poses, with the capture's images above them if a view is given, into a PNG file."""
    device = choose_device(settings)
    file = choose_file(settings.out)
    chosen = choose_poses(settings)
    drawn, beside = [], []
    for seen in tqdm(chosen, "poses", unit="pose"):
        drawn.append(draw_pose(seen.points, seen.valid, seen.camera, seen.sequence.layout.skeleton, settings, device))
        beside += [] if seen.image is None else [seen.image]
    rows = []
    for first in range(0, len(drawn), COLUMNS):
        rows += [pictures[first : first + COLUMNS] for pictures in (beside, drawn) if pictures]
    sheet = mosaic(rows)
    write_atomically(file, lambda path: sheet.save(path, "PNG"))
    for seen in chosen:
        print(f"pose     {seen.sequence.folder}, frame {seen.frame}")
    print(f"picture  {file}")


def see(sequence: Sequence, frame: int, settings: Poses) -> Seen:
    """A pose and the camera that sees it.

    Raises:
        DataError: a file is missing or broken.
        UserError: no joint is known, or nobody is in the image.
    """
    points, valid = sequence.points(frame)
    if not valid.any():
        raise UserError(f"{sequence.folder}: frame {frame}: all joints are unknown")
    if settings.view is None:
        return Seen(sequence, frame, points, valid, camera_in_front(points, valid, sequence, settings.size))
    seen = load_view(close_up(sequence), frame, settings.view, settings.size, "centre")
    if seen is None:
        raise UserError(f"{sequence.folder}: frame {frame}, view {settings.view}: nobody is in the image")
    return Seen(sequence, frame, points, valid, seen.camera, seen.image)


def draw_pose(
    points: Tensor, valid: Tensor, camera: Camera, skeleton: Skeleton, settings: Poses, device: torch.device
) -> Tensor:
    """The limbs between the valid [J] of the joints [J, 3] in the world, as a picture [3, size, size] on the CPU."""
    whole = valid[torch.tensor(skeleton.edges)].all(1).to(device)  # [N]
    points, camera = points.to(device), camera.to(device)
    colours = torch.tensor(limb_colours(skeleton, settings.colours), device=device)
    limbs = (v[whole] for v in (*hvs.limb_gaussians(camera.to_camera(points), skeleton), colours))
    background = points.new_tensor(PAPER)
    return render(*limbs, background, camera.rays(), alpha=settings.alpha, backend=settings.backend).cpu()


def limb_colours(skeleton: Skeleton, colours: Colours) -> list[list[float]]:
    """A colour in 0..1 for each limb."""
    parts = [part_of(edge, skeleton) for edge in skeleton.edges]
    count = parts.count("body")
    wheel = iter(palette(torch.arange(count) / count).tolist())
    plain = {name: [value / 255 for value in colour] for name, colour in PART_COLOURS.items()}
    return [next(wheel) if part == "body" and colours == "limb" else plain[part] for part in parts]


def camera_in_front(points: Tensor, valid: Tensor, sequence: Sequence, size: int) -> Camera:
    """A camera a little to the side of and above a person's front; they fill its picture."""
    up = torch.tensor(sequence.layout.up)
    centre, radius = frame_person(points[valid])
    shoulders = [sequence.layout.skeleton.joints.index(name) for name in ("LShoulder", "RShoulder")]
    # Somebody with unknown shoulders is seen from any side.
    left = points[shoulders[0]] - points[shoulders[1]] if valid[shoulders].all() else torch.tensor((1.0, 0.0, 0.0))
    front = F.normalize(torch.linalg.cross(left, up), dim=0)
    side = torch.linalg.cross(up, front)
    outward = math.cos(BESIDE) * front + math.sin(BESIDE) * side + ABOVE * up
    return look_at(centre + DISTANCE * F.normalize(outward, dim=0), centre, max(radius, NARROWEST), up, size)


def choose_poses(settings: Poses) -> list[Seen]:
    """Poses of the requested frames, or of random ones that can be seen, in ascending order.

    Raises:
        DataError: no such capture, or a broken one.
        UserError: it has no such sequence, frame or view, or nobody can be seen there.
    """
    sequences = open_capture(settings.root, settings.sequence)
    if settings.view is not None:
        for sequence in sequences:
            choose("view", settings.view, sequence.views)
    if settings.frames:
        frames = [choose_frame(sequences[0], frame, settings.view, "frames") for frame in settings.frames]
        return [see(sequences[0], frame, settings) for frame in frames]
    known = [(sequence, frame) for sequence in sequences for frame in with_pose(sequence, settings.view)]
    if not known:
        raise UserError(f"{sequences[0].folder}: {_no_poses(settings.view)}")
    found: dict[int, Seen] = {}
    trouble = None
    for place in np.random.default_rng(settings.seed).permutation(len(known)).tolist():
        try:
            found[place] = see(*known[place], settings)
        except UserError as error:
            # No frame in particular was requested, so another one will do.
            trouble = error
        if len(found) == settings.count:
            break
    if trouble and not found:
        raise trouble
    return [found[place] for place in sorted(found)]


def with_pose(sequence: Sequence, view: str | None = None) -> list[int]:
    """Frames, ascending, that have a 3D pose and, if a view is given, its image, mask and keypoints."""
    frames = set(sequence.available(sequence.layout.points))
    if view is not None:
        for place in (IMAGES, MASKS, sequence.layout.keypoints):
            frames &= set(sequence.available(place, view))
    return sorted(frames)


def _no_poses(view: str | None) -> str:
    return "no 3D poses" if view is None else f"view {view}: no frame has a 3D pose, image, mask and keypoints"


def open_capture(root: Path | None, name: str | None = None) -> list[Sequence]:
    """All sequences of a capture, by default the sample, or only the one of that name."""
    sequences = {sequence.name: sequence for sequence in find_sequences(root or make_sample(), "all")}
    return list(sequences.values()) if name is None else [sequences[choose("sequence", name, sequences)]]


def choose_frame(sequence: Sequence, frame: int | None, view: str | None = None, argument: str = "frame") -> int:
    """That frame of a sequence, or by default the middle one, among those with a 3D pose that the view can see."""
    frames = with_pose(sequence, view)
    if not frames:
        raise DataError(f"{sequence.folder}: {_no_poses(view)}")
    if frame is None:
        return frames[len(frames) // 2]
    if frame not in frames:
        where = sequence.folder if view is None else f"{sequence.folder}, view {view}"
        raise UserError(f"{argument}: got {frame}, wanted one of {frames[0]} to {frames[-1]} of {where}")
    return frame


def close_up(sequence: Sequence) -> Sequence:
    """The sequence with images cut close around the person, whatever the data set does."""
    found = copy(sequence)
    found.layout = replace(sequence.layout, crop_side=None)
    return found
