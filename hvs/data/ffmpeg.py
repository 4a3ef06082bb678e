"""Reading and writing videos frame by frame, with imageio-ffmpeg's ffmpeg: none is ever held in memory as a whole."""

import re
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np

from .stores import DataError

# A file that only claims to be a video must not make ffmpeg open others, or the network.
SAFE_INPUT = ("-format_whitelist", "mov,matroska,avi", "-protocol_whitelist", "file", "-max_pixels", str(2**27))
# A small file may declare any number of frames, for each of which ffmpeg would make an entry in a table at once.
SAFE_INPUT += ("-max_alloc", str(2**28))
HEADER_BYTES = 32
# Nearly lossless, in full colour resolution, which also allows odd widths and heights. A single thread gives the same
# bytes everywhere.
FAITHFUL = ("-crf", "3", "-pix_fmt", "yuv444p", "-threads", "1", "-fflags", "+bitexact")
# Which of its objects a message of ffmpeg is from.
ADDRESSED = re.compile(r"\[[^][\n]* @ 0x[0-9a-f]+\] *")
# Opens in every player.
FOR_PLAYERS = ("-crf", "10", "-pix_fmt", "yuv420p", "-movflags", "+faststart")


def count_frames(path: Path) -> int:
    """The number of frames in a video, counted without decoding them.

    Raises:
        DataError: it is missing or not a video, or has no frames.
    """
    command = [*_open(path), "-c", "copy", "-f", "null", "-progress", "-", "-nostats", "-"]
    with _ffmpeg(command, path, stdout=subprocess.PIPE) as process:
        lines = process.stdout.read().decode(errors="replace").splitlines()
    counts = [line.removeprefix("frame=").strip() for line in lines if line.startswith("frame=")]
    if not counts or not counts[-1].isdigit() or int(counts[-1]) == 0:
        raise DataError(f"{path}: a video without frames")
    return int(counts[-1])


def read_frames(path: Path, first: int = 0) -> Iterator[np.ndarray]:
    """The frames of a video, [H, W, 3] uint8, as they were recorded: none is dropped or repeated to keep a rate.

    Args:
        path: of the video.
        first: the number of the frame to begin with.

    Raises:
        DataError: it is missing or not a video, or is damaged, which may show only after some frames.
    """
    # Portable pixmaps, because each states its size.
    command = [*_open(path), "-vf", f"select=gte(n\\,{int(first)})", "-fps_mode", "passthrough"]
    command += ["-f", "image2pipe", "-c:v", "ppm", "-pix_fmt", "rgb24", "-"]
    number = first
    with _ffmpeg(command, path, stdout=subprocess.PIPE) as process:
        while (frame := _read_pixmap(process.stdout, path)) is not None:
            yield frame
            number += 1
    # ffmpeg leaves out what it cannot decode, and all later frames would be another's.
    if number < (count := count_frames(path)):
        raise DataError(f"{path}: a damaged video, {number} of its {count} frames can be decoded")


def write_frames(
    path: Path, frames: Iterable[np.ndarray], fps: str, coding: tuple[str, ...] = FAITHFUL, name: Path | None = None
) -> None:
    """Write frames [H, W, 3] uint8 as an H.264 video of high quality; its folder is made too.

    Args:
        path: of the video.
        frames: at least one, all of the same size.
        fps: as ffmpeg takes it, "50" or "30000/1001".
        coding: ffmpeg's options for the quality and pixel format.
        name: of the video in errors; the path by default.

    Raises:
        DataError: ffmpeg failed, for instance on a full disk; an incomplete file may be left.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    frames = iter(frames)
    first = next(frames)
    height, width = first.shape[:2]
    command = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", fps, "-i", "-"]
    command += ["-c:v", "libx264", *coding, "-f", "mp4", f"file:{path}"]
    with _ffmpeg(command, name or path, stdin=subprocess.PIPE) as process:
        process.stdin.write(first.tobytes())
        for frame in frames:
            process.stdin.write(frame.tobytes())


def _open(path: Path) -> list[str]:
    if not path.is_file():
        raise DataError(f"{path}: no such video")
    return [*SAFE_INPUT, "-i", f"file:{path}", "-map", "0:v:0"]


@contextmanager
def _ffmpeg(arguments: list[str], path: Path, **pipes: int) -> Iterator[subprocess.Popen]:
    """A running ffmpeg, ended with the block; if ffmpeg itself fails, a DataError names the file."""
    import imageio_ffmpeg

    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-hide_banner", "-loglevel", "error", "-y"]
    # A file, because a pipe for its messages could fill up while nobody reads it.
    with tempfile.TemporaryFile() as complaints:
        options = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL} | pipes
        process = subprocess.Popen([*command, *arguments], stderr=complaints, **options)
        try:
            yield process
            if process.stdin:
                process.stdin.close()
            code = process.wait()
        except BrokenPipeError:
            code = process.wait()
        finally:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                _close(pipe)
        complaints.seek(0)
        lines = ADDRESSED.sub("", complaints.read().decode(errors="replace")).split("\n")
    if code:
        reason = next((line.strip() for line in lines if line.strip()), f"exit code {code}")
        raise DataError(f"{path}: ffmpeg cannot work with this video ({reason:.120})")


def _close(pipe) -> None:
    if pipe:
        with suppress(BrokenPipeError):
            pipe.close()


def _read_pixmap(stream, path: Path) -> np.ndarray | None:
    if not (kind := stream.readline(HEADER_BYTES)):
        return None
    width, _, height = stream.readline(HEADER_BYTES).strip().partition(b" ")
    depth = stream.readline(HEADER_BYTES)
    if kind != b"P6\n" or depth != b"255\n" or not (width.isdigit() and height.isdigit()):
        raise DataError(f"{path}: ffmpeg returned something other than a picture")
    data = stream.read(3 * int(width) * int(height))
    if len(data) < 3 * int(width) * int(height):
        raise DataError(f"{path}: the video breaks off in the middle of a frame")
    return np.frombuffer(data, np.uint8).reshape(int(height), int(width), 3)
