"""Preparation of raw Panoptic sequences: they are cut into subsequences, with 2D poses by OpenPose and 3D poses
triangulated from them, or, without OpenPose's files, with the official reconstructions and their projections."""

from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from hvs.data.stores import DataError
from hvs.data.workers import Tick, Workers
from hvs.geometry import Camera, distort
from hvs.geometry.triangulation import triangulate, undistort_exactly

from . import panoptic_raw as raw_files
from .databases import Clip, labels, with_confidence
from .run import Recording, common_length, prepare

# The first frame of every subsequence, and the last frame of the last one.
SUBSEQUENCES = {
    "171026_pose1": ((0, 7543, 15102, 23412), 24219),
    "171026_pose2": ((0, 7702), 15157),
    "171026_pose3": ((0, 7603), 7993),
    "171204_pose1": ((0, 4525, 9068, 13785, 18297, 23087), 27815),
    "171204_pose2": ((0, 4565, 8997, 13780, 18739, 23838, 28432, 33012), 37944),
    "171204_pose3": ((0, 4659), 9203),
    "171204_pose4": ((0, 4491, 9003, 13576, 18144, 22793, 27241), 31670),
    "171204_pose5": ((0, 4610, 9175, 13709, 18355, 22850), 27199),
    "171204_pose6": ((0, 4690, 9373, 14040, 18540), 23300),
}
DRIFTING = dict.fromkeys(("171204_pose5", "171204_pose6"), ("12", "16", "18", "27"))
# If fewer views had to agree, two wrong ones would easily be believed.
LEAST_VIEWS = 3
# Number of frames; more would only take more memory.
TRIANGULATED_AT_ONCE = 256
# Distance on the plane z = 1.
FOLDED = 1e-3
NO_FILE, NOBODY, SEVERAL = "no file of the frame", "nobody", "more than one person"
NOT_FOUND = "no joint that enough views agree on"
OPENPOSE, OFFICIAL = "OpenPose, triangulated", "official reconstructions"


def prepare_panoptic(
    raw: Path, out: Path, *, masks: Path | None = None, segment: str | None = None, workers: int | None = None
) -> str:
    """Prepare every sequence in a folder of raw Panoptic sequences; work that is already done is not repeated.

    Args:
        raw: holds `<sequence>/hdVideos/hd_00_NN.mp4` and `<sequence>/calibration_<sequence>.json`, and either
            `<sequence>/openpose/hd_00_NN/` or `<sequence>/hdPose3d_stage1_coco19/`.
        out: folder of the prepared capture.
        masks: folder of `<sequence>/<view>.mp4` or `<sequence>/<view>/*.png`.
        segment: "module:function" that makes a mask from an image.
        workers: number of processes; by default one per core.

    Returns:
        A summary of what was kept, and of what was dropped and why.

    Raises:
        DataError: something is missing or broken; what has been prepared so far is kept.
    """
    # A folder with only one of them is told as incomplete.
    marks = (file for pattern in ("*/calibration_*.json", "*/hdVideos") for file in Path(raw).glob(pattern))
    found = sorted({file.parent.absolute() for file in marks})
    if not found:
        raise DataError(f"{raw}: no raw Panoptic sequence here, wanted <sequence>/calibration_<sequence>.json")
    folders = {folder.name: folder for folder in found}
    openers = {name: partial(_open, folder, Path(out)) for name, folder in folders.items()}
    return prepare("panoptic", Path(raw), Path(out), openers, masks, segment, workers)


def _open(folder: Path, out: Path, workers: int) -> Recording:
    cameras = raw_files.read_calibration(folder)
    videos = {view: raw_files.video_file(folder, view) for view in cameras}
    lost = {view: "its calibration drifts" for view in DRIFTING.get(folder.name, ()) if view in cameras}
    lost |= {view: f"no video {videos[view].name}" for view in cameras if not videos[view].is_file()}
    videos = {view: video for view, video in videos.items() if view not in lost}
    if not videos:
        raise DataError(f"{folder / 'hdVideos'}: no video of any camera, wanted hd_00_NN.mp4")
    starts, last = SUBSEQUENCES.get(folder.name, ((0,), None))
    videos, count = common_length(videos, lost, workers, None if last is None else last + 1)
    stops = (*starts[1:], count)
    clips = tuple(
        Clip(out, f"{folder.name}/Subsequences/{i}", "panoptic", first, stop - first)
        for i, (first, stop) in enumerate(zip(starts, stops, strict=True))
    )
    openpose = (folder / "openpose").is_dir()
    if not openpose and not (folder / "hdPose3d_stage1_coco19").is_dir():
        raise DataError(f"{folder}: no poses here, wanted openpose/ or hdPose3d_stage1_coco19/")
    without = "".join(f", without {part}" for part in ("hdHand3d", "hdFace3d") if not (folder / part).is_dir())
    return Recording(
        name=folder.name,
        clips=clips,
        cameras={view: cameras[view] for view in videos},
        videos=videos,
        lost_views=lost,
        poses=OPENPOSE if openpose else f"{OFFICIAL}{without}",
        label=partial(_label_openpose if openpose else _label_official, folder),
        late=partial(_late, folder, list(videos), openpose),
    )


def _late(folder: Path, views: list[str], openpose: bool, clip: Clip) -> bool:
    """Whether fewer frames have no file of poses now than when the databases were written."""
    if openpose:
        noted = [(clip.layout.keypoints, view, partial(raw_files.openpose_file, folder, view)) for view in views]
    else:
        noted = [(clip.layout.points, None, partial(raw_files.body_file, folder))]
    for place, view, file_of in noted:
        absent = clip.dropped(place, view)[NO_FILE]
        if absent and absent > sum(not file_of(clip.first + frame).exists() for frame in range(clip.frames)):
            return True
    return False


def _label_openpose(folder: Path, clip: Clip, cameras: dict[str, Camera], workers: Workers) -> None:
    """Write 2D poses as OpenPose found them, and 3D poses triangulated from the most confident person in each view."""
    tasks = [partial(_store_openpose, folder, clip, view) for view in cameras]
    with _bar(clip, len(cameras)) as bar:
        seen = torch.from_numpy(np.stack(workers.run(tasks, bar.update)))  # [V, F, 135, 3]
    if clip.has(clip.layout.points):
        return
    with _bar(clip, 1, "triangulation") as bar:
        parts = []
        for part in seen.split(TRIANGULATED_AT_ONCE, dim=1):
            parts.append(_triangulate(part, list(cameras.values())))
            bar.update(part.shape[1])
    points = torch.cat(parts)
    known = points[..., 3].any(-1)
    dropped = Counter({NOT_FOUND: int((~known).sum())} if not known.all() else {})
    clip.write(clip.layout.points, None, labels(points, known.nonzero()[:, 0].tolist()), dropped)


def _triangulate(seen: Tensor, cameras: list[Camera]) -> Tensor:
    """World points and confidence [F, J, 4] from pixels and confidence [V, F, J, 3]; uses the GPU if there is one."""
    seen = seen.to("cuda" if torch.cuda.is_available() else "cpu")
    least_views = min(LEAST_VIEWS, max(2, len(cameras)))
    found = triangulate(seen[..., :2], seen[..., 2], cameras, least_views=least_views)
    return with_confidence(found.points, found.confidence).cpu()


def _bar(clip: Clip, views: int, what: str = "poses"):
    from tqdm import tqdm

    return tqdm(total=views * clip.frames, desc=f"{clip.name}: {what}", unit="frame")


def _store_openpose(folder: Path, clip: Clip, view: str, tick: Tick) -> np.ndarray:
    """The most confident person in each frame of a view [F, 135, 3]; stored where there is exactly one."""
    people = np.zeros((clip.frames, raw_files.JOINTS, 3), np.float32)
    kept, dropped = [], Counter()
    for frame in range(clip.frames):
        tick()
        file = raw_files.openpose_file(folder, view, clip.first + frame)
        if not file.exists():
            dropped[NO_FILE] += 1
            continue
        found = raw_files.read_openpose(file)
        if len(found):
            people[frame] = found[found[..., 2].sum(-1).argmax()]
        if len(found) == 1:
            kept.append(frame)
        else:
            dropped[SEVERAL if len(found) else NOBODY] += 1
    if not clip.has(clip.layout.keypoints, view):
        clip.write(clip.layout.keypoints, view, labels(torch.from_numpy(people), kept), dropped)
    # An array, because tensors would be passed through shared memory, of which many containers have little.
    return people


def _label_official(folder: Path, clip: Clip, cameras: dict[str, Camera], workers: Workers) -> None:
    """Write 3D poses of the official reconstructions, and 2D poses by projection where nobody else is in the scene."""
    read = []
    with _bar(clip, 1) as bar:
        for frame in range(clip.frames):
            read.append(raw_files.read_reconstruction(folder, clip.first + frame))
            bar.update()
    absent, alone = torch.zeros(raw_files.JOINTS, 4, dtype=torch.float64), []
    known, dropped, dropped_2d = [], Counter(), Counter()
    for frame, (label, people) in enumerate(read):
        if label is None:
            reason = NOBODY if raw_files.body_file(folder, clip.first + frame).exists() else NO_FILE
            dropped[reason] += 1
            dropped_2d[reason] += 1
            continue
        known.append(frame)
        if people == 1:
            alone.append(frame)
        else:
            dropped_2d[SEVERAL] += 1
    points = torch.stack([absent if label is None else label for label, _ in read])
    for view, camera in cameras.items():
        if not clip.has(clip.layout.keypoints, view):
            clip.write(clip.layout.keypoints, view, labels(_project(points, camera), alone), dropped_2d)
    if not clip.has(clip.layout.points):
        clip.write(clip.layout.points, None, labels(points, known), dropped)


def _project(points: Tensor, camera: Camera) -> Tensor:
    """Pixels and confidence [F, J, 3] of points and confidence [F, J, 4]; zero where unknown or outside the image."""
    placed = camera.to_camera(points[..., :3])
    straight = placed[..., :2] / placed[..., 2:]
    bent = distort(straight, camera.distortion)
    pixels = bent @ camera.K[:2, :2].mT + camera.K[:2, 2]
    last = pixels.new_tensor((camera.width - 1, camera.height - 1))
    inside = ((pixels >= 0) & (pixels <= last)).all(-1) & (placed[..., 2] > 0)
    # The lens model folds points far outside back into the image.
    folded = (undistort_exactly(bent.flatten(0, -2), camera.distortion).view_as(bent) - straight).norm(dim=-1) > FOLDED
    seen = inside & ~folded & (points[..., 3] > 0)
    return with_confidence(pixels, points[..., 3]).where(seen[..., None], 0.0)
