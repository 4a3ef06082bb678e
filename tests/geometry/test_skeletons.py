from dataclasses import replace

import numpy as np
import pytest
import torch

from hvs.geometry import limb_gaussians, skeletons
from hvs.geometry.skeletons import BY_NAME, HUMAN36M, PANOPTIC, Skeleton


@pytest.mark.parametrize(
    ("skeleton", "joints", "edges", "root"), [(PANOPTIC, 117, 108, "Sternum"), (HUMAN36M, 17, 16, "HipCenter")]
)
def test_sizes_and_references(skeleton, joints, edges, root):
    assert (len(skeleton.joints), len(skeleton.edges), len(skeleton.widths)) == (joints, edges, edges)
    assert skeleton.joints[skeleton.root] == root
    assert len(set(skeleton.joints)) == joints
    assert all(0 <= i < joints and 0 <= j < joints and i != j for i, j in skeleton.edges)
    assert all(0 < width < 0.1 for width in skeleton.widths)


def test_parts_cover_the_panoptic_skeleton():
    covered = [joint for start, stop in PANOPTIC.parts.values() for joint in range(start, stop)]
    assert covered == list(range(117))
    assert BY_NAME == {"panoptic": PANOPTIC, "human36m": HUMAN36M}
    assert len({PANOPTIC, HUMAN36M}) == 2


def test_customised_skeletons():
    base = skeletons.HUMAN36M
    assert skeletons.customise(base) is base and skeletons.customise(base, base.joints) is base
    limbs = ((0, 1, 0.5), (3, 2, 1))
    custom = skeletons.customise(base, limbs=limbs)
    assert (custom.edges, custom.widths, custom.parts) == (((0, 1), (3, 2)), (0.5, 1.0), base.parts)
    turned = skeletons.customise(base, base.joints[::-1], limbs)
    assert turned.joints[turned.root] == base.joints[base.root] and turned.parts == {"body": (0, 17)}
    renamed = skeletons.customise(base, [f"joint {i}" for i in range(17)])
    assert renamed.root == base.root and renamed.edges == base.edges


@pytest.mark.parametrize(
    ("joints", "limbs", "message"),
    [
        ((), None, r"joints: got \[\], wanted a name"),
        (("a", "a"), None, "each name once"),
        (("a", 7), None, r"joints: got \['a', 7\], wanted a name"),
        (("a", "b"), None, "joints: got 2, wanted at least 17, as the limbs refer to them"),
        (None, (), "limbs: got none"),
        (None, ((0, 17, 0.1),), "two joints below 17"),
        (None, ((0, -1, 0.1),), "two joints below 17"),
        (None, ((0, 1),), "two joints below 17"),
        (None, ((0, True, 0.1),), "two joints below 17"),
        (None, ((0, 1, 0.0),), "a positive width"),
        (None, ((0, 1, float("nan")),), "a positive width"),
        (None, ((0, 1, "a"),), "a positive width"),
        (np.array(["a", "b"]), None, "wanted a name"),
        (None, np.array([[0, 1, 0.1], [1, 2, 0.1]]), "two joints below 17"),
        (None, np.zeros((0, 3)), "limbs: got none"),
    ],
)
def test_no_skeleton_is_made_of_faults(joints, limbs, message):
    with pytest.raises(ValueError, match=message):
        skeletons.customise(skeletons.HUMAN36M, joints, limbs)


def test_a_skeleton_has_its_root():
    root = PANOPTIC.root
    for count in (1, root):
        with pytest.raises(ValueError, match=f"joints: got {count}, wanted the root Sternum among them"):
            skeletons.customise(PANOPTIC, [f"joint {i}" for i in range(count)], [(0, 0, 0.1)])
    limbs = [(0, root, 0.1)]
    assert skeletons.customise(PANOPTIC, [f"joint {i}" for i in range(root + 1)], limbs).root == root


@pytest.mark.parametrize(("skeleton", "paired"), [(PANOPTIC, 72), (HUMAN36M, 12)], ids=["panoptic", "human36m"])
def test_limbs_have_their_mirror_images(skeleton, paired):
    mirror = skeleton.mirror
    names = [{skeleton.joints[joint] for joint in edge} for edge in skeleton.edges]
    for i, other in enumerate(mirror):
        assert mirror[other] == i
        assert {name.lstrip("LR") for name in names[i]} == {name.lstrip("LR") for name in names[other]}
    assert names[mirror[names.index({"LElbow", "LWrist"})]] == {"RElbow", "RWrist"}
    assert sum(i != other for i, other in enumerate(mirror)) == paired


def test_joints_without_sides_have_no_mirror_images():
    skeleton = skeletons.customise(skeletons.HUMAN36M, joints=[f"joint {i}" for i in range(17)])
    assert skeleton.mirror == list(range(16))


def test_a_skeleton_of_ones_own():
    """From JSON, which has lists."""
    own = Skeleton("own", ["a", "b", "c"], [[0, 1], [1, 2]], [0.1, 0.05], 0, {"body": (0, 3)}, [0, 0, 0])
    means, _, scales = limb_gaussians(torch.randn(3, 3), own)
    assert means.shape == (2, 3) and scales[:, 1].tolist() == pytest.approx([0.1, 0.05])
    assert hash(own) == hash(replace(own))
    with pytest.raises(ValueError, match="widths: got 1, wanted one for each of 2 edges"):
        replace(own, widths=[0.1])
    with pytest.raises(ValueError, match="edges: got none"):
        replace(own, edges=[], widths=[])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(edges=((0, 1), (1, 3))), r"edges: got \(1, 3\), wanted two joints below 3"),
        (dict(edges=((0, 1), (1, -1))), r"edges: got \(1, -1\), wanted two joints below 3"),
        (dict(edges=((0, 1, 2), (1, 2))), r"edges: got \(0, 1, 2\), wanted two joints below 3"),
        (dict(widths=(0.1, -0.1)), "widths: got -0.1, wanted positive numbers"),
        (dict(widths=(0.1, float("nan"))), "widths: got nan, wanted positive numbers"),
        (dict(root=3), "root: got 3, wanted a joint below 3"),
        (dict(root=-1), "root: got -1, wanted a joint below 3"),
    ],
)
def test_a_skeleton_of_ones_own_refers_to_its_joints(change, message):
    own = Skeleton("own", ("a", "b", "c"), ((0, 1), (1, 2)), (0.1, 0.05), 0, {"body": (0, 3)}, (0, 0, 0))
    with pytest.raises(ValueError, match=message):
        replace(own, **change)
