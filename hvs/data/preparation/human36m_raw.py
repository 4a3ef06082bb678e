"""The files of the raw Human3.6M: camera parameters in metadata.xml, poses in CDF files, 2D detections in an .npz."""

import math
import re
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any
from xml.etree import ElementTree

import numpy as np
import torch
from torch import Tensor

from hvs.data.files import as_numbers, read_bounded
from hvs.data.npz import read_object_npz
from hvs.data.stores import DataError
from hvs.geometry import Camera, rotation_about_axis

VIEWS = ("54138969", "55011271", "58860488", "60457274")
METADATA, DETECTIONS = "metadata.xml", "data_2d_h36m_cpn_ft_h36m_dbb.npz"
MILLIMETRE = 0.001
# The camera vector: 6 numbers for each of 4 cameras and 11 subjects, then 9 for each camera.
SUBJECTS, EXTRINSICS, INTRINSICS, VECTOR = 11, 6, 9, 300
# Which of the 32 captured joints are used.
JOINTS = (0, 1, 2, 3, 6, 7, 8, 12, 13, 14, 15, 17, 18, 19, 25, 26, 27)
CAPTURED = 32
MAX_XML_BYTES = 64 * 2**20


@dataclass(frozen=True)
class Action:
    """The raw files of one sequence: its name as in the splits, the file of its poses, and the videos by view."""

    name: str
    poses: Path
    videos: dict[str, Path]


def canonical(name: str) -> str:
    """The name of an action in the splits: "TakingPhoto 1" is "Photo_1"."""
    return name.replace("TakingPhoto", "Photo").replace("WalkingDog", "WalkDog").replace(" ", "_")


def find_actions(folder: Path) -> list[Action]:
    """The actions of a subject that have a file of poses or a video, sorted by name."""
    videos: dict[str, dict[str, Path]] = {}
    for file in sorted((folder / "Videos").glob("*.mp4")):
        name, _, view = file.stem.rpartition(".")
        if view in VIEWS and not name.startswith("_ALL"):
            videos.setdefault(canonical(name), {})[view] = file
    positions = folder / "MyPoseFeatures" / "D3_Positions"
    poses = {canonical(file.stem): file for file in sorted(positions.glob("*.cdf")) if not file.stem.startswith("_ALL")}
    missing = {name: positions / f"{name.replace('_', ' ')}.cdf" for name in videos if name not in poses}
    return [Action(name, file, videos.get(name, {})) for name, file in sorted({**poses, **missing}.items())]


def read_camera_vector(file: Path) -> Tensor:
    """The 300 numbers `w0` of metadata.xml, float64.

    Raises:
        DataError: the file is missing or broken, or has no such numbers.
    """
    try:
        text = read_bounded(file, MAX_XML_BYTES).decode()
        if "<!ENTITY" in text or "<!DOCTYPE" in text:
            # Entities can unfold to any size.
            raise ValueError("it declares entities")
        node = next(ElementTree.fromstring(text).iter("w0"), None)
    except (ValueError, ElementTree.ParseError, RecursionError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{file}: not a readable XML file ({error})") from error
    words = re.split(r"[\s,;]+", (node.text or "").strip(" \n\r\t[]")) if node is not None else []
    try:
        found = torch.tensor([float(word) for word in words], dtype=torch.float64)
    except ValueError as error:
        raise DataError(f"{file}: w0 is not a list of numbers") from error
    if len(found) != VECTOR or not found.float().isfinite().all():
        raise DataError(f"{file}: w0 has {len(found)} numbers, wanted {VECTOR} finite ones")
    return found


def unpack_camera(vector: Tensor, subject: int, camera: int, width: int, height: int) -> Camera:
    """A camera from the vector `w0`, float64, in metres.

    Args:
        vector: [300].
        subject: from 1 to 11.
        camera: from 0 to 3, in the order of the views.
        width, height: of its images, in pixels.

    Raises:
        ValueError: the vector has no camera there; the message says what it has instead.
    """
    start = EXTRINSICS * (SUBJECTS * camera + subject - 1)
    angles, centre = vector[start : start + 3], vector[start + 3 : start + 6] * MILLIMETRE
    a, b, c = (rotation_about_axis(axis, angle) for axis, angle in zip(torch.eye(3).double(), angles, strict=True))
    R = a @ b @ c
    start = EXTRINSICS * SUBJECTS * len(VIEWS) + INTRINSICS * camera
    f_x, f_y, c_x, c_y, k1, k2, k3, p1, p2 = vector[start : start + INTRINSICS]
    if min(f_x, f_y) <= 0:
        raise ValueError(f"focal lengths {f_x:g} and {f_y:g}")
    zero, one = torch.zeros_like(f_x), torch.ones_like(f_x)
    K = torch.stack((f_x, zero, c_x, zero, f_y, c_y, zero, zero, one)).reshape(3, 3)
    return Camera(K, R, -R @ centre, torch.stack((k1, k2, p1, p2, k3)), height, width)


def pack_camera(camera: Camera) -> tuple[list[float], list[float]]:
    """The 6 extrinsic and 9 intrinsic numbers that `unpack_camera` reads, for a camera without skew."""
    R = camera.R.double()
    b = torch.asin(R[0, 2].clamp(-1, 1))
    angles = torch.stack((torch.atan2(-R[1, 2], R[2, 2]), b, torch.atan2(-R[0, 1], R[0, 0])))
    centre = -(R.mT @ camera.t.double()) / MILLIMETRE
    k1, k2, p1, p2, k3 = camera.distortion.tolist()
    K = camera.K
    lens = [K[0, 0].item(), K[1, 1].item(), K[0, 2].item(), K[1, 2].item(), k1, k2, k3, p1, p2]
    return torch.cat((angles, centre)).tolist(), lens


def load_cdflib() -> ModuleType:
    """The package that reads and writes CDF files.

    Raises:
        ModuleNotFoundError: it is not installed; the message says how to install it.
    """
    try:
        import cdflib
        import cdflib.cdfwrite
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("CDF files need cdflib: pip install -e '.[prepare]'", name="cdflib") from error
    return cdflib


def read_positions(file: Path) -> Tensor:
    """The poses of a CDF file, [F, 17, 3] float64, in metres in the world.

    Raises:
        DataError: the file is missing or broken, or has no such poses.
        ModuleNotFoundError: cdflib is not installed.
    """
    cdflib = load_cdflib()
    if not file.is_file():
        raise DataError(f"{file}: no such file of poses")
    try:
        pose = np.asarray(cdflib.CDF(file).varget("Pose"), dtype=np.float64)
    except Exception as error:
        # A damaged file can raise anything.
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{file}: not a readable CDF file of poses ({reason:.120})") from error
    if pose.ndim == 0 or pose.shape[-1] != 3 * CAPTURED or pose.size == 0 or pose.size != math.prod(pose.shape[-2:]):
        raise DataError(f"{file}: Pose has shape {list(pose.shape)}, wanted [1, frames, {3 * CAPTURED}]")
    if not torch.from_numpy(pose).float().isfinite().all():
        raise DataError(f"{file}: Pose has numbers that are not finite")
    return torch.from_numpy(pose.reshape(-1, CAPTURED, 3)[:, JOINTS]) * MILLIMETRE


def read_detections(file: Path) -> dict[str, dict[str, Any]]:
    """subject -> action, as the splits name it -> the file's content for `detections`."""
    content = read_object_npz(file).get("positions_2d")
    if not isinstance(content, dict) or not all(isinstance(actions, dict) for actions in content.values()):
        raise DataError(f"{file}: positions_2d is missing or not a table of subjects and actions")
    return {
        str(subject): {canonical(str(name)): arrays for name, arrays in actions.items()}
        for subject, actions in content.items()
    }


def detections(arrays: Any, view: int, where: str) -> Tensor:
    """The pixels [F, 17, 2] float64 of one of the four views.

    Raises:
        DataError: they have another shape, or are not finite.
    """
    try:
        found = as_numbers(arrays[view])
    except (TypeError, ValueError, IndexError, KeyError) as error:
        raise DataError(f"{where}: wanted one array of pixels for each of {len(VIEWS)} views") from error
    if found.ndim != 3 or found.shape[1:] != (len(JOINTS), 2):
        raise DataError(f"{where}: view {VIEWS[view]} has shape {list(found.shape)}, wanted [frames, 17, 2]")
    if not torch.from_numpy(found).float().isfinite().all():
        raise DataError(f"{where}: view {VIEWS[view]} has pixels that are not finite")
    return torch.from_numpy(found)
