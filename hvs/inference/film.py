"""From people and cameras to the frames of a video, with or without panels next to the picture."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from hvs.geometry import Camera
from hvs.geometry.limbs import copy_once
from hvs.pictures import LatentColours
from hvs.runtime import refuse_folders, refuse_inputs, write_atomically
from hvs.video import check_folder_of_frames, contact_sheet, enlarge, write_animation

from .canvas import place
from .panels import side_by_side, with_poses
from .settings import Drawing
from .studio import Studio

# Frames of a contact sheet, its approximate width, and how many pixels it may have before its frames are reduced.
SHEET_FRAMES, SHEET_WIDTH, SHEET_PIXELS = 12, 1600, 6_000_000


@dataclass(frozen=True)
class Shot:
    """Some frames to draw.

    Attributes:
        points: the person's poses in the world, [B, J, 3] in metres.
        camera: the camera that sees them, with the batch axis [B].
        before, after: panels to show on either side of pose, latent and output: name -> [B or 1, 3, h, w]. Those after
            are seen by this camera too, [B, 3, h, w].
        behind: pictures to draw the pose over, [B, 3, h, w]; white if not given.
    """

    points: Tensor
    camera: Camera
    before: dict[str, Tensor] = field(default_factory=dict)
    after: dict[str, Tensor] = field(default_factory=dict)
    behind: Tensor | None = None


def film(
    studio: Studio, shots: Iterable[Shot], appearance: Tensor, panels: bool = False, full: Camera | None = None
) -> Iterator[np.ndarray]:
    """Frames [H, W, 3] uint8 of a person with an appearance [1, N, C].

    Args:
        studio: draws them.
        shots: what to draw.
        appearance: the looks of the person.
        panels: whether to show how the pictures come about.
        full: camera of the full frame to put the pictures in, which are crops of it; by default the crops alone.
    """
    if panels:
        return _with_panels(studio, shots, appearance, full)
    pictures = (_draw(studio, shot, appearance, full)[1] for shot in shots)
    return (enlarge(frame) for frame in studio.fetch(pictures))


def check_film(studio: Studio, name: str, settings: Drawing, inputs: Iterable[Path] = ()) -> None:
    """Before any work, see to it that `write_film` can write.

    Raises:
        UserError: something is in the way, or one of the inputs would be replaced.
    """
    video, sheet = studio.folder / f"{name}.{settings.format}", studio.folder / f"{name}.png"
    if settings.format == "png":
        video = video.with_suffix("")
        check_folder_of_frames(video)
    else:
        refuse_folders(video)
    refuse_folders(sheet)
    refuse_inputs(inputs, video, sheet)


def write_film(studio: Studio, frames: Iterable[np.ndarray], name: str, settings: Drawing) -> list[Path]:
    """Write frames and a contact sheet of some of them into the studio's folder; returns both paths."""
    some = _Some()
    path = write_animation(studio.folder / f"{name}.{settings.format}", some.keep(frames), settings.fps)
    shown = some.spread()
    sheet = contact_sheet(shown, columns=max(1, SHEET_WIDTH // shown[0].shape[1]))
    sheet_path = studio.folder / f"{name}.png"
    write_atomically(sheet_path, lambda temporary: sheet.save(temporary, "PNG"))
    return [path, sheet_path]


class _Some:
    """A few frames, evenly spread over a video whose length is not known in advance, and reduced if they are large."""

    def __init__(self) -> None:
        self.kept: list[np.ndarray] = []

    def keep(self, frames: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        every = 1
        for i, frame in enumerate(frames):
            if i % every == 0:
                self.kept.append(_reduced(frame))
            if len(self.kept) == 4 * SHEET_FRAMES:
                self.kept, every = self.kept[::2], 2 * every
            yield frame

    def spread(self) -> list[np.ndarray]:
        count = min(SHEET_FRAMES, len(self.kept))
        return [self.kept[i] for i in np.linspace(0, len(self.kept), count, endpoint=False).astype(int)]


def _reduced(frame: np.ndarray) -> np.ndarray:
    height, width = frame.shape[:2]
    factor = math.ceil(math.sqrt(SHEET_FRAMES * height * width / SHEET_PIXELS))
    return np.asarray(Image.fromarray(frame).reduce(factor))


def _draw(studio: Studio, shot: Shot, appearance: Tensor, full: Camera | None) -> tuple[Tensor, Tensor]:
    latent, image = studio.draw(shot.points, appearance, shot.camera)
    return latent, _in_frame(studio, image, shot.camera, full)


def _in_frame(studio: Studio, image: Tensor, crop: Camera, full: Camera | None) -> Tensor:
    """Pictures of crops, put in their places in the whole frame if that is to be shown."""
    if not full:
        return image
    return place(image, crop, full, copy_once(studio.model.skeleton.background, image.dtype, image.device) / 255)


def _with_panels(
    studio: Studio, shots: Iterable[Shot], appearance: Tensor, full: Camera | None
) -> Iterator[np.ndarray]:
    colours = None
    skeleton = studio.model.skeleton
    for shot in shots:
        latent, image = _draw(studio, shot, appearance, full)
        # A colour means the same in all frames.
        colours = colours or LatentColours(latent)
        size = shot.camera.height, shot.camera.width
        behind = shot.behind if shot.behind is not None else image.new_ones(len(image), 3, *size)
        pixels = shot.camera.project(shot.points)
        pose = with_poses(behind, pixels, torch.ones_like(pixels[..., 0], dtype=torch.bool), skeleton)
        drawn = {"pose": pose, "latent": colours(latent), "output": image}
        after = {name: _in_frame(studio, shown, shot.camera, full) for name, shown in shot.after.items()}
        yield from side_by_side({**shot.before, **drawn, **after})
