import numpy as np
import pytest

from hvs.inference.silhouette import draw_silhouette
from tests.inference.figures import figure


def silhouette(body, scale=100.0):
    return draw_silhouette(body, scale, 320, 240)


def test_a_silhouette_covers_the_joints_and_is_about_as_large_as_a_person():
    body = figure()
    mask = silhouette(body)
    assert mask.shape == (240, 320) and mask.dtype == bool
    # The crown is on the outline.
    columns, rows = np.delete(body, 18, 0)[:64, :2].round().astype(int).T
    assert mask[rows.clip(0, 239), columns].all()
    # The figure's head, trunk and limbs as boxes: 0.5 to 0.7 square metres in front view.
    assert 0.4e4 < mask.sum() < 0.8e4
    assert not mask[:, :100].any() and not mask[:, 220:].any()


def test_it_grows_with_the_person():
    small, large = silhouette(figure(50.0), 50.0), silhouette(figure(100.0), 100.0)
    assert large.sum() == pytest.approx(4 * small.sum(), rel=0.06)


def test_an_arm_that_nobody_saw_is_left_out():
    body = figure()
    body[[7, 9, *range(25, 45)], 2] = 0
    without = silhouette(body)
    raised = figure()[9, :2].astype(int)
    assert silhouette(figure())[raised[1], raised[0]] and not without[raised[1], raised[0]]
    assert without.sum() < silhouette(figure()).sum()


def test_unseen_fingers_are_where_the_forearm_points():
    body = figure()
    body[25:65, 2] = 0
    mask = silhouette(body)
    x, y = (body[9, :2] + 0.3 * (body[9, :2] - body[7, :2])).astype(int)
    assert mask[y, x]


@pytest.mark.parametrize("seen", [[5], [6, 8], [5, 6, 0], [5, 7, 9], range(5, 17)], ids=len)
def test_whoever_is_seen_in_part_is_drawn_in_part(seen):
    body = np.zeros((135, 3))
    body[list(seen)] = figure()[list(seen)]
    assert silhouette(body).any() == (len(seen) > 1)


def test_a_person_beyond_the_edges_is_cut_there():
    mask = silhouette(figure(400.0, (160.0, 800.0)), 400.0)
    assert mask.any() and mask[-1].any()
