"""Poses bent: their long bones turned a little, each with all that hangs on it."""

import torch
from torch import Tensor

from hvs.geometry import rotation_about_axis
from hvs.geometry.rotations import rotate
from hvs.geometry.skeletons import Skeleton

# Standard deviation of the turns, in radians.
TURN = 0.2
# Bones longer than this (metres) are turned: limbs and trunk, but not fingers or the face.
LONG = 0.12
# Distances along an edge of the skeleton count this much less than through the air.
EDGE = 1e-3
# Poses that the mean distances are taken of, so that a large data set takes no longer than a small one.
POSES = 500


class Bones:
    """The tree in which the joints of a skeleton hang together, root first.

    A skeleton's edges need not join all of its joints (eyes and mouth are islands). What they leave apart hangs on the
    joint nearest to it: a minimum spanning tree of the mean distances (Prim).

    Args:
        points: whole poses, [F, J, 3] in metres, F > 0.
        skeleton: of these poses.
    """

    def __init__(self, points: Tensor, skeleton: Skeleton) -> None:
        some = points[:: -(-len(points) // POSES)]
        distances = torch.cdist(some, some).mean(0)  # [J, J]
        costs = distances.clone()
        i, j = torch.tensor(skeleton.edges).unbind(-1)
        costs[i, j] = costs[j, i] = EDGE * distances[i, j]
        root, count = skeleton.root, len(costs)
        self.parents = torch.full((count,), root)
        cost, depth, hung = costs[root].clone(), [0] * count, torch.zeros(count, dtype=torch.bool)
        hung[root] = True
        for _ in range(count - 1):
            joint = int(cost.masked_fill(hung, torch.inf).argmin())
            hung[joint] = True
            depth[joint] = depth[self.parents[joint]] + 1
            nearer = (costs[joint] < cost) & ~hung
            self.parents[nearer] = joint
            cost = torch.where(nearer, costs[joint], cost)
        self.long = distances[self.parents, torch.arange(count)] > LONG  # [J], by the joint at a bone's end
        # Joints as far from the root as one another, from near to far, so that a parent's place is known.
        self.levels = [(torch.tensor(depth) == level).nonzero()[:, 0] for level in range(1, max(depth) + 1)]

    def bend(self, points: Tensor, generator: torch.Generator) -> Tensor:
        """Whole poses [B, J, 3] with their long bones turned at random; the root stays where it is."""
        shape = points.shape[:2]
        axis = torch.nn.functional.normalize(torch.randn(*shape, 3, generator=generator), dim=-1)
        turns = rotation_about_axis(axis, TURN * self.long * torch.randn(shape, generator=generator))
        rotations = torch.eye(3).expand(*shape, 3, 3).clone()
        bones = points - points[:, self.parents]
        bent = points.clone()
        for joints in self.levels:
            parents = self.parents[joints]
            rotations[:, joints] = turned = rotations[:, parents] @ turns[:, joints]
            bent[:, joints] = bent[:, parents] + rotate(turned, bones[:, joints, None])[..., 0, :]
        return bent
