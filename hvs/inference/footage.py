"""People in captures: which sequence, frames and views to show, and their images and poses, read ahead."""

import sys
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from hvs.data import NoSequencesError, Sequence, collate, find_sequences
from hvs.data.datasets import load_view, make_pair
from hvs.data.layouts import IMAGES, MASKS
from hvs.evaluation import to_device
from hvs.geometry import Skeleton
from hvs.models import ModelSettings
from hvs.runtime import UserError

from .ahead import ahead


@dataclass(frozen=True)
class Footage:
    """Frames of a sequence, seen by one camera and shown by another, or by the same.

    Attributes:
        sequence: that they are of.
        view: the camera of the input images.
        target: the camera that is to be seen through.
        frames: their numbers, ascending.
        settings: of the model that they are for.
    """

    sequence: Sequence
    view: str
    target: str
    frames: list[int]
    settings: ModelSettings

    def batches(self, size: int, device: torch.device) -> Iterator[dict[str, Any]]:
        """All frames, in batches of at most so many as `PairDataset` has them; who is not in the image is left out.

        A line on stderr says how many were left out.

        Raises:
            DataError: a file is missing or broken.
            UserError: nobody is in any of the images.
        """
        items, seen = [], 0
        for item in ahead(self._load, self.frames):
            if item is not None:
                items.append(item)
                seen += 1
            if len(items) == size:
                yield to_device(collate(items), device)
                items = []
        if items:
            yield to_device(collate(items), device)
        if not seen:
            raise self._nobody()
        if seen < len(self.frames):
            left_out = f"left out {len(self.frames) - seen} of {len(self.frames)} frames, nobody is in the image"
            tqdm.write(f"note: {self._where}: {left_out}", file=sys.stderr)

    def spread(self, count: int) -> "Footage":
        """At most so many of the frames, evenly spread: the middle one, or the first and the last and some between.

        Where nobody is in the image, the nearest frame in which somebody is.

        Raises:
            DataError: a file is missing or broken.
            UserError: nobody is in any of the images.
        """
        last = len(self.frames) - 1
        places = {round(place) for place in np.linspace(0, last, count)} if count > 1 else {last // 2}
        frames = sorted({self._nearest(place) for place in places})
        return Footage(self.sequence, self.view, self.target, frames, self.settings)

    def sources(self, count: int, device: torch.device) -> dict[str, Any]:
        """At most so many of the frames, evenly spread, as one batch: what the person's appearance is from."""
        return next(self.spread(count).batches(count, device))

    def progress(self, size: int, device: torch.device, name: str) -> Iterator[dict[str, Any]]:
        """The batches, with a bar under this name."""
        with tqdm(total=len(self.frames), desc=name, unit="frame") as bar:
            for batch in self.batches(size, device):
                yield batch
                bar.update(len(batch["points"]))

    @property
    def up(self) -> Tensor:
        """The world's direction that is up, [3]."""
        return torch.tensor(self.sequence.layout.up)

    @property
    def _where(self) -> str:
        return f"{self.sequence.folder}: {_views(self.view, self.target)}"

    def _nobody(self) -> UserError:
        shown = f"frame {self.frames[0]}" if len(self.frames) == 1 else f"{len(self.frames)} frames"
        return UserError(f"{self._where}: {shown}: nobody is in the image")

    def _nearest(self, place: int) -> int:
        """The frame nearest to a place among them in which somebody is."""
        for i in sorted(range(len(self.frames)), key=lambda i: abs(i - place)):
            if self._load(self.frames[i]) is not None:
                return self.frames[i]
        raise self._nobody()

    def _load(self, frame: int) -> dict[str, Any] | None:
        seen = load_view(self.sequence, frame, self.view, self.settings.input_resolution, self.settings.resize)
        other = load_view(self.sequence, frame, self.target, self.settings.target_resolution, self.settings.resize)
        return make_pair(self.sequence, frame, seen, other)


def find_sequence(
    root: Path, skeleton: Skeleton, name: str | None = None, argument: str = "sequence", unlike: Sequence | None = None
) -> Sequence:
    """The sequence of a capture that was asked for.

    Args:
        root: folder of the capture.
        skeleton: of the model that it is for.
        name: of the sequence; by default the first one that was never trained on, else the first one of all.
        argument: what the name is called in errors.
        unlike: without a name, somebody else than this sequence's person is wanted, if there is anybody.

    Raises:
        DataError: no such capture, or a broken one.
        UserError: it has no such sequence, or another skeleton.
    """
    sequences = {sequence.name: sequence for sequence in find_sequences(root, "all")}
    require_skeleton(root, next(iter(sequences.values())).layout.skeleton, skeleton)
    if name is not None:
        return sequences[choose(argument, name, sequences)]
    try:
        candidates = [*find_sequences(root, "unknown"), *sequences.values()]
    except NoSequencesError:
        candidates = list(sequences.values())
    others = [sequence for sequence in candidates if unlike is None or _subject(sequence) != _subject(unlike)]
    return (others or candidates)[0]


def require_skeleton(root: Path, found: Skeleton, wanted: Skeleton) -> None:
    """A UserError if a capture's skeleton is not the model's."""
    if found.name != wanted.name:
        raise UserError(f"{root}: is a {found.name} capture, but the model's skeleton is {wanted.name}")
    if found.joints != wanted.joints:
        raise UserError(f"{root}: its joints are not those of the model, or in another order")


def choose_frames(
    sequence: Sequence,
    settings: ModelSettings,
    view: str | None = None,
    target: str | None = None,
    interval: tuple[int, int] | None = None,
    argument: str = "",
) -> Footage:
    """The frames of a sequence that were asked for.

    Args:
        sequence: that they are of.
        settings: of the model that they are for.
        view: by default the first one of the sequence.
        target: by default the view.
        interval: first and last frame; by default those of the test split, else all.
        argument: goes before the names of view and interval in errors.

    Raises:
        UserError: a view that the sequence does not have, or an interval without frames.
    """
    view = choose(f"{argument}view", view or sequence.views[0], sequence.views)
    target = choose("target", target or view, sequence.views)
    # A person's label is only there where there is exactly one of them.
    places = IMAGES, MASKS, sequence.layout.keypoints
    held = set(sequence.available(sequence.layout.points))
    held.intersection_update(*(sequence.available(place, name) for place in places for name in (view, target)))
    # Every frame, though only every so manieth is evaluated: a video should not stutter.
    tested = {frame for first, last in sequence.intervals["test"] for frame in range(first, last + 1)}
    asked = held & tested or held if interval is None else {f for f in held if interval[0] <= f <= interval[1]}
    if not asked:
        where = _views(view, target)
        wanted = f"{interval[0]} to {interval[1]}" if interval else "any"
        has = f", its frames are {min(held)} to {max(held)}" if held else ""
        raise UserError(f"{argument}interval: {sequence.folder}, {where}: no frame of {wanted} has a person{has}")
    return Footage(sequence, view, target, sorted(asked), settings)


def _views(view: str, target: str) -> str:
    return f"view {view}" if view == target else f"views {view} and {target}"


def next_view(sequence: Sequence, view: str | None) -> str:
    """The view after the given one in a sequence's order, or after the first one; after the last one, the first."""
    views = sequence.views
    place = views.index(view) if view in views else 0
    return views[(place + 1) % len(views)]


def _subject(sequence: Sequence) -> str:
    return sequence.name.partition("/")[0]


def choose(argument: str, name: str, names: Collection[str]) -> str:
    """The name, if it is one of those; else a UserError that lists them."""
    if name not in names:
        raise UserError(f"{argument}: got {name!r}, wanted one of {', '.join(names)}")
    return name
