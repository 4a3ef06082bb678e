"""Cameras in YAML as OpenCV's cv::FileStorage writes it: one file per view, or one file for all views.

Only strings, lists and tables are read from YAML; tags are ignored and references refused, so that no file can run code
or expand to any size.
"""

import math
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from hvs.geometry import rotation_about_axis

from ..files import read_bounded
from ..stores import DataError

# A file for thirty cameras has some 50 kB; PyYAML takes two seconds to read the largest allowed file.
MAX_BYTES = 2**18
# The names used here, and those in calibration files.
NAMES = {
    "K": ("K", "camera_matrix", "cameraMatrix", "intrinsics", "intrinsic", "M"),
    "dist_coef": (
        "dist_coef",
        "distortion_coefficients",
        "dist_coeffs",
        "dist_coeff",
        "distCoeffs",
        "distCoef",
        "distortion_coeffs",
        "distortion",
        "dist",
        "D",
    ),
    # EasyMocap names the matrix Rot and the vector R; the size shows which of the two a value is.
    "R": ("Rot", "R", "rotation_matrix", "rotation", "rvec"),
    "t": ("t", "T", "tvec", "translation"),
    "width": ("image_width", "width", "W"),
    "height": ("image_height", "height", "H"),
    "resolution": ("resolution", "image_size", "imageSize"),
}
# How files name other lenses, and their coefficients, one by one or all together.
OTHER_LENSES = re.compile(
    "(opencv_?|thin_prism_|(simple_)?radial_)?(fisheye|equi(distant)?|omni(dir(ectional)?)?|fov|kannala[_-]?brandt[48]?"
    "|kb[48]|eucm|ds|double_?sphere|mei)",
    re.IGNORECASE,
)
LENS_NAMES = ("distortion_model", "camera_model", "model")
NOT_FISHEYE = ("", "0", "0.", "0.0", "false", "none", "null", "~")
COEFFICIENT, COEFFICIENTS = re.compile("k[1-6]|p[12]"), re.compile("distortion|dist_?coef", re.IGNORECASE)


def read_yaml(file: Path, views: tuple[str, ...]) -> dict[str, Any]:
    """Entries of `cameras.json` by view, from a file with a table per view or with names such as `K_<view>`."""
    table = _load(file)
    check_lens(table, f"{file}")
    entries = {}
    for view in views:
        own = table.get(view)
        if not isinstance(own, dict):
            ending = f"_{view}"
            own = {key.removesuffix(ending): value for key, value in table.items() if key.endswith(ending)}
        if own:
            entries[view] = _entry(own, f"{file}: view {view}")
    return entries


def read_yamls(folder: Path, views: tuple[str, ...], endings: tuple[str, ...]) -> dict[str, Any]:
    """Entries of `cameras.json` by view, from a folder with one file per view."""
    entries = {}
    for view in views:
        files = [file for ending in endings if (file := folder / f"{view}{ending}").exists()]
        if len(files) > 1:
            raise DataError(f"{folder}: two files of view {view}, {files[0].name} and {files[1].name}")
        if files:
            entries[view] = _entry(_load(files[0]), f"{files[0]}: view {view}")
    return entries


def check_lens(table: dict[str, Any], where: str) -> None:
    """Refuse a lens whose coefficients mean something other than OpenCV's radial and tangential ones."""
    fisheye = str(table.get("fisheye_model", "0")).lower() not in NOT_FISHEYE
    names = ["fisheye_model"] if fisheye else []
    names += [name for name in LENS_NAMES if OTHER_LENSES.fullmatch(str(table.get(name, "")).strip())]
    if names:
        wanted = "wanted one with radial and tangential distortion: undistort the images first"
        raise DataError(f"{where}: {names[0]} {str(table[names[0]]):.40} is another lens, {wanted}")


def check_coefficients(table: dict[str, Any], where: str) -> None:
    """Refuse coefficients under an unknown name, rather than assume that the lens has no distortion."""
    if not set(NAMES["dist_coef"]) & set(table):
        unknown = sorted(
            name
            for name, value in table.items()
            if (COEFFICIENTS.search(name) if isinstance(value, (list, dict)) else COEFFICIENT.fullmatch(name))
        )
        if unknown:
            raise DataError(f"{where}: {unknown[0]} is not a known name, wanted {' or '.join(NAMES['dist_coef'])}")


def _load(file: Path) -> dict[str, Any]:
    import yaml

    class Loader(yaml.BaseLoader):
        def compose_node(self, parent: Any, index: Any) -> Any:
            if self.check_event(yaml.AliasEvent):
                raise yaml.YAMLError("references are not allowed")
            return super().compose_node(parent, index)

        def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
            table = super().construct_mapping(node, deep=True)
            for key, value in node.value:
                # The last one would be taken. Files that were joined both list the views' names.
                if self.construct_object(value, deep=True) != table[self.construct_object(key, deep=True)]:
                    raise yaml.YAMLError(f"{key.value!s:.80} is there twice, with other values")
            return table

    text = read_bounded(file, MAX_BYTES).decode(errors="replace")
    # OpenCV's first line, %YAML:1.0, is not valid YAML, and in files that were joined, it would begin a new document.
    lines = ["" if line.startswith("%") or line.rstrip() in ("---", "...") else line for line in text.split("\n")]
    try:
        table = yaml.load("\n".join(lines), Loader)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{file}: not a readable YAML file ({reason:.200})") from error
    if not isinstance(table, dict) or not all(isinstance(key, str) for key in table):
        raise DataError(f"{file}: wanted a table of names and values")
    return table


def _entry(table: dict[str, Any], where: str) -> dict[str, Any]:
    check_lens(table, where)
    check_coefficients(table, where)
    found: dict[str, Any] = {}
    for name, others in NAMES.items():
        values = [_values(table[other], f"{where}: {other}") for other in others if other in table]
        if values:
            found[name] = values[0]
    if len(found.get("R", ())) == 3:
        found["R"] = _from_vector(found["R"])
    if "width" in found and "height" in found:
        found.setdefault("resolution", [*found["width"], *found["height"]])
    return {name: value for name, value in found.items() if name not in ("width", "height")}


def _values(value: Any, where: str) -> list[float]:
    """The numbers of a scalar, of a list or table of numbers, or of an opencv-matrix."""
    rows = columns = None
    if isinstance(value, dict):
        rows, columns, value = (value.get(name) for name in ("rows", "cols", "data"))
    try:
        numbers = [float(word) for word in _flat(value)]
        if rows is not None and int(rows) * int(columns) != len(numbers):
            raise DataError(f"{where}: {rows:.20} rows and {columns:.20} columns hold {len(numbers)} numbers")
    except (TypeError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{where}: not a matrix of numbers") from error
    if not all(map(math.isfinite, numbers)):
        raise DataError(f"{where}: holds a number that is not finite")
    return numbers


def _flat(value: Any) -> Iterable[Any]:
    rows = value if isinstance(value, list) else [value]
    return [word for row in rows for word in (row if isinstance(row, list) else [row])]


def _from_vector(vector: list[float]) -> list[float]:
    """The rotation matrix of a vector that is the axis, with the angle in radians as its length (Rodrigues)."""
    axis = torch.tensor(vector, dtype=torch.float64)
    angle = axis.norm()
    if angle == 0:
        return torch.eye(3).flatten().tolist()
    return rotation_about_axis(axis / angle, angle).flatten().tolist()
