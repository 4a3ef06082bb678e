"""One sequence of a capture: its views, frames, cameras and poses. Subclasses read the different kinds of files."""

import math
from abc import ABC, abstractmethod
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from hvs.geometry import Camera
from hvs.geometry.rotations import is_rotation

from .decoding import MAX_PIXELS, Picture
from .files import as_numbers, read_json
from .layouts import CONFIDENT, IMAGES, MASKS, Layout, Split
from .stores import DataError, Store, read_label

# How many images of a view are searched for one that is not broken, at most.
LOOKED_AT = 100
# Tolerance of the entries that are zero or one in an intrinsic matrix.
INTRINSICS_TOLERANCE = 1e-6


@dataclass(eq=False)
class Sequence(ABC):
    """One sequence. Everything is opened on first use; every fault in a file is a DataError.

    Attributes:
        folder: holds its cameras and everything else.
        layout: describes its labels.
        name: of the sequence, as the splits name it.
        views: names of the cameras that have images here.
        intervals: split -> (first, last) frames, both inclusive; an inverted interval is empty.
        stride: of validation and test.
    """

    folder: Path
    layout: Layout
    name: str
    views: tuple[str, ...]
    intervals: dict[Split, list[tuple[int, int]]]
    stride: int
    # What places are called in files of this kind, if that is not their name.
    called: ClassVar[dict[str, str]] = {}

    def __post_init__(self):
        self.camera_file: Path = self.folder / "cameras.json"
        # Plain lists, not cameras: each tensor would cost a file descriptor on the way to a worker process.
        self.entries: dict[str, Any] = self.read_cameras()
        # Views whose cameras have been checked.
        self._sound: set[str] = set()

    @abstractmethod
    def available(self, place: str, view: str | None = None) -> list[int]:
        """Frames, ascending, that a place (`IMAGES`, `layout.keypoints`, ...) has for one view, or for all views."""

    @abstractmethod
    def views_of(self, place: str) -> set[str]:
        """Views that a place has anything of, whether or not they have pictures."""

    @abstractmethod
    def encoded(self, place: str, view: str, frame: int) -> tuple[bytes, str]:
        """A picture as stored, JPEG or PNG, and the text that names file and frame in errors."""

    @abstractmethod
    def label(self, place: str, view: str | None, frame: int) -> tuple[Tensor, Tensor, str]:
        """All joints of a pose, [L, 2] or [L, 3], their confidence [L], and the text that names the file in errors."""

    def read_cameras(self) -> dict[str, Any]:
        """The entries of the cameras by view, not checked yet."""
        entries = read_json(self.camera_file)
        if not isinstance(entries, dict):
            raise DataError(f"{self.camera_file}: wanted one entry per view")
        return entries

    def frames(self, split: Split) -> list[int]:
        """Frames of a split, ascending, whether or not there are pictures and poses of them."""
        stride = 1 if split == "train" else self.stride
        return sorted({frame for first, last in self.intervals[split] for frame in range(first, last + 1, stride)})

    def resolution(self, view: str) -> tuple[int, int]:
        """(width, height) of the full frame according to the cameras, which the lifter scales keypoints by."""
        width, height = self.numbers(view, "resolution", 2).tolist()
        whole = width.is_integer() and height.is_integer() and min(width, height) >= 1
        # Of more pixels there are no pictures, and arithmetic with them could overflow.
        if not whole or width * height > MAX_PIXELS:
            raise DataError(
                f"{self.where(view)}: resolution is {width:g}x{height:g}, wanted whole pixels, at most {MAX_PIXELS}"
            )
        return int(width), int(height)

    def size(self, view: str) -> tuple[int, int]:
        """(width, height) of the pictures."""
        return self.resolution(view)

    def camera(self, view: str) -> Camera:
        """The camera of the full frame, in metres, float32; all cameras have equally many distortion coefficients."""
        K, R, t = (self.numbers(view, name, *shape) for name, shape in (("K", (3, 3)), ("R", (3, 3)), ("t", (3,))))
        width, height = self.size(view)
        if view not in self._sound:
            self._check_camera(view, K, R)
            # Training asks for cameras all the time.
            self._sound.add(view)
        return Camera(K.float(), R.float(), t.float(), self.distortion(view).float(), height, width)

    def distortion(self, view: str) -> Tensor:
        """The camera's coefficients in OpenCV's order, float64."""
        return self.numbers(view, "dist_coef", 5)

    def picture(self, place: str, view: str, frame: int) -> Picture:
        """The full frame of `IMAGES` or `MASKS`, not yet decoded."""
        picture = Picture(*self.encoded(place, view, frame))
        self.check_size((picture.width, picture.height), view, picture.where)
        return picture

    def image(self, view: str, frame: int) -> Tensor:
        """The full frame [3, H, W], uint8."""
        return self.picture(IMAGES, view, frame).rgb()

    def mask(self, view: str, frame: int) -> Tensor:
        """Where the person is in the full frame, [1, H, W] bool."""
        return self.picture(MASKS, view, frame).mask()

    def size_of_images(self, view: str) -> tuple[int, int] | None:
        """(width, height) of the view's first image that is not broken, of a few spread evenly, if there is any."""
        frames = self.available(IMAGES, view)
        for frame in frames[:: -(-len(frames) // LOOKED_AT) or 1]:
            with suppress(DataError):
                picture = Picture(*self.encoded(IMAGES, view, frame))
                return picture.width, picture.height
        return None

    def check_size(self, size: tuple[int, int], view: str, where: str) -> None:
        """Raise a DataError if a picture's (width, height) is not that of the camera."""
        width, height = self.size(view)
        if size != (width, height):
            raise DataError(f"{where} is {size[0]}x{size[1]}, its camera {width}x{height}")

    def keypoints(self, view: str, frame: int) -> tuple[Tensor, Tensor]:
        """Pixels of the full frame [J, 2], and which of them count [J]."""
        keypoints, confidence, _ = self.label(self.layout.keypoints, view, frame)
        return self._joints(keypoints, confidence)

    def points(self, frame: int) -> tuple[Tensor, Tensor]:
        """Points in the world in metres [J, 3], and which of them count [J]."""
        points, confidence, _ = self.label(self.layout.points, None, frame)
        return self._joints(*self.layout.place_middles(points, confidence))

    def where(self, view: str) -> str:
        """Names a view's camera in errors."""
        return f"{self.camera_file}: view {view}"

    def numbers(self, view: str, name: str, *shape: int | None) -> Tensor:
        """One entry of a camera, float64; the shape None allows any number of values."""
        if view not in self.entries:
            raise DataError(f"{self.where(view)} is missing")
        try:
            values = torch.from_numpy(as_numbers(self.entries[view][name]))
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"{self.where(view)}: {name} is missing or not a table of numbers") from error
        size = values.numel() if None in shape else math.prod(shape)
        if values.numel() != size:
            raise DataError(f"{self.where(view)}: {name} has shape {list(values.shape)}, wanted {list(shape)} numbers")
        # Cameras are of this type.
        if not values.float().isfinite().all():
            raise DataError(f"{self.where(view)}: {name} holds a number that is not finite in float32")
        return values.reshape(-1) if None in shape else values.reshape(shape)

    def _check_camera(self, view: str, K: Tensor, R: Tensor) -> None:
        if fault := fault_of_intrinsics(K):
            raise DataError(f"{self.where(view)}: {fault}")
        if not is_rotation(R):
            raise DataError(f"{self.where(view)}: R is not a rotation")

    def _joints(self, coordinates: Tensor, confidence: Tensor) -> tuple[Tensor, Tensor]:
        joints = _as_index(self.layout.joints)
        coordinates, confidence = coordinates[joints], confidence[joints]
        finite = coordinates.isfinite().all(-1)
        return coordinates.where(finite[:, None], 0.0), finite & (confidence > CONFIDENT)


def fault_of_intrinsics(K: Tensor) -> str:
    """What is wrong with a matrix K, [3, 3] float64; empty if nothing is."""
    # In float32 a tiny number is zero.
    if min(K[0, 0].float(), K[1, 1].float()) <= 0:
        return "K has a focal length that is not positive"
    below = torch.stack((K[1, 0] / K[0, 0], *(K[2] - torch.tensor([0.0, 0.0, 1.0]))))
    if below.abs().max() > INTRINSICS_TOLERANCE:
        return "K is not an intrinsic matrix, wanted zeros below its diagonal, and 1"
    return ""


@dataclass(eq=False)
class PreparedSequence(Sequence):
    """A sequence in the prepared layouts: databases of JPEGs and of pickled tensors."""

    _stores: dict[str, Store] = field(default_factory=dict, repr=False)
    _sizes: dict[str, tuple[int, int]] = field(default_factory=dict, repr=False)

    def store(self, place: str, view: str | None = None) -> Store:
        """The database of a place for one view, or the one for all views."""
        key = place if view is None else f"{place}/{view}.lmdb"
        if key not in self._stores:
            self._stores[key] = Store(self.folder / "Databases" / key)
        return self._stores[key]

    def available(self, place: str, view: str | None = None) -> list[int]:
        return self.store(place, view).frames

    def views_of(self, place: str) -> set[str]:
        return {path.stem for path in (self.folder / "Databases" / place).glob("*.lmdb")}

    def encoded(self, place: str, view: str, frame: int) -> tuple[bytes, str]:
        store = self.store(place, view)
        return store[frame], f"{store.path}: frame {frame}"

    def label(self, place: str, view: str | None, frame: int) -> tuple[Tensor, Tensor, str]:
        store = self.store(place, view)
        where = f"{store.path}: frame {frame}"
        label = read_label(store[frame], where)
        dimensions = 3 if view is None else 2
        wanted = (self.layout.label_joints, dimensions + self.layout.with_confidence, 1)
        if label.shape != wanted:
            raise DataError(f"{where}: label has shape {list(label.shape)}, wanted {list(wanted)}")
        label = label[..., 0]
        confidence = label[:, dimensions] if self.layout.with_confidence else torch.ones(len(label))
        return label[:, :dimensions], confidence, where

    def size(self, view: str) -> tuple[int, int]:
        if view not in self._sizes:
            size = self.resolution(view)
            # The original wrote the Human3.6M resolution as (height, width); the images tell.
            swapped = size[::-1]
            with suppress(DataError):
                if swapped != size and self.size_of_images(view) == swapped:
                    size = swapped
            self._sizes[view] = size
        return self._sizes[view]


@cache
def _as_index(joints: tuple[int, ...]) -> Tensor:
    return torch.tensor(joints)
