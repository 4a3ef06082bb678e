"""Where masks come from: the user's files, the user's segmentation, or, without either, the limbs' outline.

For each frame of a view, a source gives a mask [H, W] uint8 of 0 and 255, or the reason why there is none.
"""

import importlib
import io
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from hvs.data.decoding import WHITE, Picture, check_scans
from hvs.data.ffmpeg import count_frames, read_frames
from hvs.data.files import read_bounded
from hvs.data.layouts import CONFIDENT, IMAGES, MASKS
from hvs.data.plain.folders import numbered
from hvs.data.plain.pictures import ENDINGS
from hvs.data.stores import DataError
from hvs.geometry import Camera

from .databases import Clip

VIDEOS = (".mp4", ".mkv", ".mov", ".avi")
# Highest value of black after lossy compression.
NOISE = 8
NO_MASK, EMPTY, NO_POSE = "no mask", "empty mask", "no pose to draw a mask from"
# Corners of the trunk, shoulders and hips, to fill the holes between its edges.
TRUNK = {"panoptic": (5, 6, 12, 11), "human36m": (11, 14, 1, 4)}
# Clothes and flesh reach beyond the widths of the Gaussians.
THICKER = 1.5

# A frame of the clip, and its mask or the reason why there is none.
Mask = tuple[int, np.ndarray | str]


class MaskSource(Protocol):
    """`describe` says in words where the masks come from; `frames` yields them, frame by frame."""

    def describe(self) -> str: ...

    def frames(self, clip: Clip, recording: str, view: str, camera: Camera) -> Iterator[Mask]: ...


class FaintMaskError(DataError):
    """A mask has neither white pixels nor the 1 that many tools write."""


@dataclass(frozen=True)
class GivenMasks:
    """The user's files: `<folder>/<recording>/<view>.mp4`, or pictures `<folder>/<recording>/<view>/*<number>.png`.

    The number is that of the frame in the video, from 0.
    """

    folder: Path

    def describe(self) -> str:
        return f"given: {self.folder}"

    def frames(self, clip: Clip, recording: str, view: str, camera: Camera) -> Iterator[Mask]:
        size = camera.width, camera.height
        faint, bright = None, False
        for frame, picture, where in self._pictures(clip, self.folder / recording / view):
            if picture is None:
                yield frame, NO_MASK
                continue
            try:
                mask = _binary(picture, size, where)
            except FaintMaskError as error:
                # Taken for a shadow in a frame without a person, unless all masks are like this.
                faint = faint or error
                yield frame, EMPTY
            else:
                bright = bright or bool(mask.any())
                yield frame, mask
        if faint and not bright:
            raise faint

    def late(self, clip: Clip, recording: str, view: str) -> bool:
        """Whether there are pictures now of frames of which there were none when the database was written."""
        absent, place = clip.dropped(MASKS, view)[NO_MASK], self.folder / recording / view
        if not absent or _video(place):
            return absent > 0
        return place.is_dir() and absent > clip.frames - len(_pictures_of(clip, place))

    def _pictures(self, clip: Clip, place: Path) -> Iterator[tuple[int, Image.Image | None, str]]:
        """The clip's frames, their pictures if there are any, and the text that names them in errors."""
        if video := _video(place):
            if (count := count_frames(video)) < clip.first + clip.frames:
                raise DataError(f"{video}: has {count} frames, but its view has at least {clip.first + clip.frames}")
            with closing(read_frames(video, clip.first)) as pictures:
                for frame, picture in enumerate(islice(pictures, clip.frames)):
                    yield frame, Image.fromarray(picture), f"{video}: frame {clip.first + frame}"
            return
        files = _pictures_of(clip, place)
        for frame in range(clip.frames):
            file = files.get(frame)
            yield frame, None if file is None else _open(file), str(file)


@dataclass(frozen=True)
class Segmentation:
    """The user's function: image [3, H, W] float32 in 0..1 -> mask [H, W] or [1, H, W], bool, or numbers above 0.5.

    Attributes:
        hook: "module:function"; the module is imported by `load`.
    """

    hook: str

    def describe(self) -> str:
        return f"segmentation: {self.hook}"

    def load(self) -> Callable[[Tensor], Tensor]:
        """Import the function.

        Raises:
            DataError: there is no function of that name.
        """
        module, _, name = self.hook.partition(":")
        if not module or not name:
            raise DataError(f"segment: got {self.hook!r}, wanted module:function")
        try:
            function = getattr(importlib.import_module(module), name)
        except Exception as error:
            raise DataError(f"segment: cannot import {self.hook} ({_one_line(error)})") from error
        if not callable(function):
            raise DataError(f"segment: {self.hook} is a {type(function).__name__}, wanted a function")
        return function

    def frames(self, clip: Clip, recording: str, view: str, camera: Camera) -> Iterator[Mask]:
        function, store = self.load(), clip.store(IMAGES, view)
        for frame in range(clip.frames):
            where = f"{store.path}: frame {frame}"
            image = Picture(store[frame], where).rgb().float() / 255
            try:
                mask = torch.as_tensor(function(image)).detach().cpu().squeeze(0)
            except Exception as error:
                raise DataError(f"{where}: {self.hook} failed ({_one_line(error)})") from error
            if mask.shape != image.shape[1:]:
                got = f"{self.hook} returned a mask of shape {list(mask.shape)}"
                raise DataError(f"{where}: {got}, wanted {list(image.shape[1:])}")
            yield frame, ((mask > 0.5) * 255).byte().numpy()


@dataclass(frozen=True)
class Silhouette:
    """The limbs of the 3D pose, drawn somewhat thicker than their Gaussians: a coarse stand-in for a mask."""

    def describe(self) -> str:
        return "limbs' outline"

    def frames(self, clip: Clip, recording: str, view: str, camera: Camera) -> Iterator[Mask]:
        for frame in range(clip.frames):
            label = clip.label(clip.layout.points, frame)
            yield frame, NO_POSE if label is None else _draw(clip, label.double(), camera)


def _draw(clip: Clip, label: Tensor, camera: Camera) -> np.ndarray:
    skeleton = clip.layout.skeleton
    confidence = label[:, 3] if clip.layout.with_confidence else torch.ones(len(label))
    points, confidence = clip.layout.place_middles(label[:, :3], confidence)
    joints = list(clip.layout.joints)
    points, valid = points[joints], confidence[joints] > CONFIDENT
    depth = camera.to_camera(points)[:, 2]
    valid = valid & (depth > 0.1)
    pixels = camera.project(points)
    # One metre at each joint, in pixels.
    metre = camera.K[0, 0] / depth.clamp(min=0.1)
    image = Image.new("L", (camera.width, camera.height))
    pen = ImageDraw.Draw(image)
    for (i, j), width in zip(skeleton.edges, skeleton.widths, strict=True):
        if valid[i] and valid[j]:
            _limb(pen, pixels[[i, j]].numpy(), THICKER * width * metre[[i, j]].numpy())
    trunk = list(TRUNK[clip.dataset])
    if valid[trunk].all():
        pen.polygon([tuple(pixel) for pixel in pixels[trunk].tolist()], fill=255)
    return np.asarray(image)


def _limb(pen: ImageDraw.ImageDraw, ends: np.ndarray, radii: np.ndarray) -> None:
    """Draw a disc at each of two ends [2, 2] with radii [2], and the area between them."""
    for (x, y), radius in zip(ends, radii, strict=True):
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=255)
    along = ends[1] - ends[0]
    if length := np.hypot(*along):
        side = np.array((-along[1], along[0])) / length
        corners = [ends[0] + radii[0] * side, ends[1] + radii[1] * side, ends[1] - radii[1] * side]
        pen.polygon([tuple(corner) for corner in (*corners, ends[0] - radii[0] * side)], fill=255)


def _video(place: Path) -> Path | None:
    return next((file for suffix in VIDEOS if (file := place.with_name(place.name + suffix)).is_file()), None)


def _pictures_of(clip: Clip, place: Path) -> dict[int, Path]:
    """Frame of the clip -> its picture."""
    if not place.is_dir():
        raise DataError(f"{place}: no masks of this view, wanted a folder of pictures or a video")
    names = numbered(place, ENDINGS)
    return {n - clip.first: place / name for n, name in names.items() if 0 <= n - clip.first < clip.frames}


def _open(file: Path) -> Image.Image:
    data = read_bounded(file)
    check_scans(data, str(file))
    try:
        picture = Image.open(io.BytesIO(data), formats=("PNG", "JPEG"))
        grey = picture.convert("L")
        grey.format = picture.format
        return grey
    # For a damaged file Pillow can raise anything.
    except Exception as error:
        raise DataError(f"{file}: not a readable PNG or JPEG") from error


def _binary(picture: Image.Image, size: tuple[int, int], where: str) -> np.ndarray:
    if picture.size != size:
        raise DataError(f"{where}: is {picture.width}x{picture.height}, its view {size[0]}x{size[1]}")
    values = np.asarray(picture.convert("L"))
    # Many tools write masks of 0 and 1; colours of a palette, or of several people, cannot be guessed.
    brightest = values.max(initial=0)
    if NOISE < brightest < WHITE:
        raise FaintMaskError(f"{where}: no value of the mask is above {brightest}, wanted 0 and 255, or 0 and 1")
    # In a JPEG or a video a 1 is noise.
    threshold = 1 if brightest == 1 and picture.format == "PNG" else WHITE
    return np.uint8(255) * (values >= threshold)


def _one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def choose_source(masks: Path | None, segment: str | None) -> MaskSource:
    """The source that the user asks for; by default the limbs' outline.

    Raises:
        DataError: both are given, the folder is missing, or the function cannot be imported.
    """
    if masks is not None and segment is not None:
        raise DataError("masks, segment: got both, wanted one of them")
    if masks is not None:
        if not masks.is_dir():
            raise DataError(f"{masks}: no such folder of masks")
        return GivenMasks(masks.resolve())
    if segment is None:
        return Silhouette()
    source = Segmentation(segment)
    source.load()
    return source
