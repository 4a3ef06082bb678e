import json
from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from hvs import Camera
from hvs.geometry.skeletons import PANOPTIC
from hvs.inference.live.artist import Drawn
from hvs.inference.live.cast import Pose
from hvs.inference.paths import follow, read_path
from hvs.pictures import PART_COLOURS

pytest.importorskip("viser")

from viser.transforms import SO3

from hvs.inference.live.page import SOURCE, Page, linear, path_file, place, see

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


class Node(SimpleNamespace):
    """What a page has put into a browser, with nobody who clicks at it."""

    def on_update(self, call):
        self.call = call
        return call

    on_click = on_update


class Shelf:
    """Makes nodes by the names of their labels, whatever kind they are to be of."""

    def __init__(self):
        self.nodes = {}

    def __getattr__(self, name):
        def add(label, *values, **attributes):
            node = Node(image=None, **attributes)
            if name == "add_slider":
                node.min, node.max, node.value = values[0], values[1], values[3]
            elif name in ("add_checkbox", "add_dropdown"):
                node.value = attributes.get("initial_value", values[0])
            elif name == "add_line_segments":
                node.points, node.colors = values
            self.nodes["status" if name == "add_markdown" else label if isinstance(label, str) else name] = node
            return node

        return add


class Browser:
    """A client of viser's without a browser; it counts what is sent to it at once."""

    def __init__(self):
        self.gui, self.scene, self.sent = Shelf(), Shelf(), 0
        self.camera = camera_of_a_browser()
        self.camera.on_update = lambda call: call

    def atomic(self):
        return nullcontext()

    def flush(self):
        self.sent += 1

    @property
    def status(self):
        return self.gui.nodes["status"].content


@pytest.fixture
def cast():
    points = torch.randn(1, len(PANOPTIC.joints), 3, generator=torch.Generator().manual_seed(0)) * 0.3
    frame = np.zeros((4, 6, 3), np.uint8)
    pose = Pose(points, points[0].mean(0), 1.0, torch.zeros(3, 8, 8), frame)
    cameras = {name: see(camera_of_a_browser()) for name in ("00", "01")}
    footage = SimpleNamespace(frames=[28, 41, 50], view="00", up=UP)
    made = dict(skeleton=PANOPTIC, footage=footage, start=1, people=["ann", "bob"], cameras=cameras, first=pose)
    return SimpleNamespace(**made, sequence=SimpleNamespace(name="bob"), has_looks=lambda person: person == "bob")


def make_page(cast):
    browser, asked = Browser(), []
    page = Page(browser, cast, asked.append)
    assert asked == [page]
    return browser, page


def drawn_for(page, cast):
    colours = np.arange(3 * len(PANOPTIC.edges), dtype=np.uint8).reshape(-1, 3)
    picture = np.zeros((2, 2, 3), np.uint8)
    return Drawn(page.wish, cast.first, colours, picture, picture, picture)


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
    read = follow(read_path(file), points, UP, 60)
    square = Camera.stack([camera.crop(200, 0, 600, 600).resize(60, 60)])
    torch.testing.assert_close(read.project(points), square.project(points))


def test_colours_are_sent_as_amounts_of_light():
    colours = np.array([[0, 10, 11], [128, 188, 255]], np.uint8)
    # Half of the light is brighter than half of sRGB.
    assert linear(colours).tolist() == [[0, 1, 1], [55, 128, 255]] and linear(colours).dtype == np.uint8


def test_many_colours_are_light_and_single_ones_are_not(cast):
    browser, page = make_page(cast)
    drawn = drawn_for(page, cast)
    page.show(drawn, "")
    nodes = browser.scene.nodes
    assert np.array_equal(nodes["/gaussians"].batched_colors, linear(drawn.colours))
    assert {tuple(colour) for colour in nodes["/skeleton"].colors.reshape(-1, 3)} == {
        tuple(linear(np.array(colour, np.uint8))) for colour in PART_COLOURS.values()
    }
    assert nodes["/cameras/00"].color == SOURCE


def test_after_an_error_what_was_shown_before_is_shown_again(cast):
    browser, page = make_page(cast)
    drawn = drawn_for(page, cast)
    page.show(drawn, "fine")
    assert page.shows(page.wish)
    page.complain(ValueError("nobody is\nin the image"))
    assert browser.status == "nobody is in the image" and not page.shows(page.wish)
    page.show(drawn, "fine again")
    assert browser.status.endswith("fine again") and page.shows(page.wish)
    page.complain(MemoryError())
    assert browser.status == "MemoryError"


def test_who_left_is_told_nothing(cast):
    browser, page = make_page(cast)
    status, time = browser.gui.nodes["status"], browser.gui.nodes["Time"]
    status.content = "as it was"
    before = time.value
    page.close()
    page.show(drawn_for(page, cast), "late")
    page.complain(ValueError("late"))
    page._advance()
    assert (browser.status, browser.sent, time.value) == ("as it was", 0, before)


def test_looks_that_are_not_made_yet_are_announced(cast):
    browser, page = make_page(cast)
    browser.gui.nodes["status"].content = "as it was"
    page.announce(page.wish)
    assert (browser.status, browser.sent) == ("as it was", 0)
    browser.gui.nodes["Looks of"].value = "ann"
    page.announce(page.wish)
    assert (browser.status, browser.sent) == ("Encoding the looks of ann (only once) …", 1)


def test_the_slider_and_the_status_count_the_same_places(cast):
    browser, page = make_page(cast)
    time = browser.gui.nodes["Time"]
    assert (time.min, time.max, time.value, page.wish.frame) == (1, 3, 2, 41)
    for frame, number in ((50, 3), (28, 1), (41, 2)):
        page._advance()
        page.show(drawn_for(page, cast), "at once")
        assert time.value == number and browser.status == f"Frame {frame}, {number} of 3: at once"


def test_of_one_frame_there_is_no_time(cast):
    cast.footage.frames, cast.start = [7], 0
    browser, page = make_page(cast)
    time = browser.gui.nodes["Time"]
    assert (time.min, time.max, time.value, time.disabled) == (1, 2, 1, True) and page.wish.frame == 7
