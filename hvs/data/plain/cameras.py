"""The cameras file of plain files, of any kind, read as the entries of `cameras.json`."""

from pathlib import Path
from typing import Any

from ..files import read_json
from ..stores import DataError
from .colmap import read_colmap
from .opencv import NAMES, check_coefficients, check_lens, read_yaml, read_yamls

MAX_JSON = 16 * 2**20
YAML_ENDINGS = (".yaml", ".yml")
WANTED = "cameras.json, cameras.yaml, a folder cameras of YAML files, or COLMAP's cameras.txt and images.txt"


def read_cameras(folder: Path, views: tuple[str, ...]) -> tuple[Path, dict[str, Any]]:
    """The file that holds a sequence's cameras, and its entries by view.

    Raises:
        DataError: no file or several, or one that is broken.
    """
    names = ("cameras.json", "cameras.txt", "cameras", *(f"cameras{ending}" for ending in YAML_ENDINGS))
    found = [folder / name for name in names if (folder / name).exists()]
    if len(found) != 1:
        what = " and ".join(file.name for file in found) or "no cameras"
        raise DataError(f"{folder}: {what} here, wanted one of {WANTED}")
    (file,) = found
    if file.suffix == ".json":
        entries = read_json(file, MAX_JSON)
        if not isinstance(entries, dict):
            raise DataError(f"{file}: wanted one entry per view")
        for view in set(views) & set(entries):
            if isinstance(entries[view], dict):
                entries[view] = _named(entries[view], f"{file}: view {view}")
        return file, entries
    if file.suffix == ".txt":
        return file, read_colmap(file, folder / "images.txt")
    if file.suffix in YAML_ENDINGS:
        return file, read_yaml(file, views)
    return file, read_yamls(file, views, YAML_ENDINGS)


def _named(entry: dict[str, Any], where: str) -> dict[str, Any]:
    """The entry of a camera, with its distortion under the name that this package uses."""
    check_lens(entry, where)
    check_coefficients(entry, where)
    found = next((name for name in NAMES["dist_coef"] if isinstance(entry.get(name), list)), None)
    return entry | {"dist_coef": entry[found]} if found else entry
