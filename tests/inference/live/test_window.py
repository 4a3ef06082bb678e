import math

import pytest
import torch

from hvs import Camera
from hvs.inference.live.window import browser_camera, half_and_half, square_around


def window(eye, target, fov=0.8, width=1280, height=720):
    """A browser's camera, by way of its rotation and position."""
    up = torch.tensor([0.0, -1.0, 0.0])
    looking = Camera.look_at(torch.tensor(eye), torch.tensor(target), up, torch.eye(3), 1, 1)
    return browser_camera(looking.R.mT, torch.tensor(eye), fov, width, height)


def in_browser(points, eye, camera, fov, width, height):
    """Where OpenGL draws points, as parts of the window from its top left corner: written down anew."""
    x, y, z = ((points - torch.tensor(eye)) @ camera.R.mT).unbind(-1)
    clip = torch.stack((x / z / (math.tan(fov / 2) * width / height), y / z / math.tan(fov / 2)), -1)
    return (1 + clip) / 2


@pytest.mark.parametrize("size", [(1280, 720), (333, 701), (64, 64)])
def test_a_browsers_camera_sees_what_opengl_draws(size):
    eye, fov = (3.0, -1.5, 2.0), 0.7
    camera = window(eye, (0.2, -0.8, 0.1), fov, *size)
    points = torch.randn(20, 3, generator=torch.Generator().manual_seed(0)) * 0.4
    pixels = camera.project(points)
    torch.testing.assert_close((pixels + 0.5) / torch.tensor(size), in_browser(points, eye, camera, fov, *size))


@pytest.mark.parametrize("eye", [(3.0, -1.5, 2.0), (0.0, -0.4, 9.0), (0.5, -1.2, 1.3), (40.0, 0.0, 0.0)])
@pytest.mark.parametrize("target", [(0.0, 0.0, 0.0), (0.4, -0.9, -0.3)])
@pytest.mark.parametrize("size", [32, 256])
def test_a_joint_is_at_the_same_place_of_the_picture_and_of_the_scene_in_3d(eye, target, size):
    shown = window(eye, target)
    centre, radius = torch.tensor([0.1, -0.1, 0.0]), 0.9
    square = square_around(centre, radius, shown, size)
    points = centre + radius * torch.nn.functional.normalize(torch.randn(50, 3), dim=-1)
    points = points[shown.to_camera(points)[:, 2] > 0.1]
    # As the network draws it, then placed into the picture, then stretched over the window.
    drawn = (square.camera(size).project(points[None])[0] + 0.5) / size * square.side
    drawn = drawn + torch.tensor([square.left, square.top])
    drawn = drawn / torch.tensor([square.picture.width, square.picture.height])
    torch.testing.assert_close(drawn, in_browser(points, eye, shown, 0.8, 1280, 720), atol=1e-4, rtol=1e-4)


def test_the_square_holds_the_ball_and_little_more():
    shown = window((3.0, -1.5, 2.0), (0.4, -0.9, -0.3))
    centre, radius = torch.tensor([0.1, -0.1, 0.0]), 0.9
    square = square_around(centre, radius, shown, 64)
    surface = centre + radius * torch.nn.functional.normalize(torch.randn(20_000, 3), dim=-1)
    pixels = square.camera(64).project(surface[None])[0]
    low, high = pixels.amin(0), pixels.amax(0)
    assert (low >= -1.5).all() and (high <= 64.5).all()
    assert (high - low).max() > 61


def test_the_picture_has_as_many_pixels_in_the_square_as_the_network_gives_but_no_more_than_the_window():
    centre = torch.zeros(3)
    near = square_around(centre, 0.9, window((4.0, 0.0, 0.0), (0.0, 0.0, 0.0)), 64)
    assert near.side == 64 and near.picture.height < 720
    far = square_around(centre, 0.9, window((90.0, 0.0, 0.0), (0.0, 0.0, 0.0)), 64)
    assert far.side < 64 and far.picture.height == 720


@pytest.mark.parametrize("eye", [(0.5, 0.0, 0.0), (1.2, 0.0, 0.0), (-4.0, 0.0, 0.0)], ids=["inside", "near", "behind"])
def test_who_does_not_fit_into_the_window_is_drawn_as_the_window_shows_them(eye):
    shown = window(eye, (eye[0] - 1, 0.0, 0.0))
    square = square_around(torch.zeros(3), 0.9, shown, 64)
    assert (square.side, square.picture.width) == (64, 64)
    assert square.left == pytest.approx(0, abs=1) and square.top < 0


def test_images_are_placed_where_they_belong_and_cut_where_the_window_ends():
    shown = window((4.0, 0.0, 0.0), (0.0, 0.0, 0.0))
    square = square_around(torch.zeros(3), 0.9, shown, 16)
    image = torch.rand(3, 16, 16)
    colour = torch.tensor([0.2, 0.4, 0.6])
    picture = square.place(image, colour)
    assert picture.shape == (3, square.picture.height, square.picture.width)
    rows, columns = slice(square.top, square.top + 16), slice(square.left, square.left + 16)
    assert torch.equal(picture[:, rows, columns], image)
    picture[:, rows, columns] = colour[:, None, None]
    assert (picture == colour[:, None, None]).all()

    aside = square_around(torch.zeros(3), 0.9, window((4.0, 0.0, 0.0), (0.0, 0.0, -1.9)), 16)
    cut = aside.place(image, colour)
    seen = min(aside.left + 16, aside.picture.width) - max(aside.left, 0)
    assert 0 < seen < 16
    assert ((cut != colour[:, None, None]).any(0).any(0)).sum() == seen

    away = square_around(torch.zeros(3), 0.9, window((12.0, 0.0, 0.0), (0.0, 0.0, -12.0)), 16)
    assert (away.place(image, colour) == colour[:, None, None]).all()


def test_a_latent_of_another_size_is_brought_to_the_squares():
    square = square_around(torch.zeros(3), 0.9, window((4.0, 0.0, 0.0), (0.0, 0.0, 0.0)), 32)
    picture = square.place(torch.full((3, 8, 8), 0.5), torch.zeros(3))
    assert (picture[0] == 0.5).sum() == 32 * 32


@pytest.mark.parametrize(("column", "left"), [(-3, 0), (0, 0), (2, 2), (9, 5)])
def test_halves_meet_at_a_column(column, left):
    both = half_and_half(torch.ones(3, 4, 5), torch.zeros(3, 4, 5), column)
    assert both.shape == (3, 4, 5) and both[0, 0].tolist() == [1.0] * left + [0.0] * (5 - left)
