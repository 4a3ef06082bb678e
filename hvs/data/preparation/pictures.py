"""The images and masks of one view: a video decoded once, cut into its sequences, frame by frame."""

import io
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from hvs.data.ffmpeg import read_frames
from hvs.data.layouts import IMAGES, MASKS
from hvs.data.stores import DataError
from hvs.data.workers import Tick
from hvs.geometry import Camera

from .databases import Clip
from .masks import EMPTY, MaskSource

JPEG_QUALITY = 95


@dataclass(frozen=True)
class ViewJob:
    """What remains to be done for one view of a recording.

    Attributes:
        recording: its name in a folder of masks.
        view: as the prepared layout names it.
        video: its file.
        camera: of the full frame.
        clips: the sequences that are cut from the video, ascending and without overlap.
        masks: where they come from.
    """

    recording: str
    view: str
    video: Path
    camera: Camera
    clips: tuple[Clip, ...]
    masks: MaskSource

    def frames(self) -> int:
        """The number of images and masks that remain to be written."""
        return sum(clip.frames for place in (IMAGES, MASKS) for clip in self.pending(place))

    def pending(self, place: str) -> list[Clip]:
        return [clip for clip in self.clips if not clip.has(place, self.view)]

    def __call__(self, tick: Tick) -> None:
        """Write the missing databases; `tick` is called after each frame."""
        self._write_images(tick)
        for clip in self.pending(MASKS):
            dropped: Counter[str] = Counter()
            clip.write(MASKS, self.view, self._masks(clip, dropped, tick), dropped)

    def _write_images(self, tick: Tick) -> None:
        if not (pending := self.pending(IMAGES)):
            return
        with closing(read_frames(self.video, pending[0].first)) as frames:
            numbered = enumerate(frames, pending[0].first)
            for clip in pending:
                clip.write(IMAGES, self.view, self._images(clip, numbered, tick), Counter())

    def _images(
        self, clip: Clip, numbered: Iterator[tuple[int, np.ndarray]], tick: Tick
    ) -> Iterator[tuple[int, bytes]]:
        size, stop = (self.camera.width, self.camera.height), clip.first + clip.frames
        number = clip.first - 1
        while number < stop - 1:
            number, pixels = next(numbered, (number, None))
            if pixels is None:
                raise DataError(f"{self.video}: ends after {number + 1} frames, wanted {stop}")
            if number < clip.first:
                continue
            if pixels.shape[1::-1] != size:
                got = f"frame {number} is {pixels.shape[1]}x{pixels.shape[0]}"
                raise DataError(f"{self.video}: {got}, its camera {size[0]}x{size[1]}")
            yield number - clip.first, to_jpeg(pixels)
            tick()

    def _masks(self, clip: Clip, dropped: Counter[str], tick: Tick) -> Iterator[tuple[int, bytes]]:
        for frame, mask in self.masks.frames(clip, self.recording, self.view, self.camera):
            reason = mask if isinstance(mask, str) else "" if mask.any() else EMPTY
            if reason:
                dropped[reason] += 1
            else:
                yield frame, to_jpeg(np.repeat(mask[..., None], 3, axis=-1))
            tick()


def to_jpeg(pixels: np.ndarray) -> bytes:
    """A picture [H, W, 3] uint8 as a JPEG with full colour resolution."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=JPEG_QUALITY, subsampling=0)
    return file.getvalue()
