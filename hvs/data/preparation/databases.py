"""The files of a prepared sequence: each is written whole and only once, with a note of what it lacks and why."""

import json
import os
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hvs.data.files import read_json
from hvs.data.layouts import LAYOUTS, Layout
from hvs.data.stores import DataError, Store, pack_label, read_label, write_store
from hvs.geometry import Camera

# Next to Databases/: how each database was made, and what was dropped.
NOTES, SETTINGS = "Preparation", "settings.json"


@dataclass(frozen=True)
class Clip:
    """A prepared sequence to be written.

    Attributes:
        root: of the prepared capture.
        name: folder of the sequence in it, as the splits name it.
        dataset: "panoptic" or "human36m".
        first: the frame of its videos that is its frame 0.
        frames: number of frames.
    """

    root: Path
    name: str
    dataset: str
    first: int
    frames: int

    @property
    def layout(self) -> Layout:
        return LAYOUTS[self.dataset]

    @property
    def folder(self) -> Path:
        return self.root / self.name

    def place(self, modality: str, view: str | None = None) -> Path:
        return self.folder / "Databases" / (modality if view is None else f"{modality}/{view}.lmdb")

    def store(self, modality: str, view: str | None = None) -> Store:
        return Store(self.place(modality, view))

    def has(self, modality: str, view: str | None = None) -> bool:
        """Whether the database exists; an existing one is complete."""
        return self.place(modality, view).is_dir()

    def write(self, modality: str, view: str | None, items: Iterable[tuple[int, bytes]], dropped: Counter[str]) -> None:
        """Write a database and a note of `dropped` (reason -> number of frames), which may grow as `items` are made."""

        def noted() -> Iterator[tuple[int, bytes]]:
            yield from items
            # Before the database gets its name, so that none is without its note.
            write_json(self._note(modality, view), dict(sorted(dropped.items())))

        write_store(self.place(modality, view), noted())

    def dropped(self, modality: str, view: str | None = None) -> Counter[str]:
        """Reason -> number of frames that a database lacks."""
        note = self._note(modality, view)
        if not note.exists():
            return Counter()
        counts = read_json(note)
        if not isinstance(counts, dict) or any(type(count) is not int for count in counts.values()):
            raise DataError(f"{note}: wanted how many frames are missing for each reason; remove it to count none")
        return Counter(counts)

    def discard(self, modality: str, view: str | None = None) -> None:
        """Remove a database, or those of all views, to be made again. Their notes stay until then."""
        place = self.place(modality, view)
        for path in [place] if place.suffix == ".lmdb" else sorted(place.glob("[!.]*.lmdb")):
            # At once, because what has its name counts as complete; `begin` removes such leftovers.
            old = path.with_name(f".{path.name}.{os.getpid()}.old")
            with suppress(FileNotFoundError):
                path.rename(old)
            shutil.rmtree(old, ignore_errors=True)

    def label(self, modality: str, frame: int, view: str | None = None) -> Tensor | None:
        """A label [J, n], or None if the database has no such frame."""
        store = self.store(modality, view)
        return read_label(store[frame], f"{store.path}: frame {frame}")[..., 0] if frame in store else None

    def begin(self, settings: dict[str, Any]) -> None:
        """Note how the sequence is prepared, and remove what a killed run left behind.

        Raises:
            DataError: an earlier run began to prepare it with other settings.
        """
        file = self.folder / NOTES / SETTINGS
        if file.exists() and (was := read_json(file)) != settings:
            raise DataError(f"{file}: begun with {was}, now {settings}; remove {self.folder} to start over")
        for leftover in self.folder.glob("Databases/**/.*.lmdb.*"):
            shutil.rmtree(leftover, ignore_errors=True)
        for leftover in self.folder.rglob(".*.json"):
            leftover.unlink()
        write_json(file, settings)

    def _note(self, modality: str, view: str | None) -> Path:
        return self.folder / NOTES / f"{modality.removesuffix('.lmdb') if view is None else f'{modality}/{view}'}.json"


def labels(tensor: Tensor, kept: Iterable[int]) -> Iterator[tuple[int, bytes]]:
    """Labels of the kept frames of a tensor [F, J, n], as the databases hold them: float32 [J, n, 1]."""
    return ((frame, pack_label(tensor[frame][..., None].float())) for frame in kept)


def with_confidence(points: Tensor, confidence: Tensor) -> Tensor:
    return torch.cat((points, confidence[..., None].to(points)), -1)


def camera_entry(camera: Camera) -> dict[str, Any]:
    """The entry of a camera in cameras.json."""
    return {
        "R": camera.R.tolist(),
        "t": camera.t[:, None].tolist(),
        "K": camera.K.tolist(),
        "dist_coef": camera.distortion.tolist(),
        "resolution": [camera.width, camera.height],
    }


def write_json(file: Path, content: Any) -> None:
    """Write a JSON file as a whole or not at all; its folder is made too. A DataError says that it cannot be."""
    fresh = file.with_name(f".{os.getpid()}.{file.name}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with open(fresh, "w") as handle:
            handle.write(json.dumps(content))
            # Otherwise a machine that stops may leave an empty file of that name.
            handle.flush()
            os.fsync(handle.fileno())
        fresh.replace(file)
    except OSError as error:
        raise DataError(f"{file}: cannot be written ({error.strerror or error})") from error
    finally:
        fresh.unlink(missing_ok=True)
