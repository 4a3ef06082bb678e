"""Preparation of the raw Human3.6M: captured poses, CPN detections, and cameras from metadata.xml."""

from collections import Counter
from functools import partial
from itertools import islice
from pathlib import Path

from torch import Tensor

from hvs.data.ffmpeg import count_frames, read_frames
from hvs.data.stores import DataError
from hvs.data.workers import Workers
from hvs.geometry import Camera

from . import human36m_raw as raw_files
from .databases import Clip, labels
from .run import Dropped, Recording, prepare

# Actions whose poses do not fit their videos.
MISALIGNED = {"S11": ("Directions",), "S9": ("Greeting", "SittingDown_1", "Waiting_1")}


def prepare_human36m(
    raw: Path, out: Path, *, masks: Path | None = None, segment: str | None = None, workers: int | None = None
) -> str:
    """Prepare every action of every subject of the raw Human3.6M; work that is already done is not repeated.

    Args:
        raw: holds `metadata.xml`, `data_2d_h36m_cpn_ft_h36m_dbb.npz`, `<subject>/Videos/*.mp4` and
            `<subject>/MyPoseFeatures/D3_Positions/*.cdf`.
        out: folder of the prepared capture.
        masks: folder of `<subject>/<action>/<view>.mp4` or `<subject>/<action>/<view>/*.png`.
        segment: "module:function" that makes a mask from an image.
        workers: number of processes; by default one per core.

    Returns:
        A summary of what was kept, and of what was dropped and why.

    Raises:
        DataError: something is missing or broken; what has been prepared so far is kept.
    """
    raw, out = Path(raw), Path(out)
    folders = [raw / f"S{subject}" for subject in range(1, raw_files.SUBJECTS + 1)]
    folders = [folder for folder in folders if folder.is_dir()]
    actions = {(folder.name, action.name): action for folder in folders for action in raw_files.find_actions(folder)}
    if not actions:
        raise DataError(f"{raw}: no raw Human3.6M here, wanted S<number>/Videos and S<number>/MyPoseFeatures")
    vector = raw_files.read_camera_vector(raw / raw_files.METADATA)
    detections = raw_files.read_detections(raw / raw_files.DETECTIONS)
    openers = {
        f"{subject}/{name}": partial(_open, out, subject, action, vector, detections, raw / raw_files.DETECTIONS)
        for (subject, name), action in actions.items()
    }
    found = {subject for subject, _ in actions}
    openers |= {folder.name: _open_nothing for folder in folders if folder.name not in found}
    return prepare("human36m", raw, out, openers, masks, segment, workers)


def _open_nothing(workers: int) -> Recording:
    raise Dropped("neither videos nor poses of any action")


def _open(
    out: Path, subject: str, action: raw_files.Action, vector: Tensor, detections: dict, file: Path, workers: int
) -> Recording:
    if action.name in MISALIGNED.get(subject, ()):
        raise Dropped("its poses do not fit its videos")
    where = f"{file}: {subject} {action.name}"
    arrays = detections.get(subject, {}).get(action.name)
    if arrays is None:
        raise Dropped(f"no 2D poses for it in {file.name}")
    if not action.videos:
        raise Dropped("no videos")
    points = raw_files.read_positions(action.poses)
    lost = {view: "no video" for view in raw_files.VIEWS if view not in action.videos}
    seen, cameras = {}, {}
    for index, view in enumerate(raw_files.VIEWS):
        if view not in action.videos:
            continue
        if (count := count_frames(action.videos[view])) < len(points):
            raise Dropped(f"{len(points)} poses, but view {view} has {count} images")
        found = raw_files.detections(arrays, index, where)
        if len(found) < len(points):
            raise Dropped(f"{len(points)} 3D poses, but view {view} has {len(found)} 2D poses")
        # Videos, and the detections in them, may continue after the end of the capture.
        seen[view] = found[: len(points)]
        cameras[view] = _camera(
            vector, int(subject[1:]), index, action.videos[view], file.with_name(raw_files.METADATA)
        )
    clip = Clip(out, f"{subject}/Sequences/{action.name}", "human36m", 0, len(points))
    return Recording(
        name=f"{subject}/{action.name}",
        clips=(clip,),
        cameras=cameras,
        videos=action.videos,
        lost_views=lost,
        poses="captured, 2D by CPN",
        label=partial(_label, points, seen),
    )


def _camera(vector: Tensor, subject: int, index: int, video: Path, metadata: Path) -> Camera:
    frame = next(islice(read_frames(video), 1), None)
    if frame is None:
        raise DataError(f"{video}: a video without frames")
    height, width = frame.shape[:2]
    try:
        return raw_files.unpack_camera(vector, subject, index, width, height)
    except ValueError as error:
        where = f"camera {raw_files.VIEWS[index]} of subject {subject}"
        raise DataError(f"{metadata}: {where} has {error}, wanted them positive") from error


def _label(points: Tensor, seen: dict[str, Tensor], clip: Clip, cameras: dict[str, Camera], workers: Workers) -> None:
    every = range(clip.frames)
    for view in cameras:
        if not clip.has(clip.layout.keypoints, view):
            clip.write(clip.layout.keypoints, view, labels(seen[view], every), Counter())
    if not clip.has(clip.layout.points):
        clip.write(clip.layout.points, None, labels(points, every), Counter())
