"""A multi-view capture of people, made up from a seed and written in any of the layouts that `hvs.data` reads."""

import hashlib
import json
from dataclasses import asdict, dataclass
from itertools import chain, product
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from tqdm import tqdm

from hvs.data.preparation.human36m_raw import VIEWS as HUMAN36M_VIEWS

from .layouts import PREPARED, Take
from .once import cache_folder, make_once
from .plain import PLAIN
from .raw import RAW

LayoutName = Literal["panoptic", "human36m", "plain", "panoptic-raw", "panoptic-raw-openpose", "human36m-raw"]
WRITERS = {**PREPARED, **PLAIN, **RAW}
assert set(WRITERS) == set(get_args(LayoutName))
# Part of the cache key: raise it, or that of one layout, when the same settings would make another capture.
VERSION, VERSIONS = 2, {"human36m": 3}
NOTE = "sample.json"


@dataclass(frozen=True)
class SampleSettings:
    """What the sample capture consists of.

    Attributes:
        subjects: number of people; the last one is never trained on. The layout human36m-raw has at most seven.
        takes: number of motions of each person, seven seconds long.
        frames: number of frames of each take.
        views: number of cameras; the Human3.6M layouts use at most four, plain and panoptic-raw-openpose need two.
        height: height of the pictures, in pixels; those of the Human3.6M layouts are square and have this width too.
        width: width of the pictures, in pixels.
        seed: seed of bodies, clothes, motions and cameras.
    """

    # Another person teaches a network more than another motion of the same person.
    subjects: int = 10
    takes: int = 1
    frames: int = 56
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
    """The root folder of the sample capture, which is made first if it is not there yet.

    Args:
        root: where it is or will be; by default in the user's cache.
        settings: what to make; the same settings always give the same bytes.
        layout: of which data set, and whether prepared as readers want it or raw as it is downloaded.

    Raises:
        ValueError: the layout is unknown or cannot have these settings, or `root` holds something else.
        ModuleNotFoundError: a package is not installed; the message says how to install it.
    """
    settings = settings or SampleSettings()
    if layout not in WRITERS:
        raise ValueError(f"layout: got {layout!r}, wanted one of {', '.join(WRITERS)}")
    writer = WRITERS[layout]
    if writer.subjects is not None and settings.subjects > writer.subjects:
        raise ValueError(f"subjects: got {settings.subjects}, wanted at most {writer.subjects} in the layout {layout}")
    if settings.views < writer.views:
        raise ValueError(f"views: got {settings.views}, wanted at least {writer.views} in the layout {layout}")
    note = json.dumps({"version": VERSIONS.get(layout, VERSION), "layout": layout, **asdict(settings)})
    if root is None:
        root = cache_folder() / f"sample-{hashlib.sha256(note.encode()).hexdigest()[:16]}"
    root = make_once(Path(root), lambda folder: _make(folder, settings, layout, note))
    file = root / NOTE
    if not file.is_file() or file.read_text() != note:
        raise ValueError(f"root: {root} holds something other than this sample, wanted a new or an empty folder")
    return root


def _make(root: Path, settings: SampleSettings, layout: LayoutName, note: str) -> None:
    from .bodies import body_model
    from .people import film, make_person
    from .stage import make_rigs, ring

    # Before the progress bar starts, as this takes a while the first time, and fails if a package is missing.
    body_model()
    writer = WRITERS[layout]
    if writer.needs:
        writer.needs()
    views, sizes = _views(settings, writer.dataset)
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
            by_view = dict(zip(views, cameras, strict=True))
            filmed = Take.of(writer.dataset, by_view, person.joints[writer.dataset].double(), shots)
            writer.write(root, writer.name(subject, take), filmed)
    (root / "splits.json").write_text(json.dumps(_splits(settings, views, layout)))
    (root / NOTE).write_text(note)


def _views(settings: SampleSettings, dataset: str) -> tuple[list[str], list[tuple[int, int]]]:
    """Names of the views, and (width, height) of each."""
    if dataset == "panoptic":
        return [f"{view:02d}" for view in range(settings.views)], [(settings.width, settings.height)] * settings.views
    views = list(HUMAN36M_VIEWS[: settings.views])
    # Two of the real cameras have 1002 rows instead of 1000.
    taller = round(settings.height * 1.002)
    return views, [(settings.height, taller if view in ("54138969", "60457274") else settings.height) for view in views]


def _splits(settings: SampleSettings, views: list[str], layout: LayoutName) -> dict:
    # Held-out frames are blocks, as neighbours in time look alike; more training frames come after them.
    n = settings.frames
    c = n - max(1, round(0.15 * n))
    b = c - max(1, round(0.15 * n))
    a = b - max(1, round(0.10 * n))
    half = n // 2
    known = {"train": [[0, a - 1], [c, n - 1]], "val": [[a, b - 1]], "test": [[b, c - 1]]}
    unknown = {"train": [], "val": [[0, half - 1]], "test": [[half, n - 1]]}
    *names, last = (
        [WRITERS[layout].name(subject, take) for take in range(settings.takes)] for subject in range(settings.subjects)
    )
    return {
        "views": views,
        "stride": 1,
        "known": [{"sequence": name, **known} for name in chain(*names)],
        "unknown": [{"sequence": name, **unknown} for name in last],
    }
