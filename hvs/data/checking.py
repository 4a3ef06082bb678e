"""Checks a whole capture for what training would stumble over."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import chain, combinations
from pathlib import Path

import torch

from hvs.geometry import Camera

from .captures import list_sequences
from .findings import Findings, median, placed
from .layouts import IMAGES, MASKS, SPLITS, Split
from .poses import fault_of_size
from .sequences import Sequence
from .stores import DataError
from .workers import Tick, Workers

# FAR: median distance between keypoints and projected poses, as a fraction of the picture's larger side, beyond which
# they are of another camera or another person. PLACED: median fraction of the joints seen by two views that must have a
# position in 3D. INSIDE: median fraction of the keypoints that must be inside the mask.
FAR, PLACED, INSIDE = 0.02, 0.3, 0.5
# Median fraction of the picture beyond which a mask cannot be that of a person.
COVERED = 0.9
# Fraction of the frames that may be missing, compared with the modality that has the most.
MISSING = 0.1
# Median cosine between the up direction and people's trunks, from hips to shoulders, below which they stand on their
# heads. To lie or to bend down is no fault.
HEADSTAND = -0.5
# Tasks for each worker, at least, so that none waits long for the last one.
TASKS = 4
OTHERS = "other cameras, or another unit of length?"


@dataclass
class ViewReport:
    """What was found in one view of a sequence.

    Attributes:
        sequence, view: names; the view "" stands for a sequence that cannot be opened.
        counts: modality -> number of frames; None where they cannot be listed.
        usable: number of frames that all modalities have and some split lists.
        distance: median, in pixels, between keypoints and projected 3D poses; NaN where there are none.
        faults: what is wrong, one line each.
    """

    sequence: str
    view: str
    counts: dict[str, int | None] = field(default_factory=dict)
    usable: int = 0
    distance: float = float("nan")
    faults: list[str] = field(default_factory=list)


def check(root: str | Path, layout: str | None = None, workers: int | None = None) -> list[ViewReport]:
    """Read every file of every view, and show on stderr how far that is.

    Args:
        root: folder of a capture.
        layout: by default detected from the folders.
        workers: number of processes; by default one per core.

    Raises:
        DataError: there is no capture here, the number of workers is not positive, or one of them was killed.
    """
    from tqdm import tqdm

    sequences = list_sequences(root, "all", layout)
    with Workers(workers) as pool:
        # Views that are checked by one task share the poses of their sequence, which may have to be triangulated.
        parts = -(-TASKS * pool.count // len(sequences))
        tasks, views = [], 0
        for name, times in Counter(name for name, _ in sequences).items():
            if times > 1:
                fault = f"{root}: {name} is listed {times} times, wanted once: nobody is both known and unknown"
                tasks.append(partial(_ready, ViewReport(name, "", faults=[fault])))
        for name, open_sequence in sequences:
            try:
                sequence = open_sequence()
                size = -(-len(sequence.views) // parts)
                starts = range(0, len(sequence.views), size)
                tasks += [partial(_check_views, sequence, sequence.views[i : i + size]) for i in starts]
                views += len(sequence.views)
                for view in sorted(_views_without_images(sequence)):
                    fault = f"{sequence.folder}: view {view}: no images, so it is not used"
                    tasks.append(partial(_ready, ViewReport(name, view, faults=[fault])))
            except DataError as error:
                tasks.append(partial(_ready, ViewReport(name, "", faults=[str(error)])))
        with tqdm(total=views, desc="check", unit="view") as bar:
            return list(chain(*pool.run(tasks, bar.update)))


def _ready(report: ViewReport, tick: Tick) -> list[ViewReport]:
    return [report]


def _check_views(sequence: Sequence, views: tuple[str, ...], tick: Tick) -> list[ViewReport]:
    reports = [ViewReport(sequence.name, view) for view in views]
    for report in reports:
        _check(sequence, report.view, report)
        # The same fault can show in several places.
        report.faults = list(dict.fromkeys(report.faults))
        tick()
    return reports


def _check(sequence: Sequence, view: str, report: ViewReport) -> None:
    place = f"{sequence.folder}: view {view}"
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
        return
    listed = None
    try:
        splits = {split: set(sequence.frames(split)) for split in SPLITS}
        listed = set().union(*splits.values())
        if view == sequence.views[0]:
            report.faults += [f"{sequence.folder}: {fault}" for fault in _faults_of_splits(sequence, splits)]
    except DataError as error:
        # What the frames are may depend on the files of another view.
        report.faults.append(str(error))

    usable: set[int] = set()
    if listed is not None and None not in report.counts.values():
        usable = set.intersection(*held.values()) & listed
        report.usable = len(usable)
        if not report.usable:
            report.faults.append(f"{place}: no frame of any split is in all of {', '.join(held)}")
        # 3D poses may exist for frames that only other views have, and a few frames may be missing anywhere.
        counts = {modality: count for modality, count in report.counts.items() if modality != "3D"}
        if min(counts.values()) < (1 - MISSING) * max(counts.values()):
            found = ", ".join(f"{count} {modality}" for modality, count in counts.items())
            report.faults.append(f"{place}: the numbers of frames differ ({found})")

    findings = Findings()
    for frame in sorted(set().union(*(held.get(modality, ()) for modality in ("images", "masks", "2D")))):
        there = {modality for modality, frames in held.items() if frame in frames}
        report.faults += findings.look_at(sequence, view, camera, frame, there)
    report.distance = median(findings.distances)
    report.faults += [f"{place}: {fault}" for fault in _faults_of_view(findings, report.distance, camera)]
    if view == sequence.views[0]:
        report.faults += [f"{sequence.folder}: {fault}" for fault in _faults_of_poses(sequence, findings)]
    # If few joints have a position in 3D, the first view reports it.
    if usable and not usable & findings.complete and not report.faults and not median(placed(sequence)) < PLACED:
        report.faults.append(f"{place}: no frame has keypoints that count inside the image and a root joint in 3D")


def _faults_of_view(findings: Findings, distance: float, camera: Camera) -> Iterator[str]:
    """What does not fit together. Where there are distances, a median that is NaN counts as a fault too."""
    most = FAR * max(camera.width, camera.height)
    if any(map(len, findings.distances)) and not distance <= most:
        yield f"3D poses project {distance:.1f} px away from the 2D ones, wanted at most {most:.1f}"
    if (part := median(findings.inside)) < INSIDE:
        yield f"{part:.0%} of the 2D joints are inside the mask, wanted {INSIDE:.0%}: black, inverted, someone else's?"
    elif findings.inside and (part := (torch.cat(findings.inside) == 0).float().mean().item()) > MISSING:
        yield f"in {part:.0%} of the frames no 2D joint is inside the mask, wanted at most {MISSING:.0%}: black masks?"
    elif (part := median(findings.covered)) > COVERED:
        yield f"masks are white in {part:.0%} of the picture, wanted at most {COVERED:.0%}: not masks of a person?"


def _faults_of_splits(sequence: Sequence, splits: dict[Split, set[int]]) -> Iterator[str]:
    for split, frames in splits.items():
        wanted = [f"{first} to {last}" for first, last in sequence.intervals[split] if first <= last]
        # Those of prepared layouts are listed whether or not there are pictures of them.
        if wanted and not frames:
            yield f"no picture of any frame of {split}, which lists {', '.join(wanted):.80}"
    for one, other in combinations(splits, 2):
        if both := splits[one] & splits[other]:
            yield f"frames in both {one} and {other}: {len(both)}, beginning with {min(both)}"


def _faults_of_poses(sequence: Sequence, findings: Findings) -> Iterator[str]:
    """What is reported once for all views."""
    if fault := fault_of_size(median(findings.extents)):
        yield fault
    if median(findings.upright) < HEADSTAND:
        yield "people stand on their heads: another direction that is up, or joints in another order?"
    if (part := median(placed(sequence))) < PLACED:
        yield f"{part:.0%} of the joints that two views see have a 3D position, wanted {PLACED:.0%}: {OTHERS}"


def _views_without_images(sequence: Sequence) -> set[str]:
    others = (sequence.views_of(place) for place in (MASKS, sequence.layout.keypoints))
    return set().union(*others) - sequence.views_of(IMAGES)


def _modalities(sequence: Sequence, view: str) -> dict[str, tuple[str, str | None]]:
    """What every frame needs, and the place and view where it is stored."""
    return {
        "images": (IMAGES, view),
        "masks": (MASKS, view),
        "2D": (sequence.layout.keypoints, view),
        "3D": (sequence.layout.points, None),
    }
