"""Looks through a whole capture for what training would stumble over."""

import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import torch

from .captures import list_sequences
from .decoding import REDUCTIONS
from .layouts import IMAGES, MASKS, SPLITS
from .sequences import Sequence
from .stores import DataError

# Median distance between keypoints and projected poses, as a part of the picture's larger side, that speaks of another
# camera or another person.
FAR = 0.02


@dataclass
class ViewReport:
    """What was found in one view of a sequence.

    Attributes:
        sequence, view: names; a view of "" stands for a sequence that cannot be opened.
        counts: modality -> number of frames; None where they cannot be listed.
        usable: frames that all modalities hold and some split lists.
        distance: median, in pixels, between keypoints and projected 3D poses; NaN where there are none.
        faults: what is wrong, a line each.
    """

    sequence: str
    view: str
    counts: dict[str, int | None] = field(default_factory=dict)
    usable: int = 0
    distance: float = float("nan")
    faults: list[str] = field(default_factory=list)


def check(root: str | Path, layout: str | None = None, workers: int | None = None) -> tuple[int, Iterator[ViewReport]]:
    """Reads every file of every view: how many reports there will be, and the reports as they are done, in order.

    Args:
        root: folder of a capture.
        layout: by default told from the folders.
        workers: processes; as many as there are CPUs by default, 0 for this one.

    Raises:
        DataError: there is no capture here.
    """
    jobs: list[tuple[Sequence, str] | ViewReport] = []
    for name, open_sequence in list_sequences(root, "all", layout):
        try:
            sequence = open_sequence()
        except DataError as error:
            jobs.append(ViewReport(name, "", faults=[str(error)]))
        else:
            jobs += [(sequence, view) for view in sequence.views]
            jobs += [_left_out(sequence, view) for view in sorted(_views_without_images(sequence))]
    workers = min(os.cpu_count() or 1 if workers is None else workers, len(jobs))
    return len(jobs), _run(jobs, workers)


def _run(jobs: list[tuple[Sequence, str] | ViewReport], workers: int) -> Iterator[ViewReport]:
    if workers < 2:
        yield from map(_check_view, jobs)
    else:
        with ProcessPoolExecutor(workers) as pool:
            yield from pool.map(_check_view, jobs)


def _check_view(job: tuple[Sequence, str] | ViewReport) -> ViewReport:
    if isinstance(job, ViewReport):
        return job
    torch.set_num_threads(1)
    sequence, view = job
    report = ViewReport(sequence.name, view)
    layout, place = sequence.layout, f"{sequence.folder}: view {view}"
    held: dict[str, set[int]] = {}
    for modality, where in _modalities(sequence, view).items():
        report.counts[modality] = None
        try:
            held[modality] = set(sequence.available(*where))
            report.counts[modality] = len(held[modality])
        except DataError as error:
            report.faults.append(str(error))
    try:
        camera = sequence.camera(view)
    except DataError as error:
        report.faults.append(str(error))
        return report

    if None not in report.counts.values():
        common = set.intersection(*held.values())
        listed = {frame for split in SPLITS for frame in sequence.frames(split)}
        report.usable = len(common & listed)
        if not report.usable:
            report.faults.append(f"{place}: no frame of any split is in all of {', '.join(held)}")
        # The 3D poses may be of frames that only other views have.
        counts = {modality: count for modality, count in report.counts.items() if modality != "3D"}
        if len(set(counts.values())) > 1:
            found = ", ".join(f"{count} {modality}" for modality, count in counts.items())
            report.faults.append(f"{place}: the numbers of frames differ ({found})")

    for modality, kind in (("images", IMAGES), ("masks", MASKS)):
        for frame in sorted(held.get(modality, ())):
            try:
                # A damaged picture is damaged at every size, and the smallest is soon decoded.
                sequence.picture(kind, view, frame).rgb(REDUCTIONS[-1])
            except DataError as error:
                report.faults.append(str(error))

    distances = []
    for frame in sorted(held.get("2D", ())):
        try:
            keypoints, found = sequence.keypoints(view, frame)
            if frame in held.get("3D", ()):
                points, valid = sequence.points(frame)
                both = found & valid
                both[list(layout.not_projected)] = False
                distances.append((camera.project(points) - keypoints).norm(dim=-1)[both])
        except DataError as error:
            report.faults.append(str(error))
    every = torch.cat(distances) if distances else torch.empty(0)
    if len(every):
        report.distance = every.median().item()
        most = FAR * max(camera.width, camera.height)
        if not report.distance <= most:
            distance = f"{report.distance:.1f} px beside the 2D ones, wanted at most {most:.1f}"
            report.faults.append(f"{place}: 3D poses are seen {distance}")
    return report


def _views_without_images(sequence: Sequence) -> set[str]:
    others = (sequence.views_of(place) for place in (MASKS, sequence.layout.keypoints))
    return set().union(*others) - sequence.views_of(IMAGES)


def _left_out(sequence: Sequence, view: str) -> ViewReport:
    return ViewReport(sequence.name, view, faults=[f"{sequence.folder}: view {view}: no images, so it is not used"])


def _modalities(sequence: Sequence, view: str) -> dict[str, tuple[str, str | None]]:
    """What every frame needs, and where it is."""
    return {
        "images": (IMAGES, view),
        "masks": (MASKS, view),
        "2D": (sequence.layout.keypoints, view),
        "3D": (sequence.layout.points, None),
    }
