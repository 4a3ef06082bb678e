"""What the training of the synthesis reads: pairs of views."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Subset

from hvs.geometry import Camera
from hvs.geometry.cameras import ResizeConvention

from .captures import Subjects, find_sequences
from .frame_index import FrameIndex
from .layouts import IMAGES, MASKS, Split
from .sequences import Sequence
from .stores import DataError
from .transforms import align, composite, crop_box, crop_camera, crop_image, crop_mask, reduction_for

# This many unreadable pairs in a row are no accident.
MAX_FAULTS = 64
# Captures whose decoded crops take no more memory than this are decoded only once.
KEPT_BYTES = 1 << 28
# An image and its mask in float32.
BYTES_PER_PIXEL = 16


def no_pairs(folder: Path, faults: list[str]) -> DataError:
    """The error to raise if no pair of a capture can be used, for these faults of its files."""
    if faults:
        return DataError(f"no pair of views can be read: {faults[-1]}")
    return DataError(
        f"{folder}: no pair of views has enough of a person inside both images and masks, and a root joint"
    )


class PairDataset(Dataset):
    """All pairs of an input and an output view of the same frame, frame by frame.

    An item is a dict of
        image_a [3, h, w], image_b [3, H, W]: the person's crop in 0..1, on the data set's background pixel,
        mask_a [1, h, w], mask_b [1, H, W]: where the person is, 0 or 1,
        camera_a, camera_b: the cameras of these crops,
        keypoints_a [J, 2], confidence_a [J] bool: pixels of the full frame, and which of them count,
        resolution_a [2]: the full frame's width and height,
        points [J, 3], valid [J] bool: in the world, in metres, and which of them count,
        name: sequence/frame/view a-view b,
        where: the same as (sequence, frame, view a, view b),
        skipped: how many pairs were skipped before this one because too little of the person is inside one of their
            images (see :func:`crop_box`), a mask is empty there, or the root joint is unknown,
        faults: what was wrong with pairs that were skipped because one of their files is broken, one line each.

    Args:
        root: folder of a capture.
        split: "train", "val" or "test".
        subjects: "known", "unknown" or "all".
        input_resolution, target_resolution: side of image a and of image b, in pixels.
        resize: convention of `Camera.resize`.
        same_view: whether a view is also paired with itself.
        layout: "panoptic", "human36m" or "plain"; by default detected from the folders.

    Raises:
        DataError: the capture is missing or broken; when an item is read, no pair can be read, or too many in a row
            cannot.
    """

    def __init__(
        self,
        root: str | Path,
        split: Split = "train",
        subjects: Subjects = "known",
        input_resolution: int = 256,
        target_resolution: int = 256,
        resize: ResizeConvention = "centre",
        same_view: bool = True,
        layout: str | None = None,
    ):
        self.sequences = find_sequences(root, subjects, layout)
        self.layout = self.sequences[0].layout
        modalities = IMAGES, MASKS, self.layout.keypoints
        self.index = FrameIndex(self.sequences, split, modalities, choices=2, distinct=not same_view)
        self.input_resolution, self.target_resolution = input_resolution, target_resolution
        self.resize = resize
        # Near the golden section of the data set, and coprime to its size, so that every pair comes up once.
        section = max(1, round(0.618 * len(self)))
        self._stride = next(n for n in range(section, 2 * len(self)) if math.gcd(n, len(self)) == 1)
        pixels = sum(size**2 for size in {input_resolution, target_resolution})
        # A small capture is decoded once and kept. With a large one, little would be used again before it is evicted.
        fits = int(self.index.counts.sum()) * pixels * BYTES_PER_PIXEL <= KEPT_BYTES
        self._kept: dict[tuple, View | None] | None = {} if fits else None

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, item: int) -> dict[str, Any]:
        item = range(len(self))[item]
        faults: list[str] = []
        for passed in range(len(self)):
            # Neighbours would share the fault, so a pair's replacement comes from anywhere.
            pair, fault = self.read((item + passed * self._stride) % len(self))
            if pair is not None:
                return pair | {"skipped": torch.tensor(passed - len(faults)), "faults": faults}
            if fault:
                faults.append(fault)
                if len(faults) == MAX_FAULTS:
                    raise DataError(f"{MAX_FAULTS} unreadable pairs in a row, the last one: {fault}")
        raise no_pairs(self.sequences[0].folder, faults)

    def read(self, item: int) -> tuple[dict[str, Any] | None, str]:
        """This very pair without `skipped` and `faults`, and what is wrong with its files.

        Training replaces a pair that cannot be used; scores of a replacement would count another pair twice. The pair
        is None if a file is broken, too little of the person is inside one of the images or masks, or the root joint is
        unknown.
        """
        sequence, frame, (view_a, view_b) = self.index.locate(item)
        try:
            a = self._view(sequence, frame, view_a, self.input_resolution)
            b = self._view(sequence, frame, view_b, self.target_resolution)
            return make_pair(sequence, frame, a, b), ""
        except DataError as error:
            return None, str(error)

    def _view(self, sequence: Sequence, frame: int, view: str, resolution: int) -> "View | None":
        if self._kept is None:
            return load_view(sequence, frame, view, resolution, self.resize)
        key = sequence.folder, frame, view, resolution
        if key not in self._kept:
            self._kept[key] = load_view(sequence, frame, view, resolution, self.resize)
        return self._kept[key]


@dataclass(frozen=True)
class View:
    """A person in one view of a frame.

    Attributes:
        name: of the view.
        image, mask: the crop around the person, [3, h, w] in 0..1 on the data set's background pixel, and [1, h, w].
        camera: of the crop.
        keypoints, confidence: pixels of the full frame [J, 2], and which of them count [J] bool.
        resolution: the full frame's width and height according to the cameras, [2].
    """

    name: str
    image: Tensor
    mask: Tensor
    camera: Camera
    keypoints: Tensor
    confidence: Tensor
    resolution: Tensor


def load_view(sequence: Sequence, frame: int, view: str, resolution: int, resize: ResizeConvention) -> View | None:
    """One view of a frame, cropped to `resolution` pixels a side; None if it shows too little of the person.

    Raises:
        DataError: a database or camera is broken, or has no such frame or view.
    """
    layout, camera = sequence.layout, sequence.camera(view)
    keypoints, confidence = sequence.keypoints(view, frame)
    image = sequence.picture(IMAGES, view, frame)
    box = crop_box(keypoints, confidence, image.width, image.height, layout.crop_side)
    if box is None:
        return None
    box = align(box, reduction_for(box, resolution))
    mask_picture = sequence.picture(MASKS, view, frame)
    mask = crop_mask(mask_picture, box, resolution)
    # Nothing can be learnt from a view in which the person was not found.
    if not mask.any():
        return None
    return View(
        name=view,
        image=composite(crop_image(image, box, resolution), mask, layout.skeleton.background),
        mask=mask,
        camera=crop_camera(camera, box, resolution, resize),
        keypoints=keypoints,
        confidence=confidence,
        resolution=torch.tensor(sequence.resolution(view), dtype=torch.float32),
    )


def make_pair(sequence: Sequence, frame: int, a: View | None, b: View | None) -> dict[str, Any] | None:
    """One item of `PairDataset` without `skipped` and `faults`: a frame of a sequence in an input and an output view.

    None if a view is missing, or the root joint is unknown.
    """
    points, valid = sequence.points(frame)
    # A person without a root joint has no position in the world.
    if a is None or b is None or not valid[sequence.layout.skeleton.root]:
        return None
    return {
        "image_a": a.image,
        "image_b": b.image,
        "mask_a": a.mask,
        "mask_b": b.mask,
        "camera_a": a.camera,
        "camera_b": b.camera,
        "keypoints_a": a.keypoints,
        "confidence_a": a.confidence,
        "resolution_a": a.resolution,
        "points": points,
        "valid": valid,
        "name": f"{sequence.name}/{frame}/{a.name}-{b.name}",
        "where": (sequence.name, frame, a.name, b.name),
    }


def even_subset(dataset: Dataset, count: int) -> Subset:
    """`count` items of pairs or poses, or all if there are fewer, spread evenly over sequences, frames and views.

    These are always the same ones.
    """
    return Subset(dataset, dataset.index.even(count, np.random.default_rng(0)))


def collate(items: list[dict[str, Any]]) -> dict[str, Any]:
    """Items as one batch: tensors and cameras stacked along a new first axis, the rest as lists."""
    return {key: _stack([item[key] for item in items]) for key in items[0]}


def _stack(values: list[Any]) -> Any:
    if isinstance(values[0], Tensor):
        return torch.stack(values)
    return Camera.stack(values) if isinstance(values[0], Camera) else values
