"""Random bending of poses: long bones are turned a little, each together with everything attached to it."""

import torch
from torch import Tensor

from hvs.geometry import rotation_about_axis
from hvs.geometry.rotations import rotate
from hvs.geometry.skeletons import Skeleton

# Standard deviation of the turns, in radians.
TURN = 0.2
# Bones longer than this (metres) are turned: limbs and trunk, but not fingers (a wrist and a knuckle lie 0.12 m apart)
# or the face.
LONG = 0.15
# Distances along an edge of the skeleton count this much less than through the air.
EDGE = 1e-3
# About how many poses the mean distances are taken over, so that a large data set takes no longer than a small one.
POSES = 500


class Bones:
    """The tree that connects the joints of a skeleton, and its rigid parts, root first.

    A skeleton's edges need not connect all of its joints (eyes and mouth are islands). Joints that they leave apart are
    attached to the nearest joint: the tree is a minimum spanning tree of the mean distances (Prim).

    Args:
        points: complete poses, [F, J, 3] in metres, F > 0.
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

        # A rigid part is a long bone with everything attached to it, up to the next long bones. The first one holds the
        # root.
        self.part = torch.zeros(count, dtype=torch.long)
        pivots, outer, level = [root], [0], [0]
        for joint in sorted(set(range(count)) - {root}, key=depth.__getitem__):
            parent = int(self.parents[joint])
            self.part[joint] = self.part[parent]
            if self.long[joint]:
                pivots.append(parent)
                outer.append(int(self.part[parent]))
                level.append(level[outer[-1]] + 1)
                self.part[joint] = len(pivots) - 1
        self.pivots, self.outer = torch.tensor(pivots), torch.tensor(outer)
        # Parts grouped by their depth in the tree, from near the root to far, so that what a part is attached to is
        # placed before it.
        self.levels = [(torch.tensor(level) == depth).nonzero()[:, 0] for depth in range(1, max(level) + 1)]

    def bend(self, points: Tensor, generator: torch.Generator) -> Tensor:
        """Complete poses [B, J, 3] with their long bones turned at random; the root stays where it is."""
        shape = len(points), len(self.pivots)
        axis = torch.nn.functional.normalize(torch.randn(*shape, 3, generator=generator), dim=-1)
        angle = TURN * torch.randn(shape, generator=generator)
        angle[:, 0] = 0
        rotations = rotation_about_axis(axis, angle)
        pivots = points[:, self.pivots]
        bent = pivots.clone()
        for parts in self.levels:
            outer = self.outer[parts]
            bent[:, parts] = bent[:, outer] + _turn(rotations[:, outer], pivots[:, parts] - pivots[:, outer])
            rotations[:, parts] = rotations[:, outer] @ rotations[:, parts]
        return bent[:, self.part] + _turn(rotations[:, self.part], points - pivots[:, self.part])


def _turn(rotations: Tensor, vectors: Tensor) -> Tensor:
    """Rotate vectors: [..., 3, 3] and [..., 3] -> [..., 3]."""
    return rotate(rotations, vectors[..., None, :])[..., 0, :]
