"""The files of a sequence's 2D keypoints: one JSON per frame in the view's folder, or one for the whole view."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ..files import read_json
from ..stores import DataError, MissingFrameError
from .folders import files, numbered, subfolders
from .keypoints import read_frame, read_frames

MAX_FRAME_BYTES = 16 * 2**20


class People:
    """The person of every frame and view, read when asked for.

    Args:
        folder: of all views' keypoints.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self._listed: dict[str, dict[int, str]] = {}
        self._read: dict[str, dict[int, np.ndarray | None]] = {}

    def __reduce__(self):
        # A copy, such as a worker process gets, reads the files itself.
        return People, (self.folder,)

    def views(self) -> set[str]:
        """Views that have keypoints."""
        return set(subfolders(self.folder)) | set(files(self.folder, ".json")) if self.folder.is_dir() else set()

    def frames(self, view: str) -> list[int]:
        """Frames, ascending, that have keypoints."""
        return sorted(self._whole(view) if self._one_file(view) else self._files(view))

    def person(self, view: str, frame: int) -> tuple[np.ndarray | None, str]:
        """x, y and confidence, [135, 3] or [17, 3], or None if nobody was seen, and the text that names the file."""
        if self._one_file(view):
            file, frames = self.folder / f"{view}.json", self._whole(view)
            if frame not in frames:
                raise MissingFrameError(f"{file}: no frame {frame}")
            return frames[frame], f"{file}: frame {frame}"
        files = self._files(view)
        if frame not in files:
            raise MissingFrameError(f"{self.folder / view}: no frame {frame}")
        file = self.folder / view / files[frame]
        return read_frame(read_json(file, MAX_FRAME_BYTES), str(file)), str(file)

    def anybody(self, views: tuple[str, ...]) -> Iterator[np.ndarray]:
        """People one by one, as asked for; a file that cannot be read is an error only if no other has anybody."""
        first, found = None, False
        for view in views:
            for frame in self.frames(view):
                try:
                    person, _ = self.person(view, frame)
                except DataError as error:
                    first = first or error
                else:
                    if person is not None:
                        found = True
                        yield person
        if first and not found:
            raise first

    def _one_file(self, view: str) -> bool:
        if view in self._read:
            return True
        if view in self._listed:
            return False
        file = self.folder / f"{view}.json"
        if file.exists() and (self.folder / view).exists():
            raise DataError(f"{self.folder}: both {view} and {view}.json, wanted one of them")
        return file.exists()

    def _whole(self, view: str) -> dict[int, np.ndarray | None]:
        if view not in self._read:
            file = self.folder / f"{view}.json"
            self._read[view] = read_frames(read_json(file), str(file))
        return self._read[view]

    def _files(self, view: str) -> dict[int, str]:
        if view not in self._listed:
            self._listed[view] = numbered(self.folder / view, (".json",))
        return self._listed[view]
