"""Videos and contact sheets of frames."""

from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

import numpy as np
from PIL import Image

from .runtime import UserError, write_atomically

# Players show anything smaller as a stamp.
SMALLEST_SIDE = 256


def enlarge(frame: np.ndarray) -> np.ndarray:
    """A frame [H, W, 3] uint8 as many whole times as large (bicubic) as it takes to be 256 pixels high."""
    factor = -(-SMALLEST_SIDE // len(frame))
    image = Image.fromarray(frame)
    return np.asarray(image.resize((factor * image.width, factor * image.height), Image.Resampling.BICUBIC))


def write_video(path: Path, frames: Iterable[np.ndarray], fps: int = 25) -> None:
    """Write frames [H, W, 3] uint8 as an H.264 video that players open: yuv420p, even size, constant rate.

    The file is complete or not there at all. An odd row or column at the edge is left out.

    Raises:
        UserError: there are no frames, or no ffmpeg.
    """
    import imageio.v2 as imageio

    def write(temporary: Path) -> None:
        try:
            writer = imageio.get_writer(
                temporary, format="FFMPEG", fps=fps, codec="libx264", pixelformat="yuv420p", macro_block_size=None,
                quality=8,
            )  # fmt: skip
        except RuntimeError as error:
            raise UserError(f"{path}: cannot be written, ffmpeg is missing ({error})") from error
        count = 0
        # The writer's own context leaves ffmpeg running after an exception.
        with closing(writer):
            for frame in frames:
                height, width = (side - side % 2 for side in frame.shape[:2])
                writer.append_data(np.ascontiguousarray(frame[:height, :width]))
                count += 1
        if not count:
            raise UserError(f"{path}: a video needs frames, got none")

    write_atomically(path, write)


def contact_sheet(frames: list[np.ndarray], columns: int = 6) -> Image.Image:
    """Frames [H, W, 3] uint8 side by side, row by row, as one picture."""
    height, width = frames[0].shape[:2]
    rows = -(-len(frames) // columns)
    sheet = Image.new("RGB", (min(columns, len(frames)) * width, rows * height), "white")
    for i, frame in enumerate(frames):
        sheet.paste(Image.fromarray(frame), (i % columns * width, i // columns * height))
    return sheet
