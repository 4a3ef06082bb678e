"""Looks through a whole capture for what training would stumble over: `python -m hvs.data check ROOT`."""

import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import torch

from .decoding import REDUCTIONS
from .layouts import IMAGES, MASKS, SPLITS, Sequence, find_sequences
from .stores import DataError

# Median distance, in pixels, between 2D keypoints and the projected 3D pose that speaks of another camera or person.
FAR = 25.0


@dataclass
class ViewReport:
    """What was found in one view of a sequence.

    Attributes:
        sequence, view: names.
        counts: modality -> number of frames; None where its database cannot be read.
        usable: frames that all modalities hold.
        listed: frames of the splits.
        distance: median in pixels between keypoints and projected 3D poses; NaN where there are none.
        faults: what is wrong, a line each.
    """

    sequence: str
    view: str
    counts: dict[str, int | None] = field(default_factory=dict)
    usable: int = 0
    listed: int = 0
    distance: float = float("nan")
    faults: list[str] = field(default_factory=list)


def check(root: str | Path, layout: str | None = None, workers: int | None = None) -> Iterator[ViewReport]:
    """Reads every file of every view, and yields a report for each as it is done, in the order of the splits.

    Args:
        root: folder of a capture.
        layout: by default told from the folders.
        workers: processes; as many as there are CPUs by default.

    Raises:
        DataError: there is no capture here, or no sequence of it can be opened.
    """
    sequences = find_sequences(root, "all", layout)
    jobs = [(sequence, view) for sequence in sequences for view in sequence.views]
    if workers == 0 or len(jobs) == 1:
        yield from map(_check_view, jobs)
        return
    with ProcessPoolExecutor(min(workers or os.cpu_count() or 1, len(jobs))) as pool:
        yield from pool.map(_check_view, jobs)


def count_views(root: str | Path, layout: str | None = None) -> int:
    """How many reports :func:`check` will yield."""
    return sum(len(sequence.views) for sequence in find_sequences(root, "all", layout))


def _check_view(job: tuple[Sequence, str]) -> ViewReport:
    sequence, view = job
    report = ViewReport(sequence.name, view)
    listed = {frame for split in SPLITS for frame in sequence.frames(split)}
    report.listed = len(listed)
    places = {"images": (IMAGES, view), "masks": (MASKS, view), "2D": (sequence.layout.keypoints, view)}
    places["3D"] = (sequence.layout.points, None)
    held: dict[str, set[int]] = {}
    for modality, place in places.items():
        report.counts[modality] = None
        try:
            held[modality] = set(sequence.store(*place).frames)
            report.counts[modality] = len(held[modality])
        except DataError as error:
            report.faults.append(str(error))
    try:
        camera = sequence.camera(view)
    except DataError as error:
        report.faults.append(str(error))
        return report
    usable = set.intersection(*held.values()) if len(held) == len(places) else set()
    report.usable = len(usable)
    if len(held) == len(places) and len(set(map(len, held.values()))) > 1:
        counts = ", ".join(f"{len(frames)} {modality}" for modality, frames in held.items())
        report.faults.append(f"{sequence.folder}: view {view}: numbers of frames differ ({counts})")
    if usable and not usable & listed:
        report.faults.append(f"{sequence.folder}: view {view}: none of its {len(usable)} frames is in a split")
    for modality in ("images", "masks"):
        for frame in sorted(held.get(modality, ())):
            try:
                # Broken pictures break at every size.
                sequence.picture(places[modality][0], view, frame).rgb(REDUCTIONS[-1])
            except DataError as error:
                report.faults.append(str(error))
    distances = []
    for frame in sorted(held.get("2D", ())):
        try:
            keypoints, found = sequence.keypoints(view, frame)
            if frame not in held.get("3D", ()):
                continue
            points, valid = sequence.points(frame)
        except DataError as error:
            report.faults.append(str(error))
            continue
        both = found & valid
        both[list(sequence.layout.not_projected)] = False
        distances.append((camera.project(points) - keypoints).norm(dim=-1)[both])
    if distances and len(found := torch.cat(distances)):
        report.distance = found.median().item()
        if not report.distance <= FAR:
            report.faults.append(
                f"{sequence.folder}: view {view}: 3D poses project {report.distance:.0f} px beside the 2D ones; "
                "camera and poses do not belong together"
            )
    return report
