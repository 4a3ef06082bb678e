"""The files of a raw Panoptic sequence: calibration, the official reconstructions, OpenPose's detections."""

import math
import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hvs.data.files import as_numbers, read_json
from hvs.data.sequences import fault_of_intrinsics
from hvs.data.stores import DataError
from hvs.geometry import Camera
from hvs.geometry.rotations import is_rotation

CENTIMETRE = 0.01
JOINTS = 135
# Larger JSON files are neither poses of a frame nor a calibration.
MAX_JSON_BYTES = 64 * 2**20
# Joints of COCO19 in the order of BODY_135's first 17; its neck becomes joint 17.
COCO19 = (1, 15, 17, 16, 18, 3, 9, 4, 10, 5, 11, 6, 12, 7, 13, 8, 14)
NECK = 17
LEFT_HAND, RIGHT_HAND, FACE = slice(25, 45), slice(45, 65), slice(65, 135)
# The numbers of a calibrated camera.
SHAPES = {"K": (3, 3), "R": (3, 3), "t": (3,)}


def video_file(folder: Path, view: str) -> Path:
    return folder / "hdVideos" / f"hd_00_{view}.mp4"


def openpose_file(folder: Path, view: str, frame: int) -> Path:
    """The file of a frame, as OpenPose names it when it reads a video."""
    return folder / "openpose" / f"hd_00_{view}" / f"hd_00_{view}_{frame:012d}_keypoints.json"


def body_file(folder: Path, frame: int) -> Path:
    return folder / "hdPose3d_stage1_coco19" / f"body3DScene_{frame:08d}.json"


def hand_file(folder: Path, frame: int) -> Path:
    return folder / "hdHand3d" / f"handRecon3D_hd{frame:08d}.json"


def face_file(folder: Path, frame: int) -> Path:
    return folder / "hdFace3d" / f"faceRecon3D_hd{frame:08d}.json"


def read_calibration(folder: Path) -> dict[str, Camera]:
    """The HD cameras of a sequence by view, "00" to "30", float64, in metres.

    Raises:
        DataError: calibration_<sequence>.json is missing, or an entry in it is not a camera.
    """
    file = folder / f"calibration_{folder.name}.json"
    cameras = {}
    for entry in _entries(_read(file), "cameras", file):
        if entry.get("type") != "hd":
            continue
        name = entry.get("name")
        # The name becomes part of file names.
        if not isinstance(name, str) or not re.fullmatch(r"00_[0-9]{2}", name):
            raise DataError(f"{file}: an HD camera is named {name!r:.40}, wanted 00_NN")
        view, where = name.removeprefix("00_"), f"{file}: camera {name}"
        if view in cameras:
            raise DataError(f"{where}: is there twice")
        K, R, t = (_numbers(entry.get(key), shape, f"{where}: {key}") for key, shape in SHAPES.items())
        distortion = _numbers(entry.get("distCoef"), (5,), f"{where}: distCoef")
        width, height = _numbers(entry.get("resolution"), (2,), f"{where}: resolution").tolist()
        if not (width.is_integer() and height.is_integer() and 1 <= min(width, height) <= max(width, height) < 2**15):
            raise DataError(f"{where}: resolution is {width:g}x{height:g}, wanted whole pixels")
        if fault := fault_of_intrinsics(K):
            raise DataError(f"{where}: {fault}")
        if not is_rotation(R):
            raise DataError(f"{where}: R is not a rotation")
        cameras[view] = Camera(K, R, t * CENTIMETRE, distortion, int(height), int(width))
    if not cameras:
        raise DataError(f"{file}: no camera of type hd")
    return dict(sorted(cameras.items()))


def read_openpose(file: Path) -> Tensor:
    """The people in a frame as OpenPose's BODY_135, [people, 135, 3]: pixels and confidence, float64."""
    people = _entries(_read(file), "people", file)
    where = f"{file}: pose_keypoints_2d"
    found = [_numbers(person.get("pose_keypoints_2d"), (JOINTS, 3), where) for person in people]
    return torch.stack(found) if found else torch.zeros(0, JOINTS, 3, dtype=torch.float64)


def read_reconstruction(folder: Path, frame: int) -> tuple[Tensor | None, int]:
    """The official reconstruction of a frame as BODY_135.

    Returns:
        The person with the largest sum of confidences, [135, 4] float64: metres and confidence, zero for missing
        joints; None if there is nobody. And the number of people.
    """
    if not (file := body_file(folder, frame)).exists():
        return None, 0
    bodies = _entries(_read(file), "bodies", file)
    poses = [_numbers(body.get("joints19"), (19, 4), f"{file}: joints19") for body in bodies]
    if not poses:
        return None, 0
    chosen = max(range(len(poses)), key=lambda i: poses[i][:, 3].clamp(min=0).sum().item())
    label = torch.zeros(JOINTS, 4, dtype=torch.float64)
    label[:17], label[NECK] = poses[chosen][list(COCO19)], poses[chosen][0]
    person = bodies[chosen].get("id")
    hands, face = (_person(file, person) for file in (hand_file(folder, frame), face_file(folder, frame)))
    for name, part in (("left_hand", LEFT_HAND), ("right_hand", RIGHT_HAND)):
        if (found := _landmarks(hands, name, 21, hand_file(folder, frame))) is not None:
            label[part] = found[1:]
    if (found := _landmarks(face, "face70", 70, face_file(folder, frame))) is not None:
        label[FACE] = found
    seen = label[:, 3] > 0
    label[~seen] = 0
    label[:, :3] *= CENTIMETRE
    return label, len(poses)


def _person(file: Path, person: Any) -> dict | None:
    """The entry of this person; if people have no numbers, the only entry."""
    people = _entries(_read(file), "people", file) if file.exists() else []
    same = [entry for entry in people if entry.get("id") == person and person is not None]
    return same[0] if same else people[0] if len(people) == 1 and person is None else None


def _landmarks(person: dict | None, name: str, count: int, file: Path) -> Tensor | None:
    """Landmarks [count, 4] in centimetres, with their average score, or 1 if the file has no scores."""
    part = (person or {}).get(name)
    if not part:
        return None
    if not isinstance(part, dict):
        raise DataError(f"{file}: {name} is a {type(part).__name__}, wanted an object")
    points = _numbers(part.get("landmarks"), (count, 3), f"{file}: landmarks of {name}")
    score = part.get("averageScore")
    score = torch.ones(count) if score is None else _numbers(score, (count,), f"{file}: averageScore of {name}")
    return torch.cat((points, score[:, None]), 1)


def _read(file: Path) -> dict:
    content = read_json(file, MAX_JSON_BYTES)
    if not isinstance(content, dict):
        raise DataError(f"{file}: holds a {type(content).__name__}, wanted an object")
    return content


def _entries(content: dict, name: str, file: Path) -> list[dict]:
    entries = content.get(name)
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise DataError(f"{file}: {name} is missing or not a list of objects")
    return entries


def _numbers(value: Any, shape: tuple[int, ...], where: str) -> Tensor:
    try:
        found = torch.from_numpy(as_numbers(value))
    except ValueError as error:
        raise DataError(f"{where} is missing or not a table of numbers") from error
    # Files are written in float32.
    if found.numel() != math.prod(shape) or not found.float().isfinite().all():
        raise DataError(f"{where} has shape {list(found.shape)}, wanted {list(shape)} finite numbers")
    return found.reshape(shape)
