"""The people of a capture, lifted and encoded when they are first needed."""

from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
from torch import Tensor
from torch.nn import functional as F

from hvs.data.captures import list_sequences
from hvs.geometry import Camera
from hvs.pictures import to_uint8

from .. import paths
from ..footage import choose_frames, find_sequence
from ..settings import InCapture
from ..studio import Studio

# Number of poses kept with their pictures, and height in pixels of the pictures of full frames.
KEPT = 64
FRAME_HEIGHT = 180


@dataclass(frozen=True, eq=False)
class Pose:
    """A person in one frame.

    Attributes:
        points: joints in the world, [1, J, 3] in metres.
        centre, radius: of a ball around the person, [3] and in metres, on the CPU.
        image: what the encoder sees, [3, h, w] in 0..1, on the CPU.
        frame: the camera's full frame, small, [H, W, 3] uint8.
    """

    points: Tensor
    centre: Tensor
    radius: float
    image: Tensor
    frame: np.ndarray


class Cast:
    """The person of a sequence, seen from any of its cameras, and the looks of everybody in the capture.

    Args:
        studio: lifts and encodes.
        settings: whom to look at.

    Attributes:
        skeleton: skeleton of all people.
        sequence, footage: the sequence whose motion is shown, and its requested frames.
        cameras: view -> camera of the full frame.
        start, first: index of a frame in which the person is seen, and their pose there.
        people: names of all sequences, whose looks are on offer.

    Raises:
        DataError, UserError: no such capture, sequence, view or frames.
    """

    def __init__(self, studio: Studio, settings: InCapture) -> None:
        self._studio, self._count = studio, settings.appearance_frames
        self._root: Path = studio.root(settings.root)
        self.skeleton = studio.model.skeleton
        self.sequence = find_sequence(self._root, self.skeleton, settings.sequence)
        self.footage = choose_frames(self.sequence, studio.model.settings, settings.view, interval=settings.interval)
        self.people = [name for name, _ in list_sequences(self._root, "all")]
        self.pose = lru_cache(KEPT)(self._pose)
        self._made: dict[str, Tensor] = {}
        self.cameras: dict[str, Camera] = {view: self.sequence.camera(view) for view in self.sequence.views}
        # In the middle of the motion the person is close to everywhere else they go.
        (middle,) = self.footage.spread(1).frames
        self.start = self.footage.frames.index(middle)
        self.first = self.pose(self.footage.view, middle)

    def _pose(self, view: str, frame: int) -> Pose:
        """The person, lifted from one camera's keypoints; raises DataError or UserError if nobody is seen."""
        footage = replace(self.footage, view=view, target=view, frames=[frame])
        batch = next(footage.batches(1, self._studio.device))
        points = self._studio.lift(batch)
        centre, radius = paths.frame_person(points.cpu())
        full = self.sequence.image(view, frame)[None] / 255
        width = round(full.shape[-1] * FRAME_HEIGHT / full.shape[-2])
        small = F.interpolate(full, (FRAME_HEIGHT, width), mode="bilinear", antialias=True)
        return Pose(points, centre, radius, batch["image_a"][0].cpu(), to_uint8(small[0]))

    def looks(self, person: str) -> Tensor:
        """The appearance of a sequence's person, [1, N, C], encoded once."""
        if person not in self._made:
            self._made[person] = self._looks(person)
        return self._made[person]

    def has_looks(self, person: str) -> bool:
        """Whether a person's appearance is encoded already, which takes a while with a large model."""
        return person in self._made

    def _looks(self, person: str) -> Tensor:
        footage = self.footage
        if person != self.sequence.name:
            sequence = find_sequence(self._root, self.skeleton, person)
            view = footage.view if footage.view in sequence.views else None
            footage = choose_frames(sequence, self._studio.model.settings, view)
        return self._studio.encode_batch(footage.sources(self._count, self._studio.device))
