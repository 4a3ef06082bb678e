"""Writes a sequence as plain files, with cameras and keypoints as other programs would write them."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image
from torch import Tensor

from hvs.data.decoding import Picture
from hvs.geometry import Camera, quaternion_from_rotation

from .layouts import Take, Writer

CameraKind = Literal["json", "colmap", "opencv"]
KeypointKind = Literal["openpose", "body_25", "mmpose", "coco", "rows"]
# Decimals of the written keypoints; detectors do not write more.
DECIMALS = 3
HAND, FACE = 20, 65


def write(
    folder: Path,
    cameras: dict[str, Camera],
    keypoints: dict[str, Tensor],
    shots: list[list[tuple[bytes, bytes]]],
    camera_kind: CameraKind = "json",
    keypoint_kind: KeypointKind = "openpose",
) -> None:
    """Write one sequence.

    Args:
        folder: to write into.
        cameras: by view, in the written world.
        keypoints: by view, pixels and confidence, [frames, 135, 3], or [frames, 17, 3] for plain rows.
        shots: for every frame, the image and mask of each view as JPEG.
        camera_kind: the package's own JSON, a COLMAP model, or YAML as OpenCV writes it.
        keypoint_kind: OpenPose's JSON (models BODY_135 or BODY_25), MMPose's per view, COCO-WholeBody's per view, or
            rows of numbers per frame.
    """
    for index, view in enumerate(cameras):
        for frame, shot in enumerate(shots):
            image, mask = shot[index]
            _put(folder / "images" / view / f"{frame:06d}.jpg", image)
            _put(folder / "masks" / view / f"{frame:06d}.png", _binary(mask))
        KEYPOINTS[keypoint_kind](folder / "keypoints", view, keypoints[view].double().numpy().round(DECIMALS))
    CAMERAS[camera_kind](folder, cameras)


def _put(file: Path, data: bytes | str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data.encode() if isinstance(data, str) else data)


def _binary(jpeg: bytes) -> bytes:
    mask = Picture(jpeg, "sample").mask()[0].numpy()
    file = io.BytesIO()
    Image.fromarray(np.uint8(255) * mask).save(file, "PNG")
    return file.getvalue()


def _flat(rows: np.ndarray) -> list[float]:
    return rows.reshape(-1).tolist()


def _write_openpose(folder: Path, view: str, people: np.ndarray) -> None:
    for frame, person in enumerate(people):
        entry = {"person_id": [-1], "pose_keypoints_2d": _flat(person), "face_keypoints_2d": []}
        entry |= {"hand_left_keypoints_2d": [], "hand_right_keypoints_2d": []}
        text = json.dumps({"version": 1.3, "people": [entry]})
        _put(folder / view / f"{frame:012d}_keypoints.json", text)


def _write_body_25(folder: Path, view: str, people: np.ndarray) -> None:
    # Neck and hip centre are not joints of BODY_135.
    order = (0, -1, 6, 8, 10, 5, 7, 9, -1, 12, 14, 16, 11, 13, 15, 2, 1, 4, 3, 19, 20, 21, 22, 23, 24)
    for frame, person in enumerate(people):
        body = np.stack([person[joint] if joint >= 0 else np.zeros(3) for joint in order])
        entry = {"person_id": [-1], "pose_keypoints_2d": _flat(body), "face_keypoints_2d": _flat(person[FACE:])}
        for side, hand in zip(("left", "right"), _whole_body(person)[3:], strict=True):
            entry[f"hand_{side}_keypoints_2d"] = _flat(hand)
        text = json.dumps({"version": 1.3, "people": [entry]})
        _put(folder / view / f"{frame:012d}_keypoints.json", text)


def _whole_body(person: np.ndarray) -> list[np.ndarray]:
    """COCO-WholeBody's parts [n, 3]: body, feet, face, left and right hand."""
    hands = [
        np.concatenate((person[wrist, None], person[start : start + HAND])) for wrist, start in ((9, 25), (10, 45))
    ]
    return [person[:17], person[19:25], person[FACE : FACE + 68], *hands]


def _write_mmpose(folder: Path, view: str, people: np.ndarray) -> None:
    frames = []
    for frame, person in enumerate(people):
        rows = np.concatenate(_whole_body(person))
        instance = {"keypoints": rows[:, :2].tolist(), "keypoint_scores": rows[:, 2].tolist()}
        frames.append({"frame_id": frame, "instances": [instance]})
    _put(folder / f"{view}.json", json.dumps({"meta_info": {}, "instance_info": frames}))


def _write_coco(folder: Path, view: str, people: np.ndarray) -> None:
    names = ("keypoints", "foot_kpts", "face_kpts", "lefthand_kpts", "righthand_kpts")
    entries = [
        {"image_id": frame, "category_id": 1} | dict(zip(names, map(_flat, _whole_body(person)), strict=True))
        for frame, person in enumerate(people)
    ]
    _put(folder / f"{view}.json", json.dumps(entries))


def _write_rows(folder: Path, view: str, people: np.ndarray) -> None:
    for frame, person in enumerate(people):
        _put(folder / view / f"{frame:06d}.json", json.dumps(person.tolist()))


def _write_json(folder: Path, cameras: dict[str, Camera]) -> None:
    entries = {
        view: {
            "K": camera.K.tolist(),
            "R": camera.R.tolist(),
            "t": camera.t.tolist(),
            "dist_coef": camera.distortion.tolist(),
            "resolution": [camera.width, camera.height],
        }
        for view, camera in cameras.items()
    }
    _put(folder / "cameras.json", json.dumps(entries, indent=1))


def _write_colmap(folder: Path, cameras: dict[str, Camera]) -> None:
    """Write a COLMAP model in units of half a metre, as COLMAP's unit is arbitrary."""
    scale = 0.5
    lenses, images = (
        ["# CAMERA_ID, MODEL, WIDTH, HEIGHT, PARAMS[]"],
        ["# IMAGE_ID, QW, QX, QY, QZ, TX, TY, TZ, CAMERA_ID, NAME"],
    )
    for number, (view, camera) in enumerate(cameras.items(), 1):
        (fx, _, x), (_, fy, y) = camera.K[:2].tolist()
        k1, k2, p1, p2, k3 = camera.distortion.tolist()
        values = (fx, fy, x + 0.5, y + 0.5, k1, k2, p1, p2, k3, 0.0, 0.0, 0.0)
        lenses.append(f"{number} FULL_OPENCV {camera.width} {camera.height} {' '.join(map(repr, values))}")
        pose = (*quaternion_from_rotation(camera.R.double()).tolist(), *(camera.t / scale).tolist())
        images += [f"{number} {' '.join(map(repr, pose))} {number} {view}/000000.jpg", ""]
    _put(folder / "cameras.txt", "\n".join(lenses) + "\n")
    _put(folder / "images.txt", "\n".join(images) + "\n")
    _put(folder / "capture.json", json.dumps({"scale": scale}))


def _write_opencv(folder: Path, cameras: dict[str, Camera]) -> None:
    for view, camera in cameras.items():
        lines = ["%YAML:1.0", "---", f"image_width: {camera.width}", f"image_height: {camera.height}"]
        for name, value in (
            ("camera_matrix", camera.K),
            ("distortion_coefficients", camera.distortion[None]),
            ("R", camera.R),
            ("T", camera.t[:, None]),
        ):
            data = ", ".join(f"{number:.16e}" for number in value.flatten().tolist())
            lines += [f"{name}: !!opencv-matrix", f"   rows: {value.shape[0]}", f"   cols: {value.shape[1]}"]
            lines += ["   dt: d", f"   data: [ {data} ]"]
        _put(folder / "cameras" / f"{view}.yaml", "\n".join(lines) + "\n")


CAMERAS: dict[str, Callable[[Path, dict[str, Camera]], None]] = {
    "json": _write_json,
    "colmap": _write_colmap,
    "opencv": _write_opencv,
}
KEYPOINTS: dict[str, Callable[[Path, str, np.ndarray], None]] = {
    "openpose": _write_openpose,
    "body_25": _write_body_25,
    "mmpose": _write_mmpose,
    "coco": _write_coco,
    "rows": _write_rows,
}


def plain_name(subject: int, take: int) -> str:
    return f"subject{subject + 1}_take{take + 1}"


def write_plain(root: Path, name: str, take: Take) -> None:
    write(root / name, take.cameras, take.seen, take.shots)


# Its 3D poses are triangulated when they are read.
PLAIN = {"plain": Writer("panoptic", plain_name, write_plain, views=2)}
