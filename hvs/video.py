"""Frames as videos, animated pictures and folders of pictures, and contact sheets that show them at a glance."""

import math
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from .runtime import UserError, hidden_beside, make_folder, naming, write_atomically

Format = Literal["mp4", "gif", "webp", "png"]

# Players show anything smaller at the size of a stamp.
SMALLEST_SIDE = 256
# GIFs count time in hundredths of a second, WebPs in thousandths.
TICKS = {"gif": 100, "webp": 1000}


def enlarge(frame: np.ndarray) -> np.ndarray:
    """A frame [H, W, 3] uint8, enlarged (bicubic) by the least integer that makes it 256 pixels high or more."""
    factor = -(-SMALLEST_SIDE // len(frame))
    if factor == 1:
        return frame
    image = Image.fromarray(frame)
    return np.asarray(image.resize((factor * image.width, factor * image.height), Image.Resampling.BICUBIC))


def write_animation(path: str | Path, frames: Iterable[np.ndarray], fps: int = 25) -> Path:
    """Write frames [H, W, 3] uint8 in the format of the path's ending: .mp4, .gif or .webp; .png is a folder of them.

    The output is written whole or not at all. For .png the folder has the path's name without the ending, and its
    frames are 000000.png and so on.

    Returns:
        The file, or the folder.

    Raises:
        UserError: there are no frames, there is no ffmpeg for .mp4, the ending is another, or something else than a
            folder of frames is in the way.
        ValueError: the rate is not positive, or the frames differ in size or are no such arrays.
    """
    path = Path(path)
    kind = path.suffix.removeprefix(".")
    _check_rate(fps)
    if kind == "mp4":
        write_video(path, frames, fps)
    elif kind in TICKS:
        _write_animated(path, frames, fps)
    elif kind == "png":
        return _write_frames(path.with_suffix(""), frames)
    else:
        raise UserError(f"{path}: got the ending {path.suffix!r}, wanted .mp4, .gif, .webp or .png")
    return path


def write_video(path: str | Path, frames: Iterable[np.ndarray], fps: int = 25) -> None:
    """Write frames [H, W, 3] uint8 as an H.264 video that common players open: yuv420p, even size, constant rate.

    The file is written whole or not at all. An odd row or column at the edge is left out.

    Raises:
        UserError: there are no frames, or no ffmpeg.
        DataError: ffmpeg failed, for example on a full disk.
        ValueError: the rate is not positive, or the frames differ in size or are no such arrays.
    """
    import imageio_ffmpeg

    from .data.ffmpeg import FOR_PLAYERS, write_frames

    path = Path(path)
    _check_rate(fps)
    try:
        imageio_ffmpeg.get_ffmpeg_exe()
    except RuntimeError as error:
        raise UserError(f"{path}: cannot be written, ffmpeg is missing ({error})") from error
    even = (frame[: len(frame) // 2 * 2, : frame.shape[1] // 2 * 2] for frame in _some(frames, path))
    write_atomically(path, lambda temporary: write_frames(temporary, even, str(fps), FOR_PLAYERS, path))


def contact_sheet(frames: list[np.ndarray], columns: int = 6) -> Image.Image:
    """Frames [H, W, 3] uint8 side by side, row by row, as one picture.

    Raises:
        ValueError: there are no frames, or no columns.
    """
    if not frames or columns < 1:
        raise ValueError(f"frames, columns: got {len(frames)} and {columns}, wanted one of each or more")
    height, width = frames[0].shape[:2]
    rows = -(-len(frames) // columns)
    sheet = Image.new("RGB", (min(columns, len(frames)) * width, rows * height), "white")
    for i, frame in enumerate(frames):
        sheet.paste(Image.fromarray(frame), (i % columns * width, i // columns * height))
    return sheet


def _write_animated(path: Path, frames: Iterable[np.ndarray], fps: int) -> None:
    def write(temporary: Path) -> None:
        images = [Image.fromarray(frame) for frame in _some(frames, path)]
        # Each frame's end is rounded, not its duration, so that the last one ends when it should.
        ends = [round(TICKS[kind] * (i + 1) / fps) for i in range(len(images))]
        durations = (np.diff(ends, prepend=0) * (1000 // TICKS[kind])).tolist()
        more = dict(quality=90, method=2) if kind == "webp" else dict(disposal=1)
        images[0].save(temporary, kind, save_all=True, append_images=images[1:], duration=durations, loop=0, **more)

    kind = path.suffix.removeprefix(".")
    write_atomically(path, write)


def _write_frames(folder: Path, frames: Iterable[np.ndarray]) -> Path:
    check_folder_of_frames(folder)
    make_folder(folder.parent)
    unfinished, replaced = hidden_beside(folder), hidden_beside(folder.with_name(f"{folder.name}.old"))
    # Left by a process of this number that was killed.
    for left in (unfinished, replaced):
        shutil.rmtree(left, ignore_errors=True)
    try:
        unfinished.mkdir()
        for i, frame in enumerate(_some(frames, folder)):
            with naming(folder, unfinished):
                Image.fromarray(frame).save(unfinished / f"{i:06d}.png", compress_level=1)
        # At once, as whoever stops this meanwhile is not to find half of the old frames.
        if folder.exists():
            folder.rename(replaced)
        unfinished.rename(folder)
        shutil.rmtree(replaced, ignore_errors=True)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return folder


def check_folder_of_frames(folder: Path) -> None:
    """Raise a UserError if there is something other than a folder of frames, be it a link to one."""
    if not os.path.lexists(folder):
        return
    if folder.is_symlink() or not folder.is_dir() or not all(map(_is_frame, folder.iterdir())):
        raise UserError(f"{folder}: is in the way of a folder of frames, and is or holds something else")


def _is_frame(path: Path) -> bool:
    return path.suffix == ".png" and path.stem.isdecimal()


def _check_rate(fps: int) -> None:
    if not 0 < fps < math.inf:
        raise ValueError(f"fps: got {fps}, wanted more than 0")


def _some(frames: Iterable[np.ndarray], path: Path) -> Iterator[np.ndarray]:
    shape = None
    for frame in frames:
        # ffmpeg would take other numbers for bytes of colours, and rows of another length for those of the first frame.
        if not isinstance(frame, np.ndarray) or frame.dtype != np.uint8 or frame.shape[2:] != (3,) or not frame.size:
            got = f"{frame.dtype} {list(frame.shape)}" if isinstance(frame, np.ndarray) else type(frame).__name__
            raise ValueError(f"frames: got {got}, wanted NumPy arrays of uint8 [H, W, 3]")
        if shape not in (None, frame.shape):
            raise ValueError(f"frames: got one of shape {list(frame.shape)} after {list(shape)}, wanted one size")
        shape = frame.shape
        yield frame
    if shape is None:
        raise UserError(f"{path}: a video needs frames, got none")
