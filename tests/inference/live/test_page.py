import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from hvs import Camera
from hvs.inference.paths import read_path

pytest.importorskip("viser")

from viser.transforms import SO3

from hvs.inference.live.page import path_file, place, see

UP = torch.tensor([0.0, -1.0, 0.0])
EYE, TARGET = torch.tensor([2.0, -1.5, 1.0]), torch.tensor([0.3, -0.8, -0.2])


def camera_of_a_browser(**other):
    """As viser describes it: it looks along its z, and up is -y."""
    forward = torch.nn.functional.normalize(TARGET - EYE, dim=0)
    right = torch.nn.functional.normalize(torch.linalg.cross(forward, UP), dim=0)
    axes = torch.stack((right, torch.linalg.cross(forward, right), forward), 1)
    state = dict(
        wxyz=SO3.from_matrix(axes.double().numpy()).wxyz,
        position=EYE.double().numpy(),
        fov=0.9,
        image_width=1000,
        image_height=600,
    )
    return SimpleNamespace(**state | other)


def test_a_browsers_camera_is_one_of_ours():
    camera = see(camera_of_a_browser())
    right = torch.linalg.cross(TARGET - EYE, UP)
    points = torch.stack((TARGET, TARGET + 0.1 * UP, TARGET + 0.1 * right, EYE + 1.1 * (TARGET - EYE)))
    pixels = camera.project(points)
    middle = torch.tensor([499.5, 299.5])
    torch.testing.assert_close(pixels[[0, 3]], middle.expand(2, 2), atol=1e-2, rtol=0)
    assert pixels[1, 1] < 299 and pixels[2, 0] > 500
    assert (camera.width, camera.height) == (1000, 600)


def test_the_top_of_the_window_is_half_its_field_of_view_above_the_middle():
    camera = see(camera_of_a_browser(fov=np.pi / 2))
    above = camera.to_world(torch.tensor([[0.0, -1.0, 1.0]]))
    torch.testing.assert_close(camera.project(above)[0], torch.tensor([499.5, -0.5]), atol=1e-2, rtol=0)


def test_a_window_of_no_size_is_a_camera_too():
    camera = see(camera_of_a_browser(image_width=0, image_height=0))
    assert (camera.width, camera.height) == (1, 1)


def test_cameras_stand_in_the_scene_where_they_see_from():
    camera = see(camera_of_a_browser())
    wxyz, position = place(camera)
    again = see(camera_of_a_browser(wxyz=wxyz, position=position.astype(float)))
    torch.testing.assert_close(again.R, camera.R)
    torch.testing.assert_close(again.t, camera.t)


def test_a_saved_camera_is_a_path_for_an_orbit(tmp_path):
    camera = see(camera_of_a_browser())
    file = tmp_path / "camera.json"
    file.write_text(path_file(camera))
    assert len(json.loads(file.read_text())) == 1
    points = torch.randn(1, 9, 3) * 0.2
    read = read_path(file, points, UP, 60)
    square = Camera.stack([camera.crop(200, 0, 600, 600).resize(60, 60)])
    torch.testing.assert_close(read.project(points), square.project(points))
