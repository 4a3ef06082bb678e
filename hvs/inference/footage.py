"""People in captures: which sequence, frames and views to show, and their images and poses, read in advance."""

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
    """Frames of a sequence, seen by one camera and rendered for another, or for the same.

    Attributes:
        sequence: the sequence they belong to.
        view: the camera of the input images.
        target: the camera to render for.
        frames: their numbers, ascending.
        settings: settings of the model they are for.
    """

    sequence: Sequence
    view: str
    target: str
    frames: list[int]
    settings: ModelSettings

    def batches(self, size: int, device: torch.device) -> Iterator[dict[str, Any]]:
        """All frames with somebody in the image, as `PairDataset` has them, in batches of at most `size`.

        A line on stderr says how many frames were left out.

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
        """At most `count` of the frames, evenly spread: the middle one, or the first, the last and some in between.

        A frame with nobody in the image is replaced by the nearest one with somebody.

        Raises:
            DataError: a file is missing or broken.
            UserError: nobody is in any of the images.
        """
        last = len(self.frames) - 1
        places = {round(place) for place in np.linspace(0, last, count)} if count > 1 else {last // 2}
        frames = sorted({self._nearest(place) for place in places})
        return Footage(self.sequence, self.view, self.target, frames, self.settings)

    def sources(self, count: int, device: torch.device) -> dict[str, Any]:
        """At most `count` of the frames, evenly spread, as one batch to encode the person's appearance from."""
        return next(self.spread(count).batches(count, device))

    def progress(self, size: int, device: torch.device, name: str) -> Iterator[dict[str, Any]]:
        """The batches, with a progress bar of this name."""
        with tqdm(total=len(self.frames), desc=name, unit="frame") as bar:
            for batch in self.batches(size, device):
                yield batch
                bar.update(len(batch["points"]))

    @property
    def up(self) -> Tensor:
        """The world's up direction, [3]."""
        return torch.tensor(self.sequence.layout.up)

    @property
    def _where(self) -> str:
        return f"{self.sequence.folder}: {_views(self.view, self.target)}"

    def _nobody(self) -> UserError:
        shown = f"frame {self.frames[0]}" if len(self.frames) == 1 else f"{len(self.frames)} frames"
        return UserError(f"{self._where}: {shown}: nobody is in the image")

    def _nearest(self, place: int) -> int:
        """The frame with somebody in the image that is nearest to the one at index `place`."""
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
    """The requested sequence of a capture.

    Args:
        root: folder of the capture.
        skeleton: skeleton of the model it is for.
        name: name of the sequence; by default the first one that was never trained on, or else the first of all.
        argument: what the name is called in errors.
        unlike: without a name, prefer somebody other than this sequence's person.

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
    """Raise a UserError if a capture's skeleton is not the model's."""
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
    """The requested frames of a sequence.

    Args:
        sequence: the sequence they belong to.
        settings: settings of the model they are for.
        view: by default the first one of the sequence.
        target: by default the view.
        interval: first and last frame; by default the frames of the test split, or else all.
        argument: prefix of the names of view and interval in errors.

    Raises:
        UserError: a view that the sequence does not have, or an interval without frames.
    """
    view = choose(f"{argument}view", view, sequence.views, sequence.views[0])
    target = choose("target", target, sequence.views, view)
    # Points exist only for frames with exactly one person.
    places = IMAGES, MASKS, sequence.layout.keypoints
    held = set(sequence.available(sequence.layout.points))
    held.intersection_update(*(sequence.available(place, name) for place in places for name in (view, target)))
    # All frames, although evaluation takes only every nth: a video should not stutter.
    tested = {frame for frame in held if any(first <= frame <= last for first, last in sequence.intervals["test"])}
    if interval and interval[0] > interval[1]:
        got = f"{interval[0]} to {interval[1]}"
        raise UserError(f"{argument}interval: got {got}, wanted the first frame and then the last one")
    asked = tested or held if interval is None else {f for f in held if interval[0] <= f <= interval[1]}
    if not asked:
        where = f"{sequence.folder}, {_views(view, target)}"
        if not held:
            raise UserError(f"{where}: no frame has a person and all that is needed to show them")
        wanted = f"no frame of {interval[0]} to {interval[1]} has a person"
        raise UserError(f"{argument}interval: {where}: {wanted}, its frames are {min(held)} to {max(held)}")
    return Footage(sequence, view, target, sorted(asked), settings)


def _views(view: str, target: str) -> str:
    return f"view {view}" if view == target else f"views {view} and {target}"


def next_view(sequence: Sequence, view: str | None) -> str:
    """The view after the given one in the sequence's order, or after the first if none is given; wraps around."""
    views = sequence.views
    place = views.index(view) if view in views else 0
    return views[(place + 1) % len(views)]


def _subject(sequence: Sequence) -> str:
    return sequence.name.partition("/")[0]


def choose(argument: str, name: str | None, names: Collection[str], default: str = "") -> str:
    """The name, or the default for None, if it is one of `names`; a UserError lists them if not."""
    # An empty name, such as that of an unset variable, is none of them, and does not stand for the default.
    name = default if name is None else name
    if name not in names:
        raise UserError(f"{argument}: got {name!r}, wanted one of {', '.join(names)}")
    return name
