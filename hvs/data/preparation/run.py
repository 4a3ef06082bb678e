"""The part of the preparation that both data sets share: labels, then pictures, then a summary."""

import fcntl
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hvs.data.captures import PUBLISHED_SPLITS
from hvs.data.ffmpeg import count_frames
from hvs.data.files import read_json
from hvs.data.layouts import MASKS
from hvs.data.stores import DataError
from hvs.data.workers import Workers
from hvs.geometry import Camera

from .databases import Clip, camera_entry, write_json
from .masks import GivenMasks, MaskSource, Silhouette, choose_source
from .pictures import ViewJob
from .report import Report


@dataclass(frozen=True)
class Recording:
    """Videos taken at the same time, with everything known about them.

    Attributes:
        name: of the folder of its masks.
        clips: the prepared sequences to cut it into, ascending and without overlap.
        cameras, videos: of the views that are kept.
        lost_views: the views that are not kept: view -> why.
        poses: where the poses come from, in words.
        label: (clip, cameras, workers) -> None; writes the missing databases of poses.
        late: clip -> whether there are files now of frames that its databases of poses lack.
    """

    name: str
    clips: tuple[Clip, ...]
    cameras: dict[str, Camera]
    videos: dict[str, Path]
    lost_views: dict[str, str]
    poses: str
    label: Callable[[Clip, dict[str, Camera], Workers], None]
    late: Callable[[Clip], bool] = lambda clip: False


class Dropped(Exception):  # noqa: N818
    """A recording is left out on purpose; the message says why."""


def prepare(
    dataset: str,
    raw: Path,
    out: Path,
    openers: dict[str, Callable[[int], Recording]],
    masks: Path | None,
    segment: str | None,
    workers: int | None,
) -> str:
    """Prepare recordings one after the other; a broken one does not stop the others.

    Args:
        dataset: "panoptic" or "human36m".
        raw, out: folders of the raw and of the prepared capture.
        openers: name -> a function that takes the number of workers and reads what is known about the recording.
        masks, segment, workers: as for `prepare_panoptic`.

    Returns:
        The summary.

    Raises:
        DataError: the first fault, raised after everything that could be prepared has been.
    """
    pool, source, report, faults = Workers(workers), choose_source(masks, segment), Report(), []
    with _alone(out), pool:
        for name, opener in openers.items():
            try:
                _prepare_one(opener(pool.count), source, report, pool)
            except Dropped as reason:
                report.drop(name, str(reason))
            except DataError as fault:
                report.drop(name, str(fault))
                faults.append(fault)
        try:
            notes = _splits(dataset, raw, out, [row[0] for row in report.rows])
        except DataError as fault:
            notes = []
            faults.append(fault)
    notes.insert(0, f"masks: {source.describe()}")
    if isinstance(source, Silhouette):
        notes.insert(1, "Such masks are coarse and only suited to trying things out: give --masks or --segment.")
    summary = "\n".join((str(report), "", *notes))
    if faults:
        print(summary)
        raise DataError(f"{faults[0]}" + (f" (and {len(faults) - 1} more, see above)" if len(faults) > 1 else ""))
    return summary


def _prepare_one(recording: Recording, source: MaskSource, report: Report, workers: Workers) -> None:
    from tqdm import tqdm

    views = list(recording.cameras)
    settings = {"views": views, "poses": recording.poses, "masks": source.describe()}
    for clip in recording.clips:
        clip.begin(settings)
        layout, file = clip.layout, clip.folder / "cameras.json"
        cameras = {view: camera_entry(camera) for view, camera in recording.cameras.items()}
        # The poses that there are were made with the cameras that there are.
        if file.exists() and read_json(file) != cameras:
            raise DataError(f"{file}: begun with other cameras than the raw ones; remove {clip.folder} to start over")
        write_json(file, cameras)
        _discard_outdated(clip, recording, source)
        if not (clip.has(layout.points) and all(clip.has(layout.keypoints, view) for view in views)):
            recording.label(clip, recording.cameras, workers)
    jobs = [
        ViewJob(recording.name, view, recording.videos[view], camera, recording.clips, source)
        for view, camera in recording.cameras.items()
    ]
    jobs = [job for job in jobs if job.frames()]
    with tqdm(total=sum(job.frames() for job in jobs), desc=f"{recording.name}: pictures", unit="frame") as bar:
        workers.run(jobs, bar.update)
    for clip in recording.clips:
        report.add(clip, views, recording.lost_views)


def _discard_outdated(clip: Clip, recording: Recording, source: MaskSource) -> None:
    """Remove databases that lack frames whose files have come since."""
    layout = clip.layout
    if recording.late(clip):
        # The notes that tell so stay until all of this is done, so a run that is killed here does it again.
        clip.discard(layout.points)
        clip.discard(layout.keypoints)
        if isinstance(source, Silhouette):
            clip.discard(MASKS)
    if isinstance(source, GivenMasks):
        for view in recording.cameras:
            if source.late(clip, recording.name, view):
                clip.discard(MASKS, view)


def common_length(
    videos: dict[str, Path], lost: dict[str, str], workers: int, wanted: int | None = None
) -> tuple[dict[str, Path], int]:
    """The videos that agree on the number of frames, and that number; the others are added to `lost`.

    Args:
        videos: view -> file.
        lost: view -> why it is left out; is added to.
        workers: how many videos to count at a time.
        wanted: number of frames that are used; a video may have more. By default the number that most videos have.
    """
    with ThreadPoolExecutor(workers) as pool:
        counts = dict(zip(videos, pool.map(count_frames, videos.values()), strict=True))
    length = wanted
    if length is None:
        votes = Counter(counts.values())
        length = max(votes, key=lambda count: (votes[count], count))
    kept = {}
    for view, count in counts.items():
        if count == length or (wanted is not None and count > wanted):
            kept[view] = videos[view]
        else:
            lost[view] = f"its video has {count} frames, wanted {length}"
    if not kept:
        raise DataError(f"{next(iter(videos.values())).parent}: no video has the {length} frames wanted")
    return kept, length


def _splits(dataset: str, raw: Path, out: Path, names: Iterable[str]) -> list[str]:
    """Copy the splits of a capture that has its own; returns notes about sequences that are in no split."""
    own, kept = raw / "splits.json", out / "splits.json"
    if kept.exists():
        differs = own.is_file() and read_json(own) != read_json(kept)
        return [f"{kept}: kept as it is, though {own} differs"] if differs else []
    if own.is_file():
        write_json(kept, read_json(own))
        return []
    published = read_json(PUBLISHED_SPLITS)[dataset]
    listed = {entry["sequence"] for group in ("known", "unknown") for entry in published[group]}
    others = [name for name in names if name not in listed]
    if not others:
        return []
    return [f"In no published split, so only read with a splits.json of your own in {out}: {', '.join(others)}"]


@contextmanager
def _alone(out: Path) -> Iterator[None]:
    """Keep a second run from writing to the same folder; the system ends the lock with the process."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        lock = os.open(out, os.O_RDONLY)
    except OSError as error:
        raise DataError(f"{out}: not a folder that can be written to ({error.strerror})") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        raise DataError(f"{out}: another run is preparing it") from error
    finally:
        os.close(lock)
