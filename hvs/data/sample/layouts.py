"""The prepared layouts of the sample: databases as `hvs.data` reads them."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hvs.data.layouts import IMAGES, LAYOUTS, MASKS
from hvs.data.preparation.databases import camera_entry, labels, with_confidence
from hvs.data.stores import write_store
from hvs.geometry import Camera

from .stage import to_world

# Rows are the axes of the written world in the sample's own (x left, y back, z up): Panoptic's y points down.
AXES = {"panoptic": ((1, 0, 0), (0, 0, -1), (0, 1, 0)), "human36m": ((1, 0, 0), (0, 1, 0), (0, 0, 1))}


@dataclass(frozen=True)
class Take:
    """One motion of one person, as it was filmed.

    Attributes:
        dataset: "panoptic" or "human36m", whose joints are used.
        cameras: by view, in the data set's world.
        points: in the data set's world, [frames, J, 3] float64.
        seen: by view, [frames, J, 2] pixels, or [frames, J, 3] with a confidence if the data set has one.
        shots: frame by frame, the picture and mask of each view as JPEG.
    """

    dataset: str
    cameras: dict[str, Camera]
    points: Tensor
    seen: dict[str, Tensor]
    shots: list[list[tuple[bytes, bytes]]]

    @staticmethod
    def of(dataset: str, cameras: dict[str, Camera], points: Tensor, shots: list) -> "Take":
        """A take from cameras and points [frames, J, 3] in the sample's own world."""
        axes, confident = torch.tensor(AXES[dataset]).double(), LAYOUTS[dataset].with_confidence
        pixels = {view: see(camera, points, confident) for view, camera in cameras.items()}
        placed = {view: to_world(camera, axes) for view, camera in cameras.items()}
        return Take(dataset, placed, points @ axes.mT, pixels, shots)


@dataclass(frozen=True)
class Writer:
    """A layout that the sample can be written in.

    Attributes:
        dataset: "panoptic" or "human36m", whose joints and cameras are used.
        name: (subject, take), both from 0 -> the name of the sequence once it is prepared, as in the splits.
        write: (root, name, take) -> None.
        subjects: the most that are possible, if there is a limit.
        views: the least that are possible; poses are triangulated from at least two.
        needs: called first; fails if a package that writing needs is missing.
    """

    dataset: str
    name: Callable[[int, int], str]
    write: Callable[[Path, str, Take], None]
    subjects: int | None = None
    views: int = 1
    needs: Callable[[], Any] | None = None


def see(camera: Camera, points: Tensor, confident: bool) -> Tensor:
    """Pixels of points [frames, J, 3]; if ``confident``, with a confidence, and joints outside the frame are zero."""
    pixels = camera.project(points)
    if not confident:
        return pixels
    last = pixels.new_tensor((camera.width - 1, camera.height - 1))
    inside = ((pixels >= 0) & (pixels <= last)).all(-1, keepdim=True)
    return certain(pixels) * inside


def certain(points: Tensor) -> Tensor:
    """Points [..., n] with a confidence of 1, [..., n + 1]."""
    return with_confidence(points, torch.ones_like(points[..., 0]))


def write_prepared(root: Path, name: str, take: Take) -> None:
    """Write one sequence in the prepared layout."""
    places, folder, frames = LAYOUTS[take.dataset], root / name, range(len(take.points))
    databases = folder / "Databases"
    for index, view in enumerate(take.cameras):
        for place, which in ((IMAGES, 0), (MASKS, 1)):
            write_store(databases / place / f"{view}.lmdb", enumerate(shot[index][which] for shot in take.shots))
        write_store(databases / places.keypoints / f"{view}.lmdb", labels(take.seen[view], frames))
    points = certain(take.points) if places.with_confidence else take.points
    write_store(databases / places.points, labels(points, frames))
    entries = {view: camera_entry(camera) for view, camera in take.cameras.items()}
    (folder / "cameras.json").write_text(json.dumps(entries))


def panoptic_name(subject: int, take: int) -> str:
    return f"subject{subject + 1}/Subsequences/{take}"


def human36m_name(subject: int, take: int) -> str:
    # The published splits number the repetitions of an action like this.
    return f"S{subject + 1}/Sequences/Walking" + (f"_{take}" if take else "")


PREPARED = {
    "panoptic": Writer("panoptic", panoptic_name, write_prepared),
    "human36m": Writer("human36m", human36m_name, write_prepared),
}
