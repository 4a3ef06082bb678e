"""Cameras of a COLMAP model in its text format, `cameras.txt` and `images.txt` (https://colmap.github.io/format.html).

COLMAP puts pixel centres at half integers, so principal points are moved by half a pixel.
"""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import torch

from hvs.geometry import rotation_from_quaternion

from ..files import read_bounded
from ..stores import DataError

# Model -> positions among its parameters of fx, fy, cx, cy and the coefficients in OpenCV's order.
MODELS = {
    "SIMPLE_PINHOLE": (0, 0, 1, 2),
    "PINHOLE": (0, 1, 2, 3),
    "SIMPLE_RADIAL": (0, 0, 1, 2, 3),
    "RADIAL": (0, 0, 1, 2, 3, 4),
    "OPENCV": tuple(range(8)),
    "FULL_OPENCV": tuple(range(12)),
}


def read_colmap(cameras: Path, images: Path) -> dict[str, Any]:
    """Entries of `cameras.json` by view. A view is the folder in an image's name, or, without one, the name itself."""
    lenses: dict[str, dict[str, Any]] = {}
    for number, lens in _lenses(cameras):
        if number in lenses:
            raise DataError(f"{cameras}: camera {number:.40} is there twice")
        lenses[number] = lens
    entries: dict[str, Any] = {}
    for where, words in _image_lines(images):
        try:
            numbers, (lens, name) = [float(word) for word in words[1:8]], words[8:]
        except ValueError as error:
            raise DataError(f"{where}: not an image (IMAGE_ID, QW, QX, QY, QZ, TX, TY, TZ, CAMERA_ID, NAME)") from error
        if lens not in lenses:
            raise DataError(f"{where}: camera {lens:.40} is not in {cameras.name}")
        path = PurePosixPath(name.strip())
        view = path.parent.name or path.stem
        quaternion = torch.tensor(numbers[:4], dtype=torch.float64)
        if not quaternion.isfinite().all() or quaternion.norm() < 1e-6:
            raise DataError(f"{where}: view {view:.80}: the quaternion {numbers[:4]} is not a rotation")
        pose = {"R": rotation_from_quaternion(quaternion).tolist(), "t": numbers[4:]}
        if entries.setdefault(view, lenses[lens] | pose) != lenses[lens] | pose:
            raise DataError(
                f"{where}: view {view:.80} had another pose before, wanted fixed cameras and one image of each"
            )
    return entries


def _lenses(file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for number, line in enumerate(_lines(file), 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        where = f"{file}: line {number}"
        if len(words) < 4:
            raise DataError(f"{where}: not a camera (CAMERA_ID, MODEL, WIDTH, HEIGHT, PARAMS)")
        model = words[1]
        if model not in MODELS:
            can = ", ".join(MODELS)
            raise DataError(f"{where}: camera model {model:.40}, wanted one of {can}: undistort the images with COLMAP")
        try:
            width, height, *values = (float(word) for word in words[2:])
        except ValueError as error:
            raise DataError(f"{where}: a parameter is not a number") from error
        places = MODELS[model]
        if len(values) != max(places) + 1:
            raise DataError(f"{where}: {len(values)} parameters, wanted the {max(places) + 1} of {model}")
        fx, fy, cx, cy, *coefficients = (values[place] for place in places)
        padding = [0.0] * ({0: 0, 1: 4, 2: 4, 4: 4, 8: 8}[len(coefficients)] - len(coefficients))
        yield (
            words[0],
            {
                "K": [[fx, 0.0, cx - 0.5], [0.0, fy, cy - 0.5], [0.0, 0.0, 1.0]],
                "dist_coef": coefficients + padding,
                "resolution": [width, height],
            },
        )


def _image_lines(file: Path) -> Iterator[tuple[str, list[str]]]:
    lines = enumerate(_lines(file), 1)
    for number, line in lines:
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        words = line.split(maxsplit=9)
        yield f"{file}: line {number}", words
        # The features of the image; there may be none.
        number, features = next(lines, (number + 1, ""))
        count = len(features.split())
        if count % 3:
            raise DataError(
                f"{file}: line {number}: {count} words, wanted an image's features (X, Y, POINT3D_ID) or nothing"
            )


def _lines(file: Path) -> list[str]:
    return read_bounded(file).decode(errors="replace").splitlines()
