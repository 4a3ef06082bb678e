"""The sample in the form of the public downloads of Panoptic and Human3.6M, plus masks, which neither download has."""

import io
import json
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from hvs.data.decoding import Picture
from hvs.data.ffmpeg import write_frames
from hvs.data.preparation import human36m_raw, panoptic_raw
from hvs.geometry import Camera

from .layouts import Take, Writer, human36m_name

MASK_FOLDER = "masks"
PANOPTIC_FPS, HUMAN36M_FPS = "30000/1001", "50"
HUMAN36M_SUBJECTS = (1, 5, 6, 7, 8, 9, 11)
# The metadata in VideoPose3D's file of detections.
CPN_METADATA = {
    "layout_name": "h36m",
    "num_joints": 17,
    "keypoints_symmetry": [[4, 5, 6, 11, 12, 13], [1, 2, 3, 14, 15, 16]],
}


def write_panoptic(root: Path, name: str, take: Take, openpose: bool) -> None:
    """Write one sequence: videos, calibration, official reconstructions, and OpenPose's files if asked for."""
    folder = root / name.partition("/")[0]
    videos = {view: panoptic_raw.video_file(folder, view) for view in take.cameras}
    _write_videos(root / MASK_FOLDER / folder.name, take, videos, PANOPTIC_FPS)
    entries = [_calibration(view, camera) for view, camera in take.cameras.items()]
    _write(folder / f"calibration_{folder.name}.json", {"calibDataSource": "sample", "cameras": entries})
    for frame, points in enumerate(take.points / panoptic_raw.CENTIMETRE):
        _write_reconstruction(folder, frame, points)
    if openpose:
        for view in take.cameras:
            for frame, label in enumerate(take.seen[view]):
                person = {"person_id": [-1], "pose_keypoints_2d": label.flatten().tolist()}
                people = [person] if label.any() else []
                _write(panoptic_raw.openpose_file(folder, view, frame), {"version": 1.7, "people": people})


def _calibration(view: str, camera: Camera) -> dict:
    return {
        "name": f"00_{view}",
        "type": "hd",
        "resolution": [camera.width, camera.height],
        "panel": 0,
        "node": int(view),
        "K": camera.K.tolist(),
        "distCoef": camera.distortion.tolist(),
        "R": camera.R.tolist(),
        "t": (camera.t[:, None] / panoptic_raw.CENTIMETRE).tolist(),
    }


def _write_reconstruction(folder: Path, frame: int, points: Tensor) -> None:
    """Write body, hands and face of BODY_135 [135, 3] in centimetres."""
    body = torch.zeros(19, 4, dtype=points.dtype)
    body[list(panoptic_raw.COCO19), :3] = points[:17]
    body[0, :3], body[2, :3] = points[panoptic_raw.NECK], points[[11, 12]].mean(0)
    body[:, 3] = 1
    header = {"version": 0.7, "univTime": frame * 33.3667}
    person = {"id": 0, "joints19": body.flatten().tolist()}
    _write(panoptic_raw.body_file(folder, frame), {**header, "fpsType": "hd_29_97", "bodies": [person]})
    hands = {}
    for name, wrist, part in (("left_hand", 9, panoptic_raw.LEFT_HAND), ("right_hand", 10, panoptic_raw.RIGHT_HAND)):
        landmarks = torch.cat((points[wrist][None], points[part]))
        hands[name] = {"landmarks": landmarks.flatten().tolist(), "averageScore": [1.0] * len(landmarks)}
    _write(panoptic_raw.hand_file(folder, frame), {**header, "people": [{"id": 0, **hands}]})
    face = {"landmarks": points[panoptic_raw.FACE].flatten().tolist(), "averageScore": [1.0] * 70}
    _write(panoptic_raw.face_file(folder, frame), {**header, "people": [{"id": 0, "face70": face}]})


def write_human36m(root: Path, name: str, take: Take) -> None:
    """Write one action: its videos and captured poses, and its part of the files that all actions share."""
    subject, _, prepared = name.split("/")
    folder, action = root / subject, prepared.replace("_", " ")
    videos = {view: folder / "Videos" / f"{action}.{view}.mp4" for view in take.cameras}
    _write_videos(root / MASK_FOLDER / subject / prepared, take, videos, HUMAN36M_FPS)
    write_positions(folder / "MyPoseFeatures" / "D3_Positions" / f"{action}.cdf", take.points)
    _add_detections(root / human36m_raw.DETECTIONS, subject, action, take)
    _write_metadata(root / human36m_raw.METADATA, take.cameras)


def write_positions(file: Path, points: Tensor) -> None:
    """Write points [frames, 17, 3] in metres to a CDF file of 32 joints in millimetres."""
    cdflib = human36m_raw.load_cdflib()
    pose = torch.zeros(len(points), human36m_raw.CAPTURED, 3, dtype=torch.float64)
    pose[:, list(human36m_raw.JOINTS)] = points / human36m_raw.MILLIMETRE
    pose = pose.flatten(1)
    file.parent.mkdir(parents=True, exist_ok=True)
    spec = {
        "Variable": "Pose",
        "Data_Type": cdflib.cdfwrite.CDF.CDF_DOUBLE,
        "Num_Elements": 1,
        "Rec_Vary": True,
        "Dim_Sizes": list(pose.shape),
        # What is compressed bears the time of day.
        "Compress": 0,
    }
    cdf = cdflib.cdfwrite.CDF(file, delete=True)
    cdf.write_var(spec, var_data=pose[None].numpy())
    cdf.close()


def _add_detections(file: Path, subject: str, action: str, take: Take) -> None:
    found = human36m_raw.read_object_npz(file)["positions_2d"] if file.exists() else {}
    absent = np.zeros((len(take.points), 17, 2), dtype=np.float32)
    arrays = [
        take.seen[view].float().numpy() if view in take.cameras else absent for view in human36m_raw.VIEWS
    ]  # fmt: skip
    found.setdefault(subject, {})[action] = arrays
    np.savez_compressed(file, positions_2d=np.array(found, object), metadata=np.array(CPN_METADATA, object))


def _write_metadata(file: Path, cameras: dict[str, Camera]) -> None:
    """Write the cameras, the same for all subjects; missing views stay zero."""
    packed = [human36m_raw.pack_camera(cameras[v]) if v in cameras else None for v in human36m_raw.VIEWS]
    vector = []
    for entry in packed:
        vector += human36m_raw.SUBJECTS * (entry[0] if entry else [0.0] * human36m_raw.EXTRINSICS)
    for entry in packed:
        vector += entry[1] if entry else [0.0] * human36m_raw.INTRINSICS
    numbers = " ".join(map(repr, vector))
    file.write_text(f'<?xml version="1.0" encoding="UTF-8"?>\n<root>\n<w0>[{numbers}]</w0>\n</root>\n')


def _write_videos(masks: Path, take: Take, videos: dict[str, Path], fps: str) -> None:
    """Write the videos of all views, and their masks as pictures numbered like the frames."""
    for index, (view, file) in enumerate(videos.items()):
        write_frames(file, (_decode(shot[index][0]) for shot in take.shots), fps)
        (masks / view).mkdir(parents=True)
        for frame, shot in enumerate(take.shots):
            mask = Picture(shot[index][1], view).mask()[0].numpy()
            Image.fromarray(np.uint8(255) * mask).save(masks / view / f"{frame:08d}.png")


def _decode(jpeg: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(jpeg)).convert("RGB"))


def _write(file: Path, content: dict) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content))


def _panoptic_name(subject: int, take: int) -> str:
    # Real sequences are named after the day and the pose. A sequence without known cuts has one subsequence.
    return f"subject{subject + 1}_pose{take + 1}/Subsequences/0"


def _human36m_name(subject: int, take: int) -> str:
    return human36m_name(HUMAN36M_SUBJECTS[subject] - 1, take)


RAW = {
    "panoptic-raw": Writer("panoptic", _panoptic_name, partial(write_panoptic, openpose=False)),
    # The preparation triangulates its 3D poses.
    "panoptic-raw-openpose": Writer("panoptic", _panoptic_name, partial(write_panoptic, openpose=True), views=2),
    "human36m-raw": Writer(
        "human36m",
        _human36m_name,
        write_human36m,
        subjects=len(HUMAN36M_SUBJECTS),
        needs=human36m_raw.load_cdflib,
    ),
}
