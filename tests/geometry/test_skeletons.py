import pytest

from hvs.geometry.skeletons import BY_NAME, HUMAN36M, PANOPTIC


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
