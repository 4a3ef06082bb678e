"""2D keypoints as detectors write them to JSON, brought into the order of BODY_135 or of Human3.6M's 17 joints.

Formats: OpenPose's `--write_json` (models BODY_135 and BODY_25, with or without face and hands); MMPose's predictions
(the 133 joints of COCO-WholeBody or the 17 of COCO); COCO-WholeBody annotations and results; and 135 or 17 plain rows.
docs/data.md shows what each looks like.
"""

from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from ..files import as_numbers
from ..stores import DataError
from .folders import frame_number, last_number

BODY, PLAIN_SIZES = 135, (135, 17)
LEFT_HAND, RIGHT_HAND, FACE = 25, 45, 65
# Rows of BODY_25 that are BODY_135's first 17 joints and its feet. Its neck lies between the shoulders, where BODY_135
# has no joint.
FROM_BODY_25 = {
    **dict(enumerate((0, 16, 15, 18, 17, 5, 2, 6, 3, 7, 4, 12, 9, 13, 10, 14, 11))),
    **{joint: joint for joint in range(19, 25)},
}
# COCO-WholeBody's parts with their numbers of joints, in their order, and the BODY_135 row of each of the 133 joints;
# -1 for the wrists that hands begin with, which BODY_135 has only in its body.
PARTS = {"keypoints": 17, "foot_kpts": 6, "face_kpts": 68, "lefthand_kpts": 21, "righthand_kpts": 21}
WHOLE_BODY = np.array([*range(17), *range(19, 25), *range(65, 133), -1, *range(25, 45), -1, *range(45, 65)])


def read_frame(value: Any, where: str, image: str | None = None) -> np.ndarray | None:
    """The person in one frame, if there is any; of several, the one with the largest sum of confidences.

    Args:
        value: content of a JSON file.
        where: names it in errors.
        image: name of the picture, if the file may cover several; only its own keypoints count then.

    Returns:
        x, y and confidence, [135, 3] or [17, 3] float32; missing joints are zero.
    """
    if image is not None:
        value = _of_image(value, image, where)
    people = list(_people(value, where))
    sums = [np.nansum(person[:, 2]) for person in people]
    # A number too large for float32 becomes infinite, and so does not count.
    with np.errstate(over="ignore"):
        return people[int(np.argmax(sums))].astype(np.float32) if people else None


def read_frames(value: Any, where: str) -> dict[int, np.ndarray | None]:
    """All frames of a view that one JSON file holds: frame -> what `read_frame` returns for it."""
    frames: dict[int, Any] = {}
    for frame, content in _by_frame(value, where):
        if not isinstance(frame, int) or isinstance(frame, bool) or abs(frame) >= 2**53:
            raise DataError(f"{where}: got {frame!r:.40} as a frame number, wanted an integer")
        frames.setdefault(frame, []).append(content)
    found = {}
    for frame, contents in frames.items():
        # Several entries of one frame are several people.
        people = [read_frame(content, f"{where}: frame {frame}") for content in contents]
        people = [person for person in people if person is not None]
        found[frame] = max(people, key=lambda person: np.nansum(person[:, 2]), default=None)
    return found


def _by_frame(value: Any, where: str) -> Iterator[tuple[Any, Any]]:
    if isinstance(value, dict) and "images" in value and "annotations" in value:
        images = _listed(value["images"], where)
        names = {str(_get(image, "id", where)): _get(image, "file_name", where) for image in images}
        for entry in _listed(value["annotations"], where):
            name = names.get(str(_get(entry, "image_id", where)))
            if name is None:
                raise DataError(f"{where}: an annotation is of an image that is not listed")
            yield frame_number(PurePosixPath(str(name)).stem, f"{where}: image {name!r:.80}"), [entry]
        return
    if isinstance(value, dict) and "instance_info" in value:
        value = value["instance_info"]
    if isinstance(value, dict):
        for key, content in value.items():
            yield frame_number(key, f"{where}: entry {key!r:.80}"), content
        return
    for entry in _listed(value, where):
        if isinstance(entry, dict) and "frame_id" in entry:
            yield entry["frame_id"], _get(entry, "instances", where)
        elif isinstance(entry, dict) and "image_id" in entry:
            image = entry["image_id"]
            if isinstance(image, str):
                image = frame_number(PurePosixPath(image).stem, f"{where}: image {image!r:.80}")
            yield image, [entry]
        else:
            raise DataError(f"{where}: an entry without frame_id or image_id, which the file of a whole view needs")


def _of_image(value: Any, image: str, where: str) -> Any:
    """The entries for one picture from COCO annotations or results; anything else is returned as it is.

    Annotations list the names of their pictures; results have the number in a picture's name, or the name itself. Those
    of a single picture may have any number.

    Raises:
        DataError: none of the pictures is this one, or several may be.
    """
    own = PurePosixPath(image)
    names = {own.name, own.stem}
    if isinstance(value, dict) and "images" in value and "annotations" in value:
        images = _listed(value["images"], where)
        named = {str(_get(entry, "id", where)): str(_get(entry, "file_name", where)) for entry in images}
        found = {key for key, name in named.items() if PurePosixPath(name).name in names}
        value = _listed(value["annotations"], where)
    elif isinstance(value, list) and all(isinstance(entry, dict) and "image_id" in entry for entry in value):
        named = {str(entry["image_id"]): str(entry["image_id"]) for entry in value}
        number = last_number(own.stem)
        found = {key for key in named if PurePosixPath(key).name in names}
        found = found or {key for key in named if number is not None and last_number(PurePosixPath(key).stem) == number}
        # Detectors number a single picture as they like.
        if len(named) == 1:
            found = found or {key for key in named if key.isdecimal()}
    else:
        return value
    if named and len(found) != 1:
        raise DataError(f"{where}: keypoints of {', '.join(named.values()):.80}, wanted those of {image}")
    return [entry for entry in value if str(_get(entry, "image_id", where)) in found]


def _people(value: Any, where: str) -> Iterator[np.ndarray]:
    if isinstance(value, dict) and "people" in value:
        yield from (_openpose(person, where) for person in _listed(value["people"], where))
        return
    if isinstance(value, dict):
        value = value.get("instance_info", value.get("instances", value.get("annotations", [value])))
    entries = _listed(value, where)
    if entries and not isinstance(entries[0], dict):
        yield _rows(entries, where)
        return
    yield from (_coco(entry, where) for entry in entries)


def _openpose(person: Any, where: str) -> np.ndarray:
    pose = _triples(_get(person, "pose_keypoints_2d", where), where)
    if len(pose) == BODY:
        return pose
    if len(pose) != 25:
        raise DataError(f"{where}: {len(pose)} joints in pose_keypoints_2d, wanted OpenPose's BODY_135 or BODY_25")
    body = np.zeros((BODY, 3))
    body[list(FROM_BODY_25)] = pose[list(FROM_BODY_25.values())]
    for name, start, count, first in (
        ("hand_left", LEFT_HAND, 21, 1),
        ("hand_right", RIGHT_HAND, 21, 1),
        ("face", FACE, 70, 0),
    ):
        part = _triples(person.get(f"{name}_keypoints_2d") or [], where)
        if len(part) not in (0, count):
            raise DataError(f"{where}: {len(part)} joints in {name}_keypoints_2d, wanted {count} or none")
        # A hand's first joint is its wrist.
        body[start : start + max(0, len(part) - first)] = part[first:]
    return body


def _coco(entry: Any, where: str) -> np.ndarray:
    joints = _get(entry, "keypoints", where)
    if "keypoint_scores" in entry:
        joints, scores = _table(joints, where), _table(entry["keypoint_scores"], where)
        if joints.ndim != 2 or joints.shape[1] < 2 or scores.shape != joints.shape[:1]:
            got = f"keypoints of shape {list(joints.shape)} with keypoint_scores of shape {list(scores.shape)}"
            raise DataError(f"{where}: {got}, wanted [133, 2] and [133]")
        joints = np.column_stack((joints[:, :2], scores))
    else:
        joints = _triples(joints, where)
        if len(joints) == 17 and any(part in entry for part in list(PARTS)[1:]):
            parts = [_part(entry, name, count, where) for name, count in PARTS.items()]
            joints = np.concatenate(parts)
    if len(joints) not in (17, len(WHOLE_BODY)):
        raise DataError(f"{where}: {len(joints)} joints, wanted the 133 of COCO-WholeBody or the 17 of COCO")
    body = np.zeros((BODY, 3))
    target = WHOLE_BODY[: len(joints)]
    body[target[target >= 0]] = joints[target >= 0]
    return body


def _part(entry: dict, name: str, count: int, where: str) -> np.ndarray:
    part = _triples(entry.get(name) or [0] * 3 * count, where)
    if len(part) != count:
        raise DataError(f"{where}: {len(part)} joints in {name}, wanted {count}")
    return part


def _rows(entries: list, where: str) -> np.ndarray:
    rows = _table(entries, where)
    if rows.ndim != 2 or rows.shape[0] not in PLAIN_SIZES or rows.shape[1] not in (2, 3):
        raise DataError(
            f"{where}: rows of shape {list(rows.shape)}, wanted [135, 3] or [17, 3], or 2 without confidence"
        )
    return rows if rows.shape[1] == 3 else np.column_stack((rows, np.ones(len(rows))))


def _triples(values: Any, where: str) -> np.ndarray:
    table = _table(values, where)
    if table.ndim != 1 or len(table) % 3:
        raise DataError(f"{where}: keypoints of shape {list(table.shape)}, wanted x, y and confidence in turn")
    return table.reshape(-1, 3)


def _table(values: Any, where: str) -> np.ndarray:
    try:
        return as_numbers(values)
    except ValueError as error:
        raise DataError(f"{where}: keypoints are not a table of numbers") from error


def _get(value: Any, name: str, where: str) -> Any:
    if not isinstance(value, dict) or name not in value:
        raise DataError(f"{where}: no {name}, not keypoints in a known format")
    return value[name]


def _listed(value: Any, where: str) -> list:
    if not isinstance(value, list):
        raise DataError(f"{where}: got a {type(value).__name__} instead of a list, not keypoints in a known format")
    return value
