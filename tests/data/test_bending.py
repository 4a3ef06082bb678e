from pathlib import Path

import numpy as np
import pytest
import torch

from hvs.data.bending import LONG, Bones
from hvs.geometry.skeletons import BY_NAME, PANOPTIC, Skeleton

POSES = Path(__file__).parents[2] / "bench" / "poses.npz"
LIMBS = {"Shoulder", "Elbow", "Wrist", "Hip", "Knee", "Ankle", "Head"}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def arm():
    """Shoulder, elbow, wrist, a finger on it, and an ear that no edge joins to anything."""
    skeleton = Skeleton(
        "arm", ("shoulder", "elbow", "wrist", "finger", "ear"), ((0, 1), (2, 1), (2, 3)), (1,) * 3, 0, {}, ()
    )
    points = torch.tensor([[0, 0, 0], [0.3, 0, 0], [0.6, 0, 0], [0.6, 0.05, 0], [0, -0.25, 0]])
    return skeleton, points


def test_the_tree_follows_the_edges_and_hangs_up_what_they_leave(arm):
    skeleton, points = arm
    bones = Bones(points[None], skeleton)
    assert bones.parents.tolist() == [0, 0, 1, 2, 0]
    assert bones.long.tolist() == [False, True, True, False, True]
    # The finger is one part with the forearm. Parts are numbered from the root outwards, and turn about its joints.
    assert bones.part.tolist() == [0, 1, 3, 3, 2]
    assert bones.pivots.tolist() == [0, 0, 0, 1]
    assert [level.tolist() for level in bones.levels] == [[1, 2], [3]]


def test_bones_keep_their_length_and_the_root_its_place(arm):
    skeleton, points = arm
    bones = Bones(points[None], skeleton)
    bent = bones.bend(points.expand(50, 5, 3), generator())
    assert torch.equal(bent[:, 0], points[0].expand(50, 3))
    for end, start in enumerate(bones.parents.tolist()):
        torch.testing.assert_close(
            (bent[:, end] - bent[:, start]).norm(dim=-1), (points[end] - points[start]).norm().expand(50)
        )
    assert (bent - points)[:, 1].norm(dim=-1).mean() > 0.03


def test_a_hand_turns_with_its_arm_and_not_in_itself(arm):
    skeleton, points = arm
    bent = Bones(points[None], skeleton).bend(points.expand(50, 5, 3), generator())
    # The finger's angle with the forearm stays; the elbow's does not.
    forearm, finger, upper = bent[:, 2] - bent[:, 1], bent[:, 3] - bent[:, 2], bent[:, 1]
    assert (forearm * finger).sum(-1).abs().max() < 1e-6
    assert ((forearm * upper).sum(-1) / 0.09 < 0.999).any()


@pytest.mark.parametrize("size", [1.0, 1.15])
def test_fingers_are_never_cut_off_the_hands_of_people(size):
    """Nor are feet and face in parts, in a tall person either; limbs and trunk are."""
    poses = size * torch.from_numpy(np.load(POSES)["points"])
    bones = Bones(poses, PANOPTIC)
    assert {PANOPTIC.joints[joint].lstrip("LR") for joint in bones.long.nonzero()[:, 0]} == LIMBS


@pytest.mark.parametrize("name", BY_NAME)
def test_every_joint_of_the_skeletons_hangs_on_the_root(name):
    skeleton = BY_NAME[name]
    points = torch.randn(3, len(skeleton.joints), 3, generator=generator(1))
    bones = Bones(points, skeleton)
    hangs = torch.arange(len(skeleton.joints))
    for _ in skeleton.joints:
        hangs = bones.parents[hangs]
    assert (hangs == skeleton.root).all()
    placed = {0}
    for level in bones.levels:
        assert {int(bones.outer[part]) for part in level} <= placed
        placed |= set(level.tolist())
    assert placed == set(range(len(bones.pivots)))
    assert bones.long.sum() > len(skeleton.joints) / 2  # these points are a metre apart, LONG is much less
    assert LONG < 0.2
    assert torch.equal(bones.bend(points, generator(2)), bones.bend(points, generator(2)))
