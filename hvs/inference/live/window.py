"""What a browser's window shows: its camera, the square of it that a network draws, and the picture around that."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from hvs.geometry import Camera


@dataclass(frozen=True)
class Square:
    """A square that a network draws, in a picture that the browser stretches over its window.

    Attributes:
        picture: camera of the picture, with the picture's size.
        left, top, side: position and size of the square, in the picture's pixels; part of it may lie outside.
    """

    picture: Camera
    left: int
    top: int
    side: int

    def camera(self, size: int) -> Camera:
        """The camera that sees the square with `size` pixels a side, with a batch axis [1]."""
        square = self.picture.crop(self.left, self.top, self.side, self.side).resize(size, size)
        return Camera.stack([square])

    def place(self, image: Tensor, colour: Tensor) -> Tensor:
        """The picture [3, H, W] with an image of the square [3, s, s], and a colour [3] around it."""
        if image.shape[-1] != self.side:
            smooth = dict(size=(self.side, self.side), mode="bilinear", antialias=True)
            image = F.interpolate(image[None], **smooth)[0]
        picture = colour[:, None, None].repeat(1, self.picture.height, self.picture.width)
        rows, inner_rows = _overlap(self.top, self.side, self.picture.height)
        columns, inner_columns = _overlap(self.left, self.side, self.picture.width)
        picture[:, rows, columns] = image[:, inner_rows, inner_columns]
        return picture


def browser_camera(rotation: Tensor, position: Tensor, fov: float, width: int, height: int) -> Camera:
    """The camera of a browser's window.

    Args:
        rotation: from the camera's frame, as `Camera` defines it, to the world, [3, 3].
        position: position in the world, in metres, [3].
        fov: vertical angle of view of the window, in radians.
        width, height: size of the window, in pixels.
    """
    focal = height / 2 / math.tan(fov / 2)
    K = rotation.new_tensor([[focal, 0, (width - 1) / 2], [0, focal, (height - 1) / 2], [0, 0, 1]])
    R = rotation.mT
    return Camera(K, R, -(R @ position), K.new_zeros(0), height, width)


def square_around(centre: Tensor, radius: float, window: Camera, size: int) -> Square:
    """The square around a ball, for a network to draw what is in the ball as large as in its training.

    If the ball is larger than the window, this is the square around the window. The picture has no more pixels than
    the window, and its square no more than the network draws.

    Args:
        centre: centre of the ball in the world, in metres, [3].
        radius: radius of the ball, in metres.
        window: camera of the browser's window, without distortion.
        size: side of the network's pictures, in pixels.
    """
    middle, side = _around(window.to_camera(centre[None])[0].tolist(), radius, window)
    scale = min(1.0, size / side)
    pixels = max(1, round(side * scale))
    height, width = (max(1, round(n * scale)) for n in (window.height, window.width))
    picture = window.resize(height, width)
    # Pixel centres are at integers, so the window's left and top edges are at -0.5.
    left, top = (round((m + 0.5) * scale - pixels / 2) for m in middle)
    return Square(picture, left, top, pixels)


def _around(centre: list[float], radius: float, window: Camera) -> tuple[tuple[float, float], float]:
    """Middle and side, in the window's pixels, of the square around a ball in the camera's frame."""
    whole = ((window.width - 1) / 2, (window.height - 1) / 2), float(max(window.width, window.height))
    if centre[2] <= 1.01 * radius:
        return whole
    focal = window.K[0, 0].item()
    spans = [_extent(across, centre[2], radius) for across in centre[:2]]
    side = focal * max(high - low for low, high in spans)
    if side > whole[1]:
        return whole
    x, y = (focal * (low + high) / 2 + m for (low, high), m in zip(spans, whole[0], strict=True))
    return (x, y), side


def _extent(across: float, depth: float, radius: float) -> tuple[float, float]:
    """The least and the largest across / depth of the points of a ball in front of a camera: its two tangents."""
    square = depth**2 - radius**2
    middle, half = across * depth, radius * math.sqrt(across**2 + square)
    return (middle - half) / square, (middle + half) / square


def _overlap(start: int, side: int, size: int) -> tuple[slice, slice]:
    """The pixels of an image that a span covers, and the part of the span that covers them."""
    first, last = min(max(start, 0), size), max(min(start + side, size), 0)
    return slice(first, max(first, last)), slice(first - start, max(first, last) - start)


def half_and_half(left: Tensor, right: Tensor, column: int) -> Tensor:
    """One picture [3, H, W] up to a column, the other from there on."""
    column = min(max(column, 0), left.shape[-1])
    return torch.cat((left[..., :column], right[..., column:]), -1)
