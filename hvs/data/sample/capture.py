"""A multi-view capture of people, made up from a seed and written in the layouts that `hvs.data` reads."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import chain, product
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from hvs.data.layouts import IMAGES, LAYOUTS, MASKS
from hvs.data.stores import pack_label, write_store
from hvs.geometry import Camera

from . import plain
from .once import cache_folder, make_once

LayoutName = Literal["panoptic", "human36m", "plain"]
# Part of the cache's key: raise it when the same settings would make another capture.
VERSION = 2
NOTE = "sample.json"
HUMAN36M_VIEWS = ("54138969", "55011271", "58860488", "60457274")
# Rows are the written world's axes in the package's own (x left, y back, z up): Panoptic's y points down.
AXES = {"panoptic": ((1, 0, 0), (0, 0, -1), (0, 1, 0)), "human36m": ((1, 0, 0), (0, 1, 0), (0, 0, 1))}
AXES["plain"] = AXES["human36m"]
# Whose joints a layout's labels are.
JOINTS = {"panoptic": "panoptic", "human36m": "human36m", "plain": "panoptic"}


@dataclass(frozen=True)
class SampleSettings:
    """
    Attributes:
        subjects: people; the last one is never trained on.
        takes: motions of each of them, seven seconds long.
        frames: of each take.
        views: cameras; the Human3.6M layout has no more than four.
        height, width: of the pictures, in pixels; the Human3.6M layout is square and takes the height.
        seed: of bodies, clothes, motions and cameras.
    """

    subjects: int = 6
    takes: int = 2
    frames: int = 40
    views: int = 8
    height: int = 270
    width: int = 480
    seed: int = 0

    def __post_init__(self):
        for name, least in (
            ("subjects", 2),
            ("takes", 1),
            ("frames", 6),
            ("views", 1),
            ("height", 16),
            ("width", 16),
            ("seed", 0),
        ):
            if getattr(self, name) < least:
                raise ValueError(f"{name}: got {getattr(self, name)}, wanted at least {least}")
        if self.views > 31:
            raise ValueError(f"views: got {self.views}, wanted at most 31")


def make_sample(
    root: str | Path | None = None, settings: SampleSettings | None = None, layout: LayoutName = "panoptic"
) -> Path:
    """The capture's root folder; the capture is made first if it is not there yet.

    Args:
        root: where it lies or shall lie; by default in the user's cache.
        settings: what to make; the same settings always give the same bytes.
        layout: which data set's folders and labels.

    Raises:
        ValueError: an unknown layout, or `root` holds something else.
        ModuleNotFoundError: the body model is not installed; says how to.
    """
    settings = settings or SampleSettings()
    if layout not in AXES:
        raise ValueError(f"layout: got {layout!r}, wanted one of {', '.join(AXES)}")
    note = json.dumps({"version": VERSION, "layout": layout, **asdict(settings)})
    if root is None:
        root = cache_folder() / f"sample-{hashlib.sha256(note.encode()).hexdigest()[:16]}"
    root = make_once(Path(root), lambda folder: _make(folder, settings, layout, note))
    file = root / NOTE
    if not file.is_file() or file.read_text() != note:
        raise ValueError(f"root: {root} holds something else than this sample, wanted a new or an empty folder")
    return root


def _make(root: Path, settings: SampleSettings, layout: LayoutName, note: str) -> None:
    from .bodies import body_model
    from .people import film, make_person
    from .stage import make_rigs, ring

    # Before the progress bar starts: it takes a while the first time, and fails where the package is missing.
    body_model()
    views, sizes = _views(settings, layout)
    cameras = ring(sizes, np.random.default_rng([settings.seed, 0]))
    rigs = make_rigs(cameras)
    takes = list(product(range(settings.subjects), range(settings.takes)))
    with tqdm(total=len(takes) * settings.frames, desc="sample capture", unit="frame") as bar:
        for subject, take in takes:
            person = make_person(settings.seed, subject, settings.frames, take)
            shots = []
            for shot in film(person, cameras, rigs):
                shots.append(shot)
                bar.update()
            folder = root / _name(layout, subject, take)
            _write(
                folder, layout, dict(zip(views, cameras, strict=True)), person.joints[JOINTS[layout]].double(), shots
            )
    (root / "splits.json").write_text(json.dumps(_splits(settings, views, layout)))
    (root / NOTE).write_text(note)


def _views(settings: SampleSettings, layout: LayoutName) -> tuple[list[str], list[tuple[int, int]]]:
    """Names of the views, and (width, height) of each."""
    if layout != "human36m":
        return [f"{view:02d}" for view in range(settings.views)], [(settings.width, settings.height)] * settings.views
    views = list(HUMAN36M_VIEWS[: settings.views])
    # Two of the real cameras have 1002 rows instead of 1000.
    taller = round(settings.height * 1.002)
    return views, [(settings.height, taller if view in ("54138969", "60457274") else settings.height) for view in views]


def _name(layout: LayoutName, subject: int, take: int) -> str:
    if layout == "panoptic":
        return f"subject{subject + 1}/Subsequences/{take}"
    if layout == "plain":
        return f"subject{subject + 1}_take{take + 1}"
    # As the real data set counts the repetitions of an action.
    return f"S{subject + 1}/Sequences/Walking" + (f" {take}" if take else "")


def _splits(settings: SampleSettings, views: list[str], layout: LayoutName) -> dict:
    # Held-out frames are blocks, as neighbours in time look alike; training goes on behind them.
    n = settings.frames
    c = n - max(1, round(0.15 * n))
    b = c - max(1, round(0.15 * n))
    a = b - max(1, round(0.10 * n))
    half = n // 2
    known = {"train": [[0, a - 1], [c, n - 1]], "val": [[a, b - 1]], "test": [[b, c - 1]]}
    unknown = {"train": [], "val": [[0, half - 1]], "test": [[half, n - 1]]}
    *names, last = (
        [_name(layout, subject, take) for take in range(settings.takes)] for subject in range(settings.subjects)
    )
    return {
        "views": views,
        "stride": 1,
        "known": [{"sequence": name, **known} for name in chain(*names)],
        "unknown": [{"sequence": name, **unknown} for name in last],
    }


def _write(
    folder: Path,
    layout: LayoutName,
    cameras: dict[str, Camera],
    points: Tensor,
    shots: list[list[tuple[bytes, bytes]]],
) -> None:
    """One sequence: points [frames, J, 3] in the package's world, and image and mask of each frame and view."""
    from .stage import to_world

    axes = torch.tensor(AXES[layout]).double()
    if layout == "plain":
        written = {view: to_world(camera, axes) for view, camera in cameras.items()}
        keypoints = {view: _seen(camera, points, with_confidence=True) for view, camera in cameras.items()}
        plain.write(folder, written, keypoints, shots)
        return
    places, databases = LAYOUTS[layout], folder / "Databases"
    for index, (view, camera) in enumerate(cameras.items()):
        for place, which in ((IMAGES, 0), (MASKS, 1)):
            write_store(databases / place / f"{view}.lmdb", enumerate(shot[index][which] for shot in shots))
        keypoints = _seen(camera, points, places.with_confidence)
        write_store(databases / places.keypoints / f"{view}.lmdb", _labels(keypoints))
    world = points @ axes.mT
    write_store(databases / places.points, _labels(_with_confidence(world) if places.with_confidence else world))
    entries = {view: _entry(to_world(camera, axes)) for view, camera in cameras.items()}
    (folder / "cameras.json").write_text(json.dumps(entries))


def _seen(camera: Camera, points: Tensor, with_confidence: bool) -> Tensor:
    """Pixels of points [frames, J, 3], with a confidence where the layout has one: joints out of the frame are zero."""
    pixels = camera.project(points)
    if not with_confidence:
        return pixels
    last = pixels.new_tensor((camera.width - 1, camera.height - 1))
    inside = ((pixels >= 0) & (pixels <= last)).all(-1, keepdim=True)
    return _with_confidence(pixels) * inside


def _with_confidence(points: Tensor) -> Tensor:
    return torch.cat((points, torch.ones_like(points[..., :1])), -1)


def _labels(labels: Tensor) -> Iterator[tuple[int, bytes]]:
    return ((frame, pack_label(label[..., None].float())) for frame, label in enumerate(labels))


def _entry(camera: Camera) -> dict:
    return {
        "R": camera.R.tolist(),
        "t": camera.t[:, None].tolist(),
        "K": camera.K.tolist(),
        "dist_coef": camera.distortion.tolist(),
        "resolution": [camera.width, camera.height],
    }
