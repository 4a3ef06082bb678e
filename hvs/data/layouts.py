"""The labels of a capture and how its pictures are cropped, for both prepared data sets.

A Panoptic sequence is `<root>/<sequence>/Subsequences/<i>/`, a Human3.6M one `<root>/<subject>/Sequences/<action>/`.
Each holds `cameras.json` and, under `Databases/`, one LMDB per view and modality. The layout is that of the original
code of "Human Pose Manipulation and Novel View Synthesis using Differentiable Rendering" (Rochette et al. 2021).
"""

from dataclasses import dataclass
from typing import Literal, get_args

from torch import Tensor

from hvs.geometry import Skeleton
from hvs.geometry.skeletons import HUMAN36M, PANOPTIC

Split = Literal["train", "val", "test"]
SPLITS = get_args(Split)

# A joint counts where the detector's confidence is above this.
CONFIDENT = 0.25
# Places of a sequence's pictures; the layout has those of its poses.
IMAGES, MASKS = "Images", "Masks/SOLO"


@dataclass(frozen=True)
class Layout:
    """What differs between captures.

    Attributes:
        skeleton: whose joints the labels are read as.
        folder: the folder between a subject and its sequences, or a sequence and its views' images.
        keypoints, points: places of the 2D poses and of the 3D poses.
        joints: rows of a label that make up the skeleton's joints.
        label_joints: number of rows in a label.
        with_confidence: whether labels hold a confidence after the coordinates.
        crop_side: of the square crop in pixels; None if it follows the person.
        held_out_stride: validation and test use one frame in this many.
        up: the direction in the world that is up.
        not_projected: joints that are different points in 3D and in 2D.
        middles: (row, other rows): rows of a label that in 3D are means of others.
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
    middles: tuple[tuple[int, tuple[int, ...]], ...]

    def place_middles(self, points: Tensor, confidence: Tensor) -> tuple[Tensor, Tensor]:
        """3D joints of a label [L, 3] and their confidence [L], as copies with the means filled in."""
        points, confidence = points.clone(), confidence.clone()
        for joint, parts in self.middles:
            points[joint] = points[list(parts)].mean(0)
            confidence[joint] = confidence[list(parts)].amin(0)
        return points, confidence


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
        # In 3D the skeleton's root and head are not joints of BODY_135, as detections of 17 and 18 are poor.
        middles=((17, (5, 6)), (18, (1, 2, 3, 4))),
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
        middles=(),
    ),
}
