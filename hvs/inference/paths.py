"""Paths of virtual cameras around a person: a ring, a fixed place, or the cameras of a JSON file.

Focal lengths are in millimetres for film 36 mm wide, as photographers know them, and hold for a square picture of that
width.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hvs.data.files import as_numbers, read_json
from hvs.data.stores import DataError
from hvs.geometry import Camera
from hvs.geometry.rotations import is_rotation

from .settings import FARTHEST, FOCAL_LENGTHS

FILM = 36.0
# The largest side of a picture, in pixels.
LARGEST_SIDE = 1 << 15
# A virtual camera shows this many times the person's radius.
MARGIN = 1.15
# The largest angle to either side of the axis within which a camera shows the person, however near it is.
WIDEST = math.asin(0.95)
# Distances in metres of a person of whom half is left, and nothing: the weights of their limbs sink below the
# rasteriser's floor. Measured on the sample.
FADES, GONE = 25, 60
# Names of the two forms of a path's cameras.
AIMED, CALIBRATED = {"eye", "target", "focal"}, {"K", "R", "t", "resolution", "dist_coef"}
OF_EITHER_FORM = "eye, target and focal, or of K, R, t and resolution"
AT_ITS_TARGET = "wanted an eye that is not at its target"


def frame_person(points: Tensor) -> tuple[Tensor, float]:
    """The centre [3] of poses [..., J, 3] in the world, and the radius in metres that the picture should show."""
    flat = points.reshape(-1, 3)
    centre = (flat.amin(0) + flat.amax(0)) / 2
    return centre, ((flat - centre).norm(dim=-1).max() * MARGIN).item()


def orbit(
    points: Tensor,
    source: Camera,
    up: Tensor,
    count: int,
    size: int,
    elevation: float = 0.0,
    focal: float | None = None,
) -> Camera:
    """A ring of cameras around poses, starting on the source camera's side; the person fills the picture.

    Args:
        points: [..., J, 3] in the world, in metres.
        source: the camera that saw them, without batch axes.
        up: the world's up direction, [3].
        count: number of cameras.
        size: side of their pictures, in pixels.
        elevation: angle of the cameras above the person, in degrees, between -90 and 90.
        focal: focal length in mm; the cameras stand where the person fills the picture. By default they stand as far
            away as the source, and the focal length follows.
    """
    centre, radius = frame_person(points)
    towards = source.position - centre
    if focal is None:
        distance = towards.norm().item()
        focal = _filling(radius, distance)
    else:
        distance = radius / math.sin(math.atan(FILM / 2 / focal))
    K = _intrinsics(focal, size).to(points)
    return Camera.orbit(centre, up.to(points), distance, count, K, size, size, math.radians(elevation), towards)


def look_at(eye: Tensor, target: Tensor, radius: float, up: Tensor, size: int, focal: float | None = None) -> Camera:
    """A camera at one point [3] that looks at another [3], without batch axes.

    Args:
        radius: radius of what to show around the target, in metres.
        up: the world's up direction, [3].
        size: side of the picture, in pixels.
        focal: focal length in mm; by default what is to be shown fills the picture.
    """
    focal = focal or _filling(radius, (eye - target).norm().item())
    return Camera.look_at(eye, target, up.to(eye), _intrinsics(focal, size).to(eye), size, size)


@dataclass(frozen=True)
class Aimed:
    """A camera of a path that looks at a point.

    Attributes:
        where: names it in errors.
        eye, target: in the world, in metres, [3]; without a target it looks at the person.
        focal: focal length in mm, if it has one of its own.
    """

    where: str
    eye: Tensor
    target: Tensor | None
    focal: float | None


def farthest(cameras: Camera, points: Tensor) -> float:
    """The largest distance in metres from any of the cameras [F] to the middle of poses [..., J, 3] in the world."""
    return (cameras.position - frame_person(points)[0]).norm(dim=-1).max().item()


def read_path(file: Path) -> list[Aimed | Camera]:
    """The cameras of a JSON file. It holds a list of objects, each in one of two forms:

        {"eye": [x, y, z], "target": [x, y, z], "focal": 50}      metres and mm; the last two may be left out
        {"K": [[...]], "R": [[...]], "t": [...], "resolution": [width, height]}      as in cameras.json, undistorted

    Of a camera of the second form, the largest square in the middle of the picture is shown.

    Raises:
        DataError: the file is missing or holds no such list; the message names the entry.
    """
    entries = read_json(file)
    if not isinstance(entries, list) or not entries:
        raise DataError(
            f"{file}: wanted a list of cameras, got {'an empty one' if entries == [] else 'something else'}"
        )
    return [_entry(entry, f"{file}: camera {i}") for i, entry in enumerate(entries)]


def follow(path: list[Aimed | Camera], points: Tensor, up: Tensor, size: int, focal: float | None = None) -> Camera:
    """The cameras of a path, as a batch.

    Args:
        path: from :func:`read_path`.
        points: poses [..., J, 3] in the world; a camera without a target looks at them.
        up, size: as for `look_at`.
        focal: focal length in mm for cameras that look at a point and have none; by default the person fills the
            picture.

    Raises:
        DataError: a camera stands where it is to look at.
    """
    centre, radius = frame_person(points)
    cameras = []
    for entry in path:
        if isinstance(entry, Camera):
            cameras.append(entry.to(points.device).resize(size, size))
            continue
        eye, target = entry.eye.to(points), centre if entry.target is None else entry.target.to(points)
        if torch.equal(eye, target):
            raise DataError(f"{entry.where}: {AT_ITS_TARGET}")
        cameras.append(look_at(eye, target, radius, up, size, entry.focal or focal))
    return Camera.stack(cameras)


def _entry(entry: Any, where: str) -> Aimed | Camera:
    if not isinstance(entry, dict):
        raise DataError(f"{where}: wanted an object of {OF_EITHER_FORM}")
    if unknown := sorted(set(entry) - (CALIBRATED if "K" in entry else AIMED)):
        raise DataError(f"{where}: got {unknown[0]!r:.40}, wanted an object of {OF_EITHER_FORM}")
    return _calibrated(entry, where) if "K" in entry else _aimed(entry, where)


def _aimed(entry: dict, where: str) -> Aimed:
    eye = _numbers(entry, "eye", where, 3)
    target = _numbers(entry, "target", where, 3) if "target" in entry else None
    focal = _numbers(entry, "focal", where).item() if "focal" in entry else None
    if focal is not None and not FOCAL_LENGTHS[0] < focal < FOCAL_LENGTHS[1]:
        low, high = FOCAL_LENGTHS
        raise DataError(f"{where}: got a focal length of {focal:g} mm, wanted between {low} and {high}")
    if target is not None and torch.equal(eye, target):
        raise DataError(f"{where}: {AT_ITS_TARGET}")
    if any(place.abs().max() >= FARTHEST for place in (eye, target) if place is not None):
        raise DataError(f"{where}: wanted eye and target within {FARTHEST:g} metres")
    return Aimed(where, eye, target, focal)


def _calibrated(entry: dict, where: str) -> Camera:
    K, R, t = (_numbers(entry, name, where, *shape) for name, shape in (("K", (3, 3)), ("R", (3, 3)), ("t", (3,))))
    sides = _numbers(entry, "resolution", where, 2).tolist()
    if not all(side.is_integer() and 1 <= side <= LARGEST_SIDE for side in sides):
        raise DataError(f"{where}: got a resolution of {sides}, wanted whole pixels, 1 to {LARGEST_SIDE}")
    if min(K[0, 0], K[1, 1]) <= 0 or (K[2] - K.new_tensor([0, 0, 1])).abs().max() > 1e-6:
        raise DataError(f"{where}: wanted focal lengths above 0 in K, and 0, 0, 1 in its last row")
    if K[1, 0].abs() > 1e-6:
        raise DataError(f"{where}: got {K[1, 0]:g} for the first number of the second row of K, wanted 0")
    if not is_rotation(R):
        raise DataError(f"{where}: R is not a rotation")
    if t.abs().max() >= FARTHEST:
        raise DataError(f"{where}: got {t.abs().max():g} in t, wanted within {FARTHEST:g} metres")
    if "dist_coef" in entry and _numbers(entry, "dist_coef", where, None).any():
        raise DataError(f"{where}: got a dist_coef that is not zero, but pictures are drawn without distortion")
    width, height = map(int, sides)
    side = min(width, height)
    camera = Camera(K, R, t, K.new_zeros(0), height, width)
    return camera.crop((width - side) // 2, (height - side) // 2, side, side)


def _numbers(entry: dict, name: str, where: str, *shape: int | None) -> Tensor:
    """An entry of this shape; None allows any number of values."""
    try:
        values = torch.from_numpy(as_numbers(entry[name])).float()
    except (KeyError, ValueError) as error:
        raise DataError(f"{where}: {name} is missing or not a table of numbers") from error
    size = values.numel() if None in shape else math.prod(shape)
    if values.numel() != size:
        raise DataError(f"{where}: {name} has shape {list(values.shape)}, wanted {list(shape)}")
    if not values.isfinite().all():
        raise DataError(f"{where}: {name} has numbers that are not finite in float32")
    return values.reshape(-1) if None in shape else values.reshape(shape)


def _filling(radius: float, distance: float) -> float:
    """The focal length that shows a ball of this radius at this distance whole and as large as possible."""
    angle = math.asin(min(radius / max(distance, 1e-6), 1.0))
    return FILM / 2 / math.tan(min(angle, WIDEST))


def _intrinsics(focal: float, size: int) -> Tensor:
    pixels, middle = focal / FILM * size, (size - 1) / 2
    return torch.tensor([[pixels, 0, middle], [0, pixels, middle], [0, 0, 1]])
