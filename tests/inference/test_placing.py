import math

import pytest
import torch

from hvs.data.layouts import LAYOUTS
from hvs.geometry import Camera, rotation_about_axis
from hvs.inference.placing import FRAMES, ROUNDS, place

LAYOUT = LAYOUTS["panoptic"]
ROOT = 17
SCALE = 400 / 4.0


def camera(focal=400.0, width=320, height=240):
    K = torch.tensor([[focal, 0, (width - 1) / 2], [0, focal, (height - 1) / 2], [0, 0, 1]])
    return Camera(K, torch.eye(3), torch.zeros(3), torch.zeros(0), height, width)


def person(distance=4.0):
    """A pose whose picture is in the middle, [117, 3]."""
    points = torch.randn(117, 3, generator=torch.Generator().manual_seed(3)) * torch.tensor([0.2, 0.4, 0.2])
    points[:, 2] += distance
    low, high = (points[:17, :2] / points[:17, 2:]).aminmax(dim=0)
    points[:, :2] -= (low + high) / 2 * points[:, 2:]
    return points


def outermost():
    """Joints of the body at the edges of its picture."""
    pixels = camera().project(person())[:17]
    return {*pixels.min(0).indices.tolist(), *pixels.max(0).indices.tolist()}


class Knowing:
    """A lifter that knows the pose; on all frames but one it is a little wrong."""

    def __init__(self, points, best=None, error=0.1):
        self.relative, self.best, self.error, self.shown = points - points[ROOT], best, error, []

    def lift(self, keypoints, confidence, resolution):
        self.shown.append((keypoints, confidence, resolution))
        noise = torch.randn(len(keypoints), 117, 3, generator=torch.Generator().manual_seed(1))
        noise[:, ROOT] = 0
        noise[self.best if self.best is not None else slice(None)] = 0
        return self.relative + self.error * noise


ALL = torch.ones(117, dtype=torch.bool)


@pytest.mark.parametrize("distance", [1.5, 4.0, 20.0])
@pytest.mark.parametrize("focal", [200.0, 400.0, 2000.0])
def test_a_known_pose_is_put_where_it_is(distance, focal):
    points, view = person(distance), camera(focal)
    pose, _ = place(Knowing(points), LAYOUT, view.project(points), ALL, view, focal / distance)
    assert torch.allclose(pose, points, atol=1e-4 * distance)


def test_the_frame_that_fits_is_trusted_most():
    points, view, best = person(), camera(), 6
    pose, frame = place(Knowing(points, best), LAYOUT, view.project(points), ALL, view, SCALE)
    assert frame == pytest.approx(FRAMES[best], rel=0.02)
    assert torch.allclose(pose, points, atol=1e-3)


def test_the_lifter_sees_frames_of_several_widths_with_the_person_in_the_middle():
    points, view = person(), camera()
    model = Knowing(points)
    # Somewhere else in the picture.
    moved = view.project(points) + torch.tensor([60.0, -30.0])
    place(model, LAYOUT, moved, ALL, view, SCALE)
    keypoints, confidence, resolution = model.shown[0]
    assert len(keypoints) == len(FRAMES) and confidence.all() and (resolution == resolution[0, 0]).all()
    low, high = keypoints[:, :17].amin(1), keypoints[:, :17].amax(1)
    assert torch.allclose((low + high) / 2, resolution / 2, atol=0.03 * resolution[0, 0].item())
    widths = (high - low)[:, 1] / resolution[:, 1] * torch.tensor(FRAMES)
    true = (points[:17, 1].max() - points[:17, 1].min()).item()
    assert torch.allclose(widths, torch.tensor(true).expand_as(widths), rtol=0.15)


@pytest.mark.parametrize("degrees", [-25.0, 10.0, 25.0])
def test_a_pose_is_the_same_wherever_in_the_picture_it_is(degrees):
    """A camera that turns aside sees the person elsewhere; in the world they stay as they were."""
    points = person()
    straight = camera()
    aside = Camera(
        straight.K,
        rotation_about_axis(torch.tensor([0.0, 1.0, 0.0]), torch.tensor(math.radians(degrees))),
        torch.zeros(3),
        torch.zeros(0),
        240,
        320,
    )
    pose, _ = place(Knowing(points), LAYOUT, aside.project(points), ALL, straight, SCALE)
    assert (aside.to_world(pose) - points).norm(dim=-1).max() < 0.15


def test_unseen_joints_end_where_the_lifted_pose_has_them():
    points, view = person(), camera()
    model = Knowing(points)
    keypoints, seen = view.project(points), ALL.clone()
    hidden = torch.tensor([*sorted(set(range(17)) - outermost())[-2:], 40, 80])
    seen[hidden] = False
    guessed = keypoints.clone()
    guessed[hidden] = keypoints[5]
    whole = Knowing(points)
    place(model, LAYOUT, guessed, seen, view, SCALE)
    place(whole, LAYOUT, keypoints, ALL, view, SCALE)
    assert len(model.shown) == ROUNDS + 1
    assert (model.shown[0][0] - whole.shown[0][0])[:, hidden].norm(dim=-1).min() > 5
    assert torch.allclose(model.shown[-1][0], whole.shown[-1][0], atol=0.1)
    assert model.shown[-1][1].all()


def test_joints_that_are_other_points_in_3d_are_shown_only_if_seen_and_never_fitted():
    points, view = person(), camera()
    model, seen = Knowing(points), ALL.clone()
    seen[17] = False
    keypoints = view.project(points)
    keypoints[18] += 80
    pose, _ = place(model, LAYOUT, keypoints, seen, view, SCALE)
    keypoints, confidence, _ = model.shown[-1]
    assert not confidence[:, 17].any() and confidence[:, 18].all() and (keypoints[:, 17] == 0).all()
    assert torch.allclose(pose, points, atol=1e-3)


def test_missing_joints_move_nobody():
    points, view = person(), camera()
    full, _ = place(Knowing(points), LAYOUT, view.project(points), ALL, view, SCALE)
    few = torch.zeros(117, dtype=torch.bool)
    few[[*outermost(), 5]] = True
    part, _ = place(Knowing(points), LAYOUT, view.project(points), few, view, SCALE)
    assert torch.allclose(full, part, atol=1e-3)


@pytest.mark.parametrize("seen", [[], [5, 6], [17, 18, 5, 6], list(range(19, 117))], ids=len)
def test_too_few_joints_of_the_body_have_no_place(seen):
    points, view = person(), camera()
    mask = torch.zeros(117, dtype=torch.bool)
    mask[seen] = True
    assert place(Knowing(points), LAYOUT, view.project(points), mask, view, SCALE) is None


def test_a_lifter_gone_mad_has_no_place_for_anybody():
    points, view = person(), camera()
    model = Knowing(points * torch.nan)
    assert place(model, LAYOUT, view.project(points), ALL, view, SCALE) is None
