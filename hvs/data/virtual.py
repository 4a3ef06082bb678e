"""New poses seen from new directions, for training the lifter: a capture shows only a few poses from a few sides."""

import math

import torch
from torch import Tensor

from hvs.geometry import Camera, rotation_about_axis
from hvs.geometry.rotations import rotate

from .bending import Bones
from .poses import PoseDataset
from .stores import DataError

# Standard deviation, in metres, of how far a pose is moved on the floor.
MOVE = 0.25
# Standard deviation of a person's size, relative to their own.
GROW = 0.05


class VirtualViews:
    """Draws poses of a data set, bent, resized, moved and turned about the vertical, as its cameras would see them.

    Poses with unknown joints are not bent. Joints whose 2D label in the data set is not the projection of their 3D
    point count as not found.

    Args:
        dataset: whose cameras to use.
        world: its poses, those in the world that its `tensors` have read.

    Raises:
        DataError: no pose has a root joint, or a camera is broken.
    """

    def __init__(self, dataset: PoseDataset, world: dict[str, Tensor]) -> None:
        self.layout = dataset.layout
        rooted = world["valid"][:, self.layout.skeleton.root]
        if not rooted.any():
            raise DataError(f"{dataset.sequences[0].folder}: no pose has a root joint")
        self.owners, self.points, self.valid = (world[name][rooted] for name in ("owner", "points", "valid"))
        self.whole = self.valid.all(1)  # [F]
        self.bones = Bones(self.points[self.whole], self.layout.skeleton) if self.whole.any() else None
        shown = [(sequence, view) for sequence in dataset.sequences for view in sequence.views]
        cameras = [sequence.camera(view) for sequence, view in shown]
        self.size = torch.tensor([(camera.width, camera.height) for camera in cameras], dtype=torch.float32)
        # What the lifter scales keypoints by, which may be another.
        self.resolution = torch.tensor([s.resolution(view) for s, view in shown], dtype=torch.float32)
        # Each sequence may have its own world; its cameras and its up direction are valid only there.
        self.up = torch.tensor([sequence.layout.up for sequence in dataset.sequences])  # [S, 3]
        self.views = torch.tensor([len(sequence.views) for sequence in dataset.sequences])  # [S]
        self.first_view = self.views.cumsum(0) - self.views
        # Image sizes may differ, but projecting does not need them.
        tensors = (torch.stack([getattr(c, name) for c in cameras]) for name in ("K", "R", "t", "distortion"))
        self.cameras = Camera(*tensors, height=1, width=1)

    def draw(self, count: int, generator: torch.Generator) -> dict[str, Tensor]:
        """A batch of ``count`` items like those of the data set."""
        which = torch.randint(len(self.points), (count,), generator=generator)
        owner = self.owners[which]
        # In double precision, a number below 1 times the number of views never rounds up to that number.
        where = torch.rand(count, generator=generator, dtype=torch.float64)
        where = self.first_view[owner] + (where * self.views[owner]).long()
        points, valid, camera = self.points[which], self.valid[which], self.cameras[where]
        root = points[:, self.layout.skeleton.root, None]
        if self.bones:
            points = torch.where(self.whole[which, None, None], self.bones.bend(points, generator), points)
        up = self.up[owner]
        angle = 2 * math.pi * torch.rand(count, generator=generator)
        size = 1 + GROW * torch.randn(count, 1, 1, generator=generator)
        turned = size * rotate(rotation_about_axis(up, angle), points - root)
        move = MOVE * torch.randn(count, 1, 3, generator=generator)
        world = turned + root + move - (move * up[:, None]).sum(-1, keepdim=True) * up[:, None]

        keypoints = camera.project(world)
        inside = ((keypoints >= 0) & (keypoints <= self.size[where][:, None] - 1)).all(-1)
        found = valid & inside & (camera.to_camera(world)[..., 2] > 0)
        found[:, list(self.layout.not_projected)] = False
        return dict(
            keypoints=keypoints.where(found[..., None], 0.0),
            confidence=found,
            resolution=self.resolution[where],
            relative=rotate(camera.R, turned).where(valid[..., None], 0.0),
            valid=valid,
        )
