"""Where things lie in a prepared capture: sequences, their views, frames, cameras and poses, for both data sets.

A Panoptic sequence is `<root>/<sequence>/Subsequences/<i>/`, a Human3.6M one `<root>/<subject>/Sequences/<action>/`.
Each holds `cameras.json` and, under `Databases/`, one LMDB per view and modality. The layout is that of the original
code of "Human Pose Manipulation and Novel View Synthesis using Differentiable Rendering" (Rochette et al. 2021).
"""

import json
import math
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from hvs.geometry import Camera, Skeleton
from hvs.geometry.skeletons import HUMAN36M, PANOPTIC

from .decoding import Picture
from .stores import DataError, Store, read_label

Split = Literal["train", "val", "test"]
SPLITS = get_args(Split)
Subjects = Literal["known", "unknown", "all"]
GROUPS = {"known": ("known",), "unknown": ("unknown",), "all": ("known", "unknown")}

# A joint counts where the detector's confidence is above this.
CONFIDENT = 0.25
IMAGES, MASKS = "Images", "Masks/SOLO"
PUBLISHED_SPLITS = Path(__file__).parent / "splits.json"


@dataclass(frozen=True)
class Layout:
    """What differs between the two data sets.

    Attributes:
        skeleton: the joints that labels are read as.
        folder: the folder between a subject and its sequences.
        keypoints, points: places of the 2D databases and of the 3D one.
        joints: rows of a label that make up the skeleton's joints.
        label_joints: number of rows of a label.
        with_confidence: labels hold a confidence after the coordinates.
        crop_side: of the square crop in pixels; None where it follows the person.
        held_out_stride: validation and test use every so manieth frame.
        up: the world's direction that is up.
        not_projected: joints that are other points in 3D than in 2D.
    """

    skeleton: Skeleton
    folder: str
    keypoints: str
    points: str
    joints: tuple[int, ...]
    label_joints: int
    with_confidence: bool
    crop_side: int | None
    held_out_stride: int
    up: tuple[float, float, float]
    not_projected: tuple[int, ...]


LAYOUTS = {
    "panoptic": Layout(
        skeleton=PANOPTIC,
        folder="Subsequences",
        keypoints="Poses/2D/BODY_135",
        points="Poses/3D/BODY_135/Reconstructed.lmdb",
        # Without the feet, the sides of the face's contour, and the pupils.
        joints=(*range(19), *range(25, 65), *range(70, 77), *range(82, 133)),
        label_joints=135,
        with_confidence=True,
        crop_side=1080,
        held_out_stride=30,
        up=(0.0, -1.0, 0.0),
        not_projected=(17, 18),
    ),
    "human36m": Layout(
        skeleton=HUMAN36M,
        folder="Sequences",
        keypoints="Poses/2D/CPN",
        points="Poses/3D/Groundtruth.lmdb",
        joints=tuple(range(17)),
        label_joints=17,
        with_confidence=False,
        crop_side=None,
        held_out_stride=1,
        up=(0.0, 0.0, 1.0),
        not_projected=(),
    ),
}


@dataclass(eq=False)
class Sequence:
    """One prepared sequence. All that it reads is opened on first use; every fault of a file is a DataError.

    Attributes:
        folder: holds cameras.json and Databases/.
        layout: how to read it.
        name: of the sequence, as the splits name it.
        views: names of the cameras that have images here.
        intervals: split -> (first, last) frames, both inclusive; an inverted one is empty.
        stride: of validation and test.
    """

    folder: Path
    layout: Layout
    name: str
    views: tuple[str, ...]
    intervals: dict[Split, list[tuple[int, int]]]
    stride: int
    _stores: dict[str, Store] = field(default_factory=dict, repr=False)

    def __post_init__(self):
        # Plain lists, not cameras: tensors would each cost a file descriptor on the way to a worker process.
        self._cameras: dict[str, Any] = read_json(self.folder / "cameras.json")
        if not isinstance(self._cameras, dict):
            raise DataError(f"{self.folder / 'cameras.json'}: wanted one entry per view")

    def frames(self, split: Split) -> list[int]:
        """Frames of a split, ascending, whether or not the databases hold them."""
        stride = 1 if split == "train" else self.stride
        return sorted({frame for first, last in self.intervals[split] for frame in range(first, last + 1, stride)})

    def store(self, place: str, view: str | None = None) -> Store:
        """The database of a modality (`layout.keypoints`, `IMAGES`, ...) in one view, or the one of all views."""
        key = place if view is None else f"{place}/{view}.lmdb"
        if key not in self._stores:
            self._stores[key] = Store(self.folder / "Databases" / key)
        return self._stores[key]

    def resolution(self, view: str) -> tuple[int, int]:
        """(width, height) of the full frame, as cameras.json has them."""
        width, height = self._numbers(view, "resolution", 2).tolist()
        if not (width.is_integer() and height.is_integer() and min(width, height) >= 1):
            raise DataError(f"{self._where(view)}: resolution is {width}x{height}, wanted whole pixels")
        return int(width), int(height)

    def camera(self, view: str) -> Camera:
        """The camera of the full frame, float32 with 5 distortion coefficients."""
        K, R, t = (self._numbers(view, name, *shape) for name, shape in (("K", (3, 3)), ("R", (3, 3)), ("t", (3,))))
        width, height = self.resolution(view)
        if min(K[0, 0], K[1, 1]) <= 0:
            raise DataError(f"{self._where(view)}: K has a focal length that is not positive")
        return Camera(K, R, t, self._numbers(view, "dist_coef", 5), height, width)

    def encoded(self, place: str, view: str, frame: int) -> tuple[bytes, str]:
        """A picture as its file has it, JPEG or PNG, and the text that names file and frame in errors."""
        store = self.store(place, view)
        return store[frame], f"{store.path}: frame {frame}"

    def picture(self, place: str, view: str, frame: int) -> Picture:
        """The full frame of `IMAGES` or `MASKS`, not yet decoded."""
        picture = Picture(*self.encoded(place, view, frame))
        size, wanted = (picture.width, picture.height), self.resolution(view)
        # The original wrote the Human3.6M resolution as (height, width).
        if size not in (wanted, wanted[::-1]):
            raise DataError(f"{picture.where} is {size[0]}x{size[1]}, its camera {wanted[0]}x{wanted[1]}")
        return picture

    def image(self, view: str, frame: int) -> Tensor:
        """The full frame [3, H, W], uint8."""
        return self.picture(IMAGES, view, frame).rgb()

    def mask(self, view: str, frame: int) -> Tensor:
        """Where the person is in the full frame, [1, H, W] bool."""
        return self.picture(MASKS, view, frame).mask()

    def keypoints(self, view: str, frame: int) -> tuple[Tensor, Tensor]:
        """Pixels of the full frame [J, 2], and which of them count [J]."""
        keypoints, confidence = self._label(self.store(self.layout.keypoints, view), frame, 2)
        return self._joints(keypoints, confidence)

    def points(self, frame: int) -> tuple[Tensor, Tensor]:
        """World points in metres [J, 3], and which of them count [J]."""
        points, confidence = self._label(self.store(self.layout.points), frame, 3)
        if self.layout.skeleton is PANOPTIC:
            # The skeleton's root and head are no joints of BODY_135 in 3D, where detections of 17 and 18 are poor.
            for joint, parts in ((17, [5, 6]), (18, [1, 2, 3, 4])):
                points[joint] = points[parts].mean(0)
                confidence[joint] = confidence[parts].amin(0)
        return self._joints(points, confidence)

    def _where(self, view: str) -> str:
        return f"{self.folder / 'cameras.json'}: view {view}"

    def _numbers(self, view: str, name: str, *shape: int) -> Tensor:
        if view not in self._cameras:
            raise DataError(f"{self._where(view)} is missing")
        try:
            values = torch.tensor(self._cameras[view][name], dtype=torch.float64)
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise DataError(f"{self._where(view)}: {name} is missing or not a table of numbers") from error
        if values.numel() != math.prod(shape) or not values.isfinite().all():
            got = f"{name} has shape {list(values.shape)}"
            raise DataError(f"{self._where(view)}: {got}, wanted {list(shape)} finite numbers")
        return values.reshape(shape).float()

    def _label(self, store: Store, frame: int, dimensions: int) -> tuple[Tensor, Tensor]:
        where = f"{store.path}: frame {frame}"
        label = read_label(store[frame], where)
        wanted = (self.layout.label_joints, dimensions + self.layout.with_confidence, 1)
        if label.shape != wanted:
            raise DataError(f"{where}: label has shape {list(label.shape)}, wanted {list(wanted)}")
        label = label[..., 0]
        confidence = label[:, dimensions] if self.layout.with_confidence else torch.ones(len(label))
        return label[:, :dimensions], confidence

    def _joints(self, coordinates: Tensor, confidence: Tensor) -> tuple[Tensor, Tensor]:
        joints = _as_index(self.layout.joints)
        coordinates, confidence = coordinates[joints], confidence[joints]
        finite = coordinates.isfinite().all(-1)
        return coordinates.where(finite[:, None], 0.0), finite & (confidence > CONFIDENT)


def find_sequences(root: str | Path, subjects: Subjects = "known", layout: str | None = None) -> list[Sequence]:
    """The sequences of a capture that its splits list, in their order.

    Args:
        root: folder of the capture. Its own `splits.json`, if there is one, takes the place of the data set's.
        subjects: who was seen in training, who never was, or all.
        layout: "panoptic" or "human36m"; by default told from the folders.

    Raises:
        DataError: no such folder, no sequence in it, or a broken splits.json or cameras.json.
    """
    root = Path(root)
    if subjects not in GROUPS:
        raise ValueError(f"subjects: got {subjects!r}, wanted one of {', '.join(GROUPS)}")
    if layout not in (None, *LAYOUTS):
        raise ValueError(f"layout: got {layout!r}, wanted one of {', '.join(LAYOUTS)}")
    if not root.is_dir():
        raise DataError(f"{root}: no such folder")
    found = LAYOUTS[layout or _detect(root)]
    file = root / "splits.json"
    own = file.exists()
    splits = read_json(file) if own else read_json(PUBLISHED_SPLITS)[found.skeleton.name]
    try:
        views = [str(view) for view in splits["views"]]
        stride = int(splits.get("stride", found.held_out_stride))
        if stride < 1:
            raise ValueError(f"stride is {stride}")
        listed = [
            (str(entry["sequence"]), {split: [(int(a), int(b)) for a, b in entry[split]] for split in SPLITS})
            for group in GROUPS[subjects]
            for entry in splits[group]
        ]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{file}: not a table of splits ({type(error).__name__}: {error})") from error
    # Few people have all of a published data set, but a capture that brings its own splits should be whole.
    present = [(name, intervals) for name, intervals in listed if own or (root / name).is_dir()]
    if not present:
        raise DataError(f"{root}: none of the {len(listed)} {subjects} sequences of the splits is here")
    return [
        Sequence(root / name, found, name, _views(root / name, views), intervals, stride) for name, intervals in present
    ]


def read_json(file: Path) -> Any:
    """The content of a JSON file; a DataError names it where it is missing or broken."""
    try:
        return json.loads(file.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{file}: not a readable JSON file ({error})") from error


@cache
def _as_index(joints: tuple[int, ...]) -> Tensor:
    return torch.tensor(joints)


def _detect(root: Path) -> str:
    found = [name for name, layout in LAYOUTS.items() if any(root.glob(f"*/{layout.folder}"))]
    if len(found) != 1:
        folders = " or ".join(f"<name>/{layout.folder}/<name>" for layout in LAYOUTS.values())
        raise DataError(f"{root}: {'both layouts' if found else 'no sequences'} here, wanted {folders}")
    return found[0]


def _views(folder: Path, views: list[str]) -> tuple[str, ...]:
    present = tuple(view for view in views if (folder / "Databases" / IMAGES / f"{view}.lmdb").exists())
    if not present:
        raise DataError(f"{folder / 'Databases' / IMAGES}: no database of any of the views {', '.join(views)}")
    return present
