"""From what a page wants to see to the pictures it shows."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from hvs.geometry import Camera
from hvs.pictures import LatentColours, mosaic, to_uint8

from .. import paths
from ..studio import Studio
from .cast import Cast, Pose
from .window import Square, half_and_half, square_around

Shown = Literal["output", "latent", "half and half", "nothing"]

# The largest width of a panel of the strip.
PANEL = 160


@dataclass(frozen=True)
class Wish:
    """What a page wants to see.

    Attributes:
        window: camera of the browser's window.
        view: camera of the capture that the pose is lifted from.
        frame: number of the frame.
        person: sequence whose person's looks are shown.
        shown: what to show behind the 3D scene.
    """

    window: Camera
    view: str
    frame: int
    person: str
    shown: Shown


@dataclass(frozen=True, eq=False)
class Drawn:
    """What a page is to show.

    Attributes:
        wish: the wish that it fulfils.
        pose: the person's.
        colours: colours of the limbs, as in the latent image, [N, 3] uint8.
        picture: what is behind the 3D scene, over the whole window, [H, W, 3] uint8; None for nothing.
        strip: input, latent and output side by side, [h, w, 3] uint8.
        output: the network's picture, [S, S, 3] uint8.
    """

    wish: Wish
    pose: Pose
    colours: np.ndarray
    picture: np.ndarray | None
    strip: np.ndarray
    output: np.ndarray


class Artist:
    """Draws what pages want to see. For use by one thread only, as a compiled model is.

    Args:
        studio: what draws.
        cast: whom to draw.
    """

    def __init__(self, studio: Studio, cast: Cast) -> None:
        self._studio, self._cast = studio, cast
        self._size = studio.model.settings.target_resolution
        self._background = torch.tensor(cast.skeleton.background, device=studio.device) / 255
        # The first picture takes longest; it is drawn now, so that nobody has to wait for it.
        points, source = cast.first.points, cast.cameras[cast.footage.view].to(studio.device)
        camera = paths.orbit(points, source, cast.footage.up, 1, self._size)
        latent, _ = studio.draw(points, cast.looks(cast.sequence.name), camera)
        # A colour means the same on all pages.
        self._colours = LatentColours(latent)

    def draw(self, wish: Wish) -> Drawn:
        """What a page wants to see.

        Raises:
            DataError: a file of the capture is broken.
            UserError: the camera does not see the person in this frame.
        """
        pose = self._cast.pose(wish.view, wish.frame)
        looks = self._cast.looks(wish.person)
        square = square_around(pose.centre, pose.radius, wish.window, self._size)
        camera = square.camera(self._size).to(self._studio.device)
        latent, image = self._studio.draw(pose.points, looks, camera)
        latent, empty = self._colours(latent)[0], self._colours(torch.zeros_like(latent[..., :1, :1]))[0, :, 0, 0]
        picture = self._picture(wish.shown, square, image[0], latent, empty)
        return Drawn(
            wish=wish,
            pose=pose,
            colours=to_uint8(self._colours(looks.mT[..., None])[0, :, :, 0].mT[..., None, None])[:, 0, 0],
            picture=None if picture is None else to_uint8(picture),
            strip=np.asarray(mosaic([[pose.image, latent, image[0]]], ["input", "latent", "output"], PANEL)),
            output=to_uint8(image[0]),
        )

    def _picture(self, shown: Shown, square: Square, image: Tensor, latent: Tensor, empty: Tensor) -> Tensor | None:
        if shown == "nothing":
            return None
        if shown == "output":
            return square.place(image, self._background)
        if shown == "latent":
            return square.place(latent, empty)
        pictures = square.place(latent, empty), square.place(image, self._background)
        return half_and_half(*pictures, square.left + square.side // 2)
