"""What is measured in the frames of a capture, for a check to judge by."""

import math
from contextlib import suppress
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional as F

from hvs.geometry import Camera

from .decoding import REDUCTIONS
from .layouts import IMAGES
from .sequences import Sequence
from .stores import DataError
from .transforms import crop_box

# The joints at the ends of the trunk.
TRUNK = ("LHip", "RHip", "LShoulder", "RShoulder")
# In about this many frames of a sequence, joints of all views are compared with the 3D poses.
LOOKED_AT = 100


@dataclass
class Findings:
    """What was measured in the frames of a view.

    Attributes:
        distances: in pixels between 2D and projected 3D joints, [n] for each frame.
        inside: per frame, the fraction of the 2D joints that are inside the mask.
        covered: per frame, the fraction of the picture that the mask covers.
        extents: of the 3D poses in metres.
        upright: cosines between the up direction and the trunks of the 3D poses.
        complete: frames with a person to train on.
    """

    distances: list[Tensor] = field(default_factory=list)
    inside: list[Tensor] = field(default_factory=list)
    covered: list[Tensor] = field(default_factory=list)
    extents: list[Tensor] = field(default_factory=list)
    upright: list[Tensor] = field(default_factory=list)
    complete: set[int] = field(default_factory=set)

    def look_at(self, sequence: Sequence, view: str, camera: Camera, frame: int, there: set[str]) -> list[str]:
        """Measure what there is of one frame of a view; returns what is wrong with its files.

        Args:
            sequence, view, camera: the view, and the camera of its full frames.
            frame: its number.
            there: which modalities have the frame.
        """
        faults, mask = [], None
        try:
            if "images" in there:
                # A damaged picture is damaged at every size, and the smallest is decoded fastest.
                sequence.picture(IMAGES, view, frame).rgb(REDUCTIONS[-1])
        except DataError as error:
            faults.append(str(error))
        try:
            if "masks" in there:
                mask = sequence.mask(view, frame)[0]
                self.covered.append(mask.float().mean()[None])
        except DataError as error:
            faults.append(str(error))
        try:
            if "2D" in there:
                keypoints, seen = sequence.keypoints(view, frame)
                self._compare_with_mask(keypoints, seen, camera, mask)
                if "3D" in there:
                    self._compare_with_points(sequence, camera, frame, keypoints, seen)
        except DataError as error:
            faults.append(str(error))
        return faults

    def _compare_with_mask(self, keypoints: Tensor, seen: Tensor, camera: Camera, mask: Tensor | None) -> None:
        size = torch.tensor((camera.width, camera.height))
        shown = keypoints[seen & ((keypoints >= 0) & (keypoints <= size - 1)).all(1)].long()
        if mask is not None and len(shown):
            self.inside.append(mask[shown[:, 1], shown[:, 0]].float().mean()[None])

    def _compare_with_points(
        self, sequence: Sequence, camera: Camera, frame: int, keypoints: Tensor, seen: Tensor
    ) -> None:
        layout = sequence.layout
        points, valid = sequence.points(frame)
        box = crop_box(keypoints, seen, camera.width, camera.height, layout.crop_side)
        if box and valid[layout.skeleton.root]:
            self.complete.add(frame)
        both = seen & valid
        both[list(layout.not_projected)] = False
        self.distances.append((camera.project(points) - keypoints).norm(dim=-1)[both])
        if valid.sum() > 1:
            low, high = points[valid].aminmax(dim=0)
            self.extents.append((high - low).norm()[None])
        trunk = [layout.skeleton.joints.index(joint) for joint in TRUNK]
        if valid[trunk].all():
            hips, shoulders = points[trunk].view(2, 2, 3).mean(1)
            up = torch.tensor(layout.up)
            self.upright.append(F.cosine_similarity(shoulders - hips, up, dim=0)[None])


def placed(sequence: Sequence) -> list[Tensor]:
    """For some frames, the fraction of the joints seen in two or more views that have a position in 3D."""
    parts = []
    with suppress(DataError):
        frames = sequence.available(sequence.layout.points)
        for frame in frames[:: max(1, len(frames) // LOOKED_AT)]:
            views = torch.zeros(len(sequence.layout.skeleton.joints), dtype=torch.int)
            for view in sequence.views:
                # The check of that view reports it.
                with suppress(DataError):
                    views += sequence.keypoints(view, frame)[1]
            views[list(sequence.layout.not_projected)] = 0
            with suppress(DataError):
                valid = sequence.points(frame)[1]
                if (views > 1).any():
                    parts.append(valid[views > 1].float().mean()[None])
    return parts


def median(values: list[Tensor]) -> float:
    """The median of all values together; NaN, which exceeds no bound, if there are none."""
    every = torch.cat(values) if values else torch.empty(0)
    return every.median().item() if len(every) else math.nan
