"""A sequence of plain files: `images/<view>/`, `masks/<view>/`, `keypoints/<view>/`, and a cameras file."""

from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from hvs.geometry import Camera, triangulate
from hvs.geometry.distortion import COEFFICIENT_COUNTS

from ..layouts import IMAGES, LAYOUTS, MASKS, Layout, Split
from ..sequences import Sequence
from ..stores import DataError, MissingFrameError
from .cameras import read_cameras
from .folders import subfolders
from .keypoints import BODY
from .note import read_note
from .people import People
from .pictures import Pictures
from .poses import Poses, read_poses
from .splits import blocks

KEYPOINTS, POSES = "keypoints", "poses"
POSE_FILES = ("poses.npz", "poses.json")
# Median cosine between the estimated up and the cameras' upward directions; below it, capture.json must say what is up.
LEAST_AGREEMENT = 0.2
# Weight of the cameras' mean upward direction against how level they stand; slopes that count as level, as sines; and
# rounds of the estimate.
CHOICE, LEVEL, ROUNDS = 1e-3, 0.05, 20
# This many neighbouring frames are triangulated together, which takes a third of the time.
BLOCK = 16


class PlainSequence(Sequence):
    """Plain files in common formats; docs/data.md describes them all.

    Args:
        folder: of the sequence.
        name: of the sequence, as the splits name it.
        views: which of the views with images to use; all by default.
        intervals: of the splits; by default the frames are split in blocks.
        stride: of validation and test.

    Raises:
        DataError: no images or keypoints, or cameras that cannot be read.
    """

    called: ClassVar[dict[str, str]] = {IMAGES: "images", MASKS: "masks"}

    def __init__(
        self,
        folder: Path,
        name: str,
        views: list[str] | None = None,
        intervals: dict[Split, list[tuple[int, int]]] | None = None,
        stride: int = 1,
    ):
        self.pictures = {IMAGES: Pictures(folder / "images"), MASKS: Pictures(folder / "masks", masks=True)}
        self.people = People(folder / "keypoints")
        self._triangulated: dict[int, tuple[Tensor, Tensor]] = {}
        present = subfolders(folder / "images")
        chosen = present if views is None else tuple(view for view in views if view in present)
        if not chosen:
            raise DataError(
                f"{folder / 'images'}: no folder of " + (f"the views {', '.join(views)}" if views else "a view")
            )
        # A provisional layout: the real one depends on files that are read below.
        super().__init__(folder, LAYOUTS["panoptic"], name, chosen, intervals or {}, stride)
        note = read_note(folder / "capture.json")
        if note.scale is None and self.camera_file.suffix == ".txt":
            wanted = '{"scale": <metres per unit>} in capture.json next to it'
            raise DataError(f"{self.camera_file}: COLMAP's world has no unit of length, wanted {wanted}")
        self.scale = note.scale or 1.0
        self.layout = self._layout(note.up)
        if intervals is None:
            self.intervals = blocks(self._present)

    def __getstate__(self) -> dict[str, Any]:
        # A copy, such as a worker process gets, finds the poses and frames again itself.
        state = {name: value for name, value in self.__dict__.items() if name not in ("_present", "_poses", "_seen")}
        return state | {"_triangulated": {}}

    def read_cameras(self) -> dict[str, Any]:
        self.camera_file, entries = read_cameras(self.folder, self.views)
        return entries

    def frames(self, split: Split) -> list[int]:
        stride = 1 if split == "train" else self.stride
        intervals = self.intervals[split]
        return [
            frame
            for frame in self._present
            if any(first <= frame <= last and (frame - first) % stride == 0 for first, last in intervals)
        ]

    def available(self, place: str, view: str | None = None) -> list[int]:
        if place == POSES:
            return self._poses.frames.tolist() if self._poses else self._seen
        if place == KEYPOINTS:
            return self.people.frames(view)
        return sorted(self.pictures[place].files(view))

    def views_of(self, place: str) -> set[str]:
        return self.people.views() if place == KEYPOINTS else self.pictures[place].views()

    def encoded(self, place: str, view: str, frame: int) -> tuple[bytes, str]:
        return self.pictures[place].read(view, frame)

    def label(self, place: str, view: str | None, frame: int) -> tuple[Tensor, Tensor, str]:
        if place == KEYPOINTS:
            return self._person(view, frame)
        if self._poses:
            return self._given(self._poses, frame)
        if frame not in self._triangulated:
            self._triangulate(frame)
        return *self._triangulated[frame], f"{self.folder}: frame {frame}"

    def resolution(self, view: str) -> tuple[int, int]:
        entry = self.entries.get(view)
        if isinstance(entry, dict) and entry.get("resolution") is None:
            # Empty if there is none, so that it is looked for only once.
            entry["resolution"] = self.size_of_images(view) or ()
        if isinstance(entry, dict) and entry["resolution"] == ():
            raise DataError(f"{self.folder / 'images' / view}: no picture that can be read shows the resolution")
        return super().resolution(view)

    def camera(self, view: str) -> Camera:
        camera = super().camera(view)
        # Set the zeros and the one exactly: deviations from them are rounding.
        K = torch.stack((camera.K[0], camera.K[1] * camera.K.new_tensor([0.0, 1, 1]), camera.K.new_tensor([0.0, 0, 1])))
        return replace(camera, K=K, t=(self.numbers(view, "t", 3) * self.scale).float())

    def distortion(self, view: str) -> Tensor:
        given = self.entries[view].get("dist_coef") is not None
        values = self.numbers(view, "dist_coef", None) if given else torch.zeros(0, dtype=torch.float64)
        # OpenCV writes fourteen coefficients with its rational model; the last two would tilt the sensor.
        if len(values) == 14 and not values[12:].any():
            values = values[:12]
        if len(values) not in COEFFICIENT_COUNTS:
            counts = ", ".join(map(str, COEFFICIENT_COUNTS))
            raise DataError(f"{self.where(view)}: {len(values)} distortion coefficients, wanted {counts}")
        # The cameras of a batch need the same number of coefficients.
        return torch.cat((values, values.new_zeros(max(COEFFICIENT_COUNTS) - len(values))))

    def _layout(self, up: tuple[float, float, float] | None) -> Layout:
        person = next(self.people.anybody(self.views), None)
        if person is None:
            raise DataError(f"{self.people.folder}: no person in any of the keypoints")
        return replace(
            LAYOUTS["panoptic" if len(person) == BODY else "human36m"],
            folder="images",
            keypoints=KEYPOINTS,
            points=POSES,
            with_confidence=True,
            # People may have any size in the picture.
            crop_side=None,
            held_out_stride=1,
            up=up or self._upright(),
        )

    def _upright(self) -> tuple[float, float, float]:
        """The up direction of the world: upright cameras have level x axes, and y axes that point down.

        A few that are turned on their side do not matter: the sum of the slopes of the x axes is minimised, not that of
        their squares.
        """
        R = torch.stack([self.camera(view).R.double() for view in self.views])  # [V, 3, 3]
        level, upwards = R[:, 0], -R[:, 1]
        up = F.normalize(upwards.mean(0), dim=0)
        for _ in range(ROUNDS):
            weights = 1 / (level @ up).abs().clamp(min=LEVEL)
            weights = weights / weights.sum()
            mean = weights @ upwards
            # Cameras side by side leave a choice, which their mean upward direction decides.
            slope = (weights[:, None] * level).mT @ level - CHOICE * torch.outer(mean, mean)
            up = torch.linalg.eigh(slope)[1][:, 0]
            up = up * torch.sign(up @ mean)
        if (upwards @ up).median() < LEAST_AGREEMENT:
            raise DataError(f"{self.camera_file}: cameras do not agree which way is up, wanted an up in capture.json")
        return tuple(up.tolist())

    @cached_property
    def _present(self) -> list[int]:
        """Frames, ascending, for which any view has an image."""
        return sorted(set().union(*(self.pictures[IMAGES].files(view) for view in self.views)))

    @cached_property
    def _poses(self) -> Poses | None:
        """The 3D poses that were given."""
        files = [file for name in POSE_FILES if (file := self.folder / name).exists()]
        if len(files) > 1:
            raise DataError(f"{self.folder}: both {' and '.join(POSE_FILES)} here, wanted one of them")
        return read_poses(files[0], self.layout.label_joints) if files else None

    @cached_property
    def _seen(self) -> list[int]:
        """Frames, ascending, with keypoints in two or more views."""
        if len(self.views) < 2:
            wanted = f"two views or more to triangulate 3D poses, or {' or '.join(POSE_FILES)}"
            raise DataError(f"{self.folder}: one view and no 3D poses, wanted {wanted}")
        once: set[int] = set()
        twice: set[int] = set()
        for view in self.views:
            frames = set(self.people.frames(view))
            twice |= once & frames
            once |= frames
        return sorted(twice)

    def _given(self, poses: Poses, frame: int) -> tuple[Tensor, Tensor, str]:
        row = poses.find(frame)
        if row is None:
            raise MissingFrameError(f"{self.folder}: no frame {frame} in the poses")
        points = torch.from_numpy(poses.points[row]) * self.scale
        return points, torch.from_numpy(poses.confidence[row]), f"{self.folder}: frame {frame} of the poses"

    def _person(self, view: str, frame: int) -> tuple[Tensor, Tensor, str]:
        person, where = self.people.person(view, frame)
        joints = self.layout.label_joints
        if person is None:
            return torch.zeros(joints, 2), torch.zeros(joints), where
        if len(person) != joints:
            raise DataError(f"{where}: {len(person)} joints, but others of the sequence have {joints}")
        label = torch.from_numpy(person)
        return label[:, :2], label[:, 2], where

    def _triangulate(self, frame: int) -> None:
        """Triangulate the poses of a frame and its neighbours."""
        frames = self._seen
        if frame not in frames:
            raise MissingFrameError(f"{self.folder}: no frame {frame} with keypoints in two views")
        # First, as nothing is to be read for those that are broken.
        cameras = [self.camera(view) for view in self.views]
        start = frames.index(frame) // BLOCK * BLOCK
        block = frames[start : start + BLOCK]
        joints = self.layout.label_joints
        keypoints, confidence = (
            torch.zeros(len(self.views), len(block), joints, 2),
            torch.zeros(len(self.views), len(block), joints),
        )
        for column, view in enumerate(self.views):
            for row, other in enumerate(block):
                # Keypoints that cannot be read raise an error when they are asked for; triangulation does without them.
                with suppress(DataError):
                    keypoints[column, row], confidence[column, row], _ = self._person(view, other)
        found = triangulate(keypoints, confidence.nan_to_num(nan=0.0), cameras)
        poses = zip(found.points.float(), found.confidence.float(), strict=True)
        self._triangulated |= dict(zip(block, poses, strict=True))
