"""3D poses that come with plain files: `poses.npz` or `poses.json`, which hold only numbers."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..files import as_numbers, read_json
from ..npz import read_object_npz
from ..stores import DataError
from .folders import frame_number


@dataclass(frozen=True)
class Poses:
    """The 3D poses of a sequence.

    Attributes:
        frames: ascending, [F].
        points: [F, L, 3] float32.
        confidence: [F, L] float32.
    """

    frames: np.ndarray
    points: np.ndarray
    confidence: np.ndarray

    def find(self, frame: int) -> int | None:
        """The row of a frame, or None."""
        row = int(np.searchsorted(self.frames, frame))
        return row if row < len(self.frames) and self.frames[row] == frame else None


def read_poses(file: Path, joints: int) -> Poses:
    """All poses of a sequence.

    Args:
        file: an .npz of `frames` [F], `points` [F, L, 3] and optionally `confidence` [F, L]; or a .json with a list of
            L rows x, y, z or x, y, z, confidence for each frame number.
        joints: the number L.

    Raises:
        DataError: there is no such file, it has other arrays, or it expands to far more than its size.
    """
    arrays = _from_npz(file) if file.suffix == ".npz" else _from_json(file)
    frames, points = arrays["frames"], arrays["points"]
    if frames.ndim != 1 or points.shape != (len(frames), joints, 3):
        got = f"frames of shape {list(frames.shape)} and points of shape {list(points.shape)}"
        raise DataError(f"{file}: {got}, wanted [F] and [F, {joints}, 3]")
    confidence = arrays.get("confidence", np.ones(points.shape[:2], np.float32))
    if confidence.shape != points.shape[:2]:
        raise DataError(f"{file}: confidence has shape {list(confidence.shape)}, wanted {list(points.shape[:2])}")
    whole = np.issubdtype(frames.dtype, np.integer) and (frames < 2**53).all() and (frames > -(2**53)).all()
    if not whole or len(np.unique(frames)) != len(frames):
        raise DataError(f"{file}: frames are not distinct whole numbers of at most 53 bits")
    order = np.argsort(frames)
    with np.errstate(over="ignore"):
        return Poses(
            frames[order].astype(np.int64), points[order].astype(np.float32), confidence[order].astype(np.float32)
        )


def _from_json(file: Path) -> dict[str, np.ndarray]:
    table = read_json(file)
    if not isinstance(table, dict):
        raise DataError(f"{file}: wanted the rows of a pose for each frame number")
    frames = [frame_number(key, f"{file}: entry {key!r:.80}") for key in table]
    try:
        values = as_numbers(list(table.values()))
    except ValueError as error:
        raise DataError(f"{file}: poses are not tables of numbers of the same size") from error
    if values.ndim != 3 or values.shape[2] not in (3, 4):
        raise DataError(f"{file}: poses have shape {list(values.shape[1:])}, wanted rows of 3 or 4 numbers")
    arrays = {"frames": np.array(frames, dtype=np.int64), "points": values[..., :3]}
    return arrays | ({"confidence": values[..., 3]} if values.shape[2] == 4 else {})


def _from_npz(file: Path) -> dict[str, np.ndarray]:
    arrays = read_object_npz(file)
    for name in ("frames", "points"):
        if name not in arrays:
            raise DataError(f"{file}: no array {name!r}, wanted frames, points and optionally confidence")
    wanted = {name: arrays[name] for name in ("frames", "points", "confidence") if name in arrays}
    for name, array in wanted.items():
        if not isinstance(array, np.ndarray) or array.dtype.kind not in "iuf":
            raise DataError(f"{file}: {name} is not a numeric array")
    return wanted
