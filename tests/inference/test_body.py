import numpy as np
import pytest
import torch

from hvs.geometry.skeletons import HUMAN36M, PANOPTIC
from hvs.inference.body import (
    BONES,
    STATURE,
    from_human36m,
    head_middle,
    keep_inside,
    pixels_per_metre,
    stature,
    to_human36m,
    with_guesses,
)
from tests.inference.figures import JOINTS, figure


def test_a_body_has_its_size_however_little_of_it_was_seen():
    assert pixels_per_metre(figure(100.0)) == pytest.approx(100, rel=0.1)
    upper = figure(100.0)
    upper[11:25, 2] = 0
    assert pixels_per_metre(upper) == pytest.approx(100, rel=0.15)
    doubled = figure(200.0)
    assert pixels_per_metre(doubled) == pytest.approx(2 * pixels_per_metre(figure(100.0)))


def test_one_joint_far_off_changes_the_size_little():
    body = figure()
    body[16, :2] += 300
    assert pixels_per_metre(body) < 1.1 * pixels_per_metre(figure())


@pytest.mark.parametrize("seen", [[], [5], [0, 1, 2, 3, 4], [5, 9], [17, 18]], ids=str)
def test_without_a_bone_there_is_no_size(seen):
    body = np.zeros((135, 3))
    body[seen] = figure()[seen]
    assert pixels_per_metre(body) is None


def test_joints_in_one_place_have_no_size():
    assert pixels_per_metre(np.ones((135, 3))) is None


def test_what_is_unsure_or_outside_or_no_number_was_not_seen():
    rows = figure()
    rows[0, 2], rows[1, 0], rows[2, 1], rows[3, 0], rows[4, 2] = 0.25, -1, 240, np.nan, np.inf
    kept = keep_inside(rows, 320, 240)
    assert kept.dtype == np.float32
    assert (kept[:5] == 0).all()
    assert np.allclose(kept[5:17], rows[5:17])


def test_guesses_hang_below_what_was_seen_and_change_nothing_else():
    body = figure()
    unseen = [9, *range(13, 17), *range(25, 45)]
    body[unseen] = 0
    places = with_guesses(body, 100.0)
    assert np.array_equal(places[:13][body[:13, 2] > 0], body[:13, :2][body[:13, 2] > 0])
    assert np.allclose(places[9] - places[7], (0, 0.146 * STATURE * 100))
    assert np.allclose(places[15] - places[11], (0, (0.245 + 0.246) * STATURE * 100))
    # The hand goes on where the forearm ends.
    assert np.allclose(places[25:45], places[9] + 0.4 * (places[9] - places[7]))
    assert np.allclose(places[45:65], body[45:65, :2])


@pytest.mark.parametrize("shoulder", [5, 6])
def test_one_shoulder_is_enough_for_guesses_of_all(shoulder):
    body = np.zeros((135, 3))
    body[shoulder] = 50, 60, 1
    places = with_guesses(body, 100.0)
    assert np.isfinite(places).all()
    assert places[0, 1] < 60 < places[11, 1] < places[13, 1] < places[15, 1]
    assert np.allclose(places[65:133], places[0])


def test_the_head_is_where_eyes_and_ears_are_else_the_nose():
    body = figure()
    assert np.allclose(head_middle(body)[:2], body[1:5, :2].mean(0))
    body[[1, 3], 2] = 0
    assert np.allclose(head_middle(body)[:2], body[[2, 4], :2].mean(0))
    body[1:5, 2] = 0
    assert np.allclose(head_middle(body), body[0])


def test_human36m_has_left_and_right_as_they_were():
    body = figure()
    joints = dict(zip(HUMAN36M.joints, to_human36m(body), strict=True))
    for name, row in (("LWrist", 9), ("RWrist", 10), ("LFoot", 15), ("RFoot", 16), ("LShoulder", 5), ("RHip", 12)):
        assert np.allclose(joints[name], body[row])
    assert np.allclose(joints["HipCenter"][:2], body[[11, 12], :2].mean(0))
    heights = [joints[name][1] for name in ("HipCenter", "Spine", "Thorax", "Neck/Nose", "Head")]
    assert heights == sorted(heights, reverse=True)


def test_human36ms_head_is_told_from_the_face_without_a_crown():
    body = figure()
    whole = to_human36m(body)
    body[18, 2] = 0
    without = to_human36m(body)
    assert without[10, 2] == 1 and np.abs(without[10] - whole[10]).max() < 10
    body[:5, 2] = 0
    assert to_human36m(body)[10, 2] == 0


def test_human36ms_means_are_unseen_where_a_part_is():
    body = figure()
    body[11, 2] = 0
    seen = dict(zip(HUMAN36M.joints, to_human36m(body)[:, 2] > 0.25, strict=True))
    assert not any(seen[name] for name in ("HipCenter", "Spine", "Thorax", "LHip", "Neck/Nose"))
    assert seen["RHip"] and seen["LShoulder"] and seen["Head"]


def test_there_and_back_keeps_all_joints_that_both_have():
    joints = to_human36m(figure())
    body = from_human36m(joints)
    assert np.allclose(to_human36m(body), joints, atol=1e-3)
    assert np.allclose(body[0], figure()[0], atol=1e-3)


def test_stature_does_not_change_with_the_posture():
    points = np.zeros((117, 3))
    points[: len(JOINTS), :2] = [JOINTS[i] for i in sorted(JOINTS)]
    standing = stature(points, PANOPTIC)
    assert standing == pytest.approx(1.7, rel=0.05)
    # Shanks turned backwards at the knees.
    points[15:17] = points[13:15] + (0, 0, 0.41)
    assert stature(points, PANOPTIC) == pytest.approx(standing, rel=1e-3)
    joints = np.zeros((17, 3))
    joints[:, :2] = to_human36m(figure())[:, :2] / 100
    assert stature(joints, HUMAN36M) == pytest.approx(1.7, rel=0.05)


def test_bones_further_in_come_first():
    known = {5, 6}
    for inner, outer in BONES:
        assert inner in known
        known.add(outer)
    assert known == set(range(5, 17))
    assert torch.tensor(list(BONES.values())).min() > 0
