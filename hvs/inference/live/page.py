"""The page of one browser: the person in 3D among the capture's cameras, the network's picture behind, and controls."""

import io
import json
import math
import threading
from collections.abc import Callable
from typing import Any, get_args

import numpy as np
import torch
import trimesh
import viser
from PIL import Image
from viser.transforms import SO3

from hvs.geometry import Camera, limb_gaussians
from hvs.geometry.rotations import frame_from_direction
from hvs.pictures import PART_COLOURS, part_of

from .artist import Drawn, Shown, Wish
from .cast import Cast, Pose
from .window import browser_camera

# The ellipsoids' surface, in standard deviations: along a limb they end at its joints.
SURFACE = 0.5
# Frames per second while playing.
FPS = 25
FRUSTUM, SOURCE = (190, 190, 190), (255, 140, 0)
# Side of the ground, in metres, and the colour of its lines.
GROUND, LINES = 8.0, (80, 80, 80)
# Pictures of more bytes than this are sent as JPEG, at this quality.
SMALL = 2**17
QUALITY = 90


class Page:
    """What one browser shows, and what its user wants to see.

    Args:
        client: the connected browser.
        cast: the people.
        ask: called with this page, by any thread, when it is to be redrawn.
    """

    def __init__(self, client: viser.ClientHandle, cast: Cast, ask: Callable[["Page"], None]) -> None:
        self._client, self._cast, self._skeleton = client, cast, cast.skeleton
        self._ask = lambda _: ask(self)
        self._window = see(client.camera)
        self._drawn: Drawn | None = None
        self._open, self._waits, self._failed = True, False, False
        self._frames = cast.footage.frames
        self._add_controls()
        self._add_cameras()
        self._add_ground()
        self._add_person()
        self._add_buttons()

        @client.camera.on_update
        async def _(camera: viser.CameraHandle) -> None:
            # In the thread that changes the camera: another thread could read it half changed.
            self._window = see(camera)
            ask(self)

        # The message with which a browser connects causes an update, unless it arrives before the update's listener is
        # registered.
        ask(self)

    @property
    def wish(self) -> Wish:
        """What the page wants to see now."""
        frame = self._frames[self._time.value - 1]
        return Wish(self._window, self._view.value, frame, self._person.value, self._shown.value)

    def shows(self, wish: Wish) -> bool:
        """Whether this is what the page shows."""
        return self._drawn is not None and self._drawn.wish == wish and not self._failed

    def announce(self, wish: Wish) -> None:
        """Say what the page has to wait for before it can show this."""
        if self._open and not self._cast.has_looks(wish.person):
            self._status.content = f"Encoding the looks of {wish.person} (only once) …"
            self._client.flush()

    def show(self, drawn: Drawn, status: str) -> None:
        """Show what was drawn for the page, and a status line."""
        # viser warns about every message to a browser that has left.
        if not self._open:
            return
        before, self._drawn, self._failed = self._drawn, drawn, False
        with self._client.atomic():
            self._show_picture(drawn.picture)
            self._strip.image = drawn.strip
            frame, place = drawn.wish.frame, self._frames.index(drawn.wish.frame) + 1
            self._status.content = f"Frame {frame}, {place} of {len(self._frames)}: {status}"
            self._limbs.batched_colors = linear(drawn.colours)
            if before is None or before.pose is not drawn.pose:
                self._show_pose(drawn.pose)
                self._show_source(drawn.wish.view, drawn.pose)
        # At once, not when the next time interval ends.
        self._client.flush()

    def complain(self, error: Exception) -> None:
        """Say what went wrong; the pictures stay as they are."""
        if not self._open:
            return
        self._failed = True
        self._status.content = " ".join(str(error).split()) or type(error).__name__

    def go_on(self, spent: float) -> None:
        """While the page plays, ask for the next frame when it is due; `spent` seconds of the wait are already over."""
        # Only once, however often the page is drawn meanwhile.
        if self._open and self._play.value and not self._waits:
            self._waits = True
            timer = threading.Timer(max(0.0, 1 / FPS - spent), self._advance)
            timer.daemon = True
            timer.start()

    def close(self) -> None:
        """To be called when the browser has left."""
        self._open = False

    def _advance(self) -> None:
        if not self._open:
            return
        self._waits = False
        self._time.value = self._time.value % len(self._frames) + 1

    def _add_controls(self) -> None:
        gui, count = self._client.gui, len(self._frames)
        footage = self._cast.footage
        self._strip = gui.add_image(np.full((1, 3, 3), 255, np.uint8), format="png")
        self._status = gui.add_markdown("")
        # Places among the frames, from 1. A slider needs at least two positions.
        self._time = gui.add_slider("Time", 1, max(count, 2), 1, self._cast.start + 1, disabled=count == 1)
        self._play = gui.add_checkbox("Play", False, disabled=count == 1)
        self._person = gui.add_dropdown("Looks of", self._cast.people, initial_value=self._cast.sequence.name)
        self._view = gui.add_dropdown("Pose from", list(self._cast.cameras), initial_value=footage.view)
        self._shown = gui.add_dropdown("Picture", get_args(Shown), initial_value="output")
        for control in (self._time, self._play, self._person, self._view, self._shown):
            control.on_update(self._ask)

    def _add_cameras(self) -> None:
        scene = self._client.scene
        root = scene.add_frame("/cameras", show_axes=False)
        self._frustums = {}
        for view, camera in self._cast.cameras.items():
            fov = 2 * math.atan(camera.height / 2 / camera.K[1, 1].item())
            wxyz, position = place(camera)
            self._frustums[view] = scene.add_camera_frustum(
                f"/cameras/{view}",
                fov,
                camera.width / camera.height,
                scale=0.2,
                thickness=0.006,
                wxyz=wxyz,
                position=position,
            )
            self._frustums[view].on_click(lambda _, go=(wxyz, position, fov): self._go(*go))
        self._switch("Cameras", root, True)

    def _add_ground(self) -> None:
        up, pose = self._cast.footage.up, self._cast.first
        feet = (pose.points[0].cpu() @ up).min()
        under = pose.centre + (feet - pose.centre @ up) * up
        # The frame's first axis is the ground's normal.
        wxyz = SO3.from_matrix(frame_from_direction(up).double().numpy()).wxyz
        ground = self._client.scene.add_grid(
            "/ground",
            GROUND,
            GROUND,
            plane="yz",
            wxyz=wxyz,
            position=under.numpy(),
            cell_color=LINES,
            section_color=LINES,
        )
        self._switch("Ground", ground, True)

    def _add_person(self) -> None:
        scene, limbs = self._client.scene, len(self._skeleton.edges)
        sphere = trimesh.creation.icosphere(2)
        turns = np.tile((1.0, 0.0, 0.0, 0.0), (limbs, 1))
        # Without a graphics card, the usual material would take many seconds to appear.
        looks = dict(material="toon5", lod="off", cast_shadow=False, receive_shadow=False)
        self._limbs = scene.add_batched_meshes_simple(
            "/gaussians",
            sphere.vertices,
            sphere.faces,
            turns,
            np.zeros((limbs, 3)),
            batched_scales=np.ones((limbs, 3)),
            **looks,
        )
        colours = [PART_COLOURS[part_of(edge, self._skeleton)] for edge in self._skeleton.edges]
        colours = np.array(colours, np.uint8)[:, None].repeat(2, 1)
        bones = np.zeros((limbs, 2, 3))
        self._bones = scene.add_line_segments("/skeleton", bones, linear(colours), thickness=0.01)
        self._switch("Gaussians", self._limbs, False)
        self._switch("Skeleton", self._bones, False)

    def _add_buttons(self) -> None:
        gui = self._client.gui
        gui.add_button("Save picture").on_click(lambda _: self._save_picture())
        gui.add_button("Save camera", hint="For infer.py orbit --path").on_click(lambda _: self._save_camera())

    def _switch(self, label: str, node: Any, on: bool) -> None:
        box = self._client.gui.add_checkbox(label, on)
        node.visible = on

        @box.on_update
        def _(_: Any) -> None:
            node.visible = box.value

    def _show_picture(self, picture: np.ndarray | None) -> None:
        if picture is None:
            self._client.scene.set_background_image(None)
        else:
            kind = "png" if picture.size < SMALL else "jpeg"
            self._client.scene.set_background_image(picture, kind, jpeg_quality=QUALITY)

    def _show_pose(self, pose: Pose) -> None:
        means, rotations, scales = (tensor[0].cpu() for tensor in limb_gaussians(pose.points, self._skeleton))
        self._limbs.batched_positions = means.numpy()
        self._limbs.batched_wxyzs = SO3.from_matrix(rotations.double().numpy()).wxyz
        self._limbs.batched_scales = SURFACE * scales.numpy()
        self._bones.points = pose.points[0].cpu()[torch.tensor(self._skeleton.edges)].numpy()

    def _show_source(self, view: str, pose: Pose) -> None:
        for name, frustum in self._frustums.items():
            frustum.color = SOURCE if name == view else FRUSTUM
            if name == view:
                frustum.image = pose.frame
            elif frustum.image is not None:
                frustum.image = None

    def _go(self, wxyz: np.ndarray, position: np.ndarray, fov: float) -> None:
        with self._client.atomic():
            self._client.camera.position = position
            self._client.camera.wxyz = wxyz
            self._client.camera.fov = fov

    def _save_picture(self) -> None:
        if self._drawn:
            file = io.BytesIO()
            Image.fromarray(self._drawn.output).save(file, "PNG")
            name = f"frame-{self._drawn.wish.frame}.png"
            self._client.send_file_download(name, file.getvalue(), save_immediately=True)

    def _save_camera(self) -> None:
        self._client.send_file_download("camera.json", path_file(self._window).encode(), save_immediately=True)


def see(camera: viser.CameraHandle) -> Camera:
    """The camera of a browser's window."""
    rotation = torch.from_numpy(SO3(camera.wxyz).as_matrix()).float()
    position = torch.from_numpy(camera.position).float()
    # A window may have no area at all.
    width, height = max(camera.image_width, 1), max(camera.image_height, 1)
    return browser_camera(rotation, position, camera.fov, width, height)


def linear(colours: np.ndarray) -> np.ndarray:
    """sRGB colours in linear light, both uint8: viser takes batches of colours that way, single ones as sRGB."""
    part = colours / 255
    light = np.where(part <= 0.04045, part / 12.92, ((part + 0.055) / 1.055) ** 2.4)
    return (255 * light).round().astype(np.uint8)


def place(camera: Camera) -> tuple[np.ndarray, np.ndarray]:
    """Quaternion from a camera's frame to the world, w first, and the camera's position in the world."""
    wxyz = SO3.from_matrix(camera.R.mT.double().numpy()).wxyz
    return wxyz, camera.position.numpy()


def path_file(camera: Camera) -> str:
    """A path of one camera, as `infer.py orbit --path` reads it."""
    entry = {name: getattr(camera, name).tolist() for name in ("K", "R", "t")}
    return json.dumps([entry | {"resolution": [camera.width, camera.height]}], indent=1)
