"""What the training of the lifter reads: poses of single views."""

from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from hvs.geometry import Camera

from .captures import Subjects, find_sequences
from .datasets import collate
from .frame_index import FrameIndex
from .layouts import Split
from .stores import DataError

# Frames whose poses are handed over by a process at a time.
FRAMES_AT_ONCE = 32
# Extent of people from end to end, in metres.
SMALLEST, LARGEST = 0.3, 3.5


class ReadPoses(NamedTuple):
    """What :meth:`PoseDataset.tensors` has read.

    Attributes:
        items: all items, stacked in their order.
        world: of each frame whose 3D pose can be read, `owner` [F], the number of its sequence, and in the world
            `points` [F, J, 3], in metres, and `valid` [F, J].
        faults: what was wrong with those left out, one line each.
    """

    items: dict[str, Tensor]
    world: dict[str, Tensor]
    faults: list[str]


class PoseDataset(Dataset):
    """The 2D pose of every view with the 3D pose to lift it to, frame by frame.

    An item is a dict: `keypoints` [J, 2], pixels of the full frame, `confidence` [J] bool, `resolution` [2], its width
    and height; `relative` [J, 3], metres from the root in the camera's frame, and `valid` [J] bool, true where both the
    joint and the root are known. Entries of `relative` that are not valid are zero.

    Args, errors: as for `PairDataset`.
    """

    def __init__(
        self, root: str | Path, split: Split = "train", subjects: Subjects = "known", layout: str | None = None
    ):
        self.sequences = find_sequences(root, subjects, layout)
        self.layout = self.sequences[0].layout
        self.index = FrameIndex(self.sequences, split, (self.layout.keypoints,), choices=1)

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, item: int) -> dict[str, Tensor]:
        sequence, frame, (view,) = self.index.locate(range(len(self))[item])
        labels = sequence.keypoints(view, frame), sequence.points(frame)
        return self._pose(sequence.camera(view), sequence.resolution(view), *labels)

    def tensors(
        self,
        workers: int = 0,
        begin: Callable[[int], Any] | None = None,
        tell_done: Callable[[int], Any] = lambda frames: None,
    ) -> ReadPoses:
        """All items at once. Each label is read only once.

        Args:
            workers: processes that read in addition to this one.
            begin: called in each of them first, with its number.
            tell_done: called with numbers of frames that have been read.

        Raises:
            DataError: nothing can be read.
        """
        frames = _Frames(self)
        options = dict(collate_fn=_join, num_workers=workers, worker_init_fn=begin)
        # Its own generator: otherwise it would take a random number from the caller's.
        loader = DataLoader(frames, FRAMES_AT_ONCE, generator=torch.Generator(), **options)
        items, world = _Stack(len(self)), _Stack(len(frames))
        faults: list[str] = []
        for read, poses, points, wrong in loader:
            items.add(poses)
            world.add(points)
            faults += wrong
            tell_done(read)
        if not items.count:
            raise DataError(f"no pose can be read: {faults[-1]}")
        return ReadPoses(items.tensors(), world.tensors(), faults)

    def _pose(
        self,
        camera: Camera,
        resolution: tuple[int, int],
        keypoints: tuple[Tensor, Tensor],
        points: tuple[Tensor, Tensor],
    ) -> dict[str, Tensor]:
        root = self.layout.skeleton.root
        valid = points[1] & points[1][root]
        relative = (points[0] - points[0][root]) @ camera.R.mT
        return {
            "keypoints": keypoints[0],
            "confidence": keypoints[1],
            "resolution": torch.tensor(resolution, dtype=torch.float32),
            "relative": relative.where(valid[:, None], 0.0),
            "valid": valid,
        }


class _Stack:
    """Tensors by name, to which more are added along the first axis; there is room for a number known before.

    Millions of small tensors in a list would take several times the memory of their values.
    """

    def __init__(self, room: int) -> None:
        self.room, self.count = room, 0
        self._whole: dict[str, Tensor] = {}

    def add(self, part: dict[str, Tensor]) -> None:
        if not part:
            return
        if not self._whole:
            self._whole = {name: values.new_empty(self.room, *values.shape[1:]) for name, values in part.items()}
        end = self.count + len(next(iter(part.values())))
        for name, values in part.items():
            self._whole[name][self.count : end] = values
        self.count = end

    def tensors(self) -> dict[str, Tensor]:
        return {name: values[: self.count] for name, values in self._whole.items()}


class _Frames(Dataset):
    """Frame by frame, the items of a `PoseDataset`, the pose in the world, and what is wrong with what is left out."""

    def __init__(self, poses: PoseDataset):
        self.poses = poses
        views = [(sequence, view) for sequence in poses.sequences for view in sequence.views]
        self.cameras = {(s.folder, view): (s.camera(view), s.resolution(view)) for s, view in views}

    def __len__(self) -> int:
        return len(self.poses.index.frames)

    def __getitem__(self, row: int) -> tuple[list[dict[str, Tensor]], list[dict[str, Tensor]], list[str]]:
        sequence, frame, views = self.poses.index.row(row)
        poses, faults = [], []
        try:
            points = sequence.points(frame)
        except DataError as error:
            return [], [], [str(error)]
        world = {"owner": torch.tensor(self.poses.index.owners[row]), "points": points[0], "valid": points[1]}
        for view in views:
            try:
                keypoints = sequence.keypoints(view, frame)
                poses.append(self.poses._pose(*self.cameras[sequence.folder, view], keypoints, points))
            except DataError as error:
                faults.append(str(error))
        return poses, [world], faults


def _join(frames: list[tuple[list, list, list[str]]]) -> tuple[int, dict[str, Tensor], dict[str, Tensor], list[str]]:
    """Number of frames; their items and their poses in the world, stacked (empty if there are none); their faults."""
    poses, world, faults = (list(chain(*parts)) for parts in zip(*frames, strict=True))
    return len(frames), collate(poses) if poses else {}, collate(world) if world else {}, faults


def fault_of_size(extent: float) -> str:
    """What is wrong if people have this extent, in metres; nothing if it is NaN."""
    if extent < SMALLEST or extent > LARGEST:
        return f"people are {extent:.3g} m across, wanted {SMALLEST} to {LARGEST} m: another unit of length?"
    return ""
