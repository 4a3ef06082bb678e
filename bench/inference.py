"""`python -m bench.inference`: frames per second at which a model's pictures are drawn, and written as a film.

    python -m bench.inference                  the full-size model at 512×512, on a CPU the sample's at 64 and 128
    python -m bench.inference --json FILE      for the record

Needs torch, torchvision, triton, numpy and pillow; without imageio-ffmpeg there is no film. Weights are random: a
picture costs the same whatever they are. Poses are the sample's.

`draw` is the time of one call, from poses and cameras to pictures, on a GPU including Python's part. `film` makes a
video as infer.py does: it draws, fetches and encodes. It is compared with encoding the same frames from memory, which
no film can beat.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hvs.geometry import Camera
from hvs.inference.film import Shot, film
from hvs.inference.settings import Drawing
from hvs.inference.studio import Studio
from hvs.models import HumanViewSynthesis, ModelSettings

from . import scenes
from .record import Record
from .timing import measure

BATCHES = (1, 8)
# How often the film and the encoder alone take turns.
ROUNDS = 3


class Scene:
    """A model and a person to draw, who moves from frame to frame in front of a ring of cameras."""

    def __init__(self, settings: ModelSettings, device: str, batch_size: int, compiled: bool, frames: int) -> None:
        torch.manual_seed(0)
        drawing = Drawing(device=device, batch_size=batch_size, compile=compiled)
        self.studio = Studio(drawing, HumanViewSynthesis(settings))
        self.size = settings.target_resolution
        limbs = len(self.studio.model.skeleton.edges)
        self.appearance = torch.randn(1, limbs, settings.appearance_features, device=device)
        self.points = scenes.bodies(frames).to(device)
        middle = torch.tensor([0.0, 0.0, scenes.DISTANCE], device=device)
        up = torch.tensor([0.0, -1.0, 0.0], device=device)
        K = scenes.intrinsics(self.size, self.size).to(device)
        self.cameras = Camera.orbit(middle, up, scenes.DISTANCE, frames, K, self.size, self.size)
        self.batch_size = batch_size

    def draw(self) -> torch.Tensor:
        part = slice(0, self.batch_size)
        return self.studio.draw(self.points[part], self.appearance, self.cameras[part])[1]

    def frames(self) -> Iterator[np.ndarray]:
        size = self.batch_size
        parts = (slice(i, i + size) for i in range(0, len(self.points), size))
        return film(self.studio, (Shot(self.points[part], self.cameras[part]) for part in parts), self.appearance)


def measure_drawing(settings: ModelSettings, device: str, compiled: bool, seconds: float) -> list[dict[str, Any]]:
    """A row for each batch size."""
    scenes = {size: Scene(settings, device, size, compiled, size) for size in BATCHES}
    calls: dict[str, Callable[[], object]] = {str(size): scene.draw for size, scene in scenes.items()}
    rows = []
    for name, timing in measure(calls, device, seconds).items():
        size = int(name)
        rows.append(
            dict(
                name=f"draw/b{size}/{settings.target_resolution}x{settings.target_resolution}",
                compiled=compiled,
                ms=timing.median,
                frames_per_s=1e3 * size / timing.median,
            )  # fmt: skip
        )
    return rows


def measure_film(settings: ModelSettings, device: str, compiled: bool, count: int) -> dict[str, Any]:
    """One row: a film of ``count`` frames, compared with encoding them from memory."""
    from hvs.video import write_video

    scene = Scene(settings, device, max(BATCHES), compiled, count)
    kept = list(scene.frames())
    with tempfile.TemporaryDirectory() as folder:
        times: dict[str, list[float]] = {"film": [], "encoder": []}
        for _ in range(ROUNDS):
            for name, frames in (("film", scene.frames()), ("encoder", iter(kept))):
                start = time.perf_counter()
                write_video(Path(folder) / f"{name}.mp4", frames)
                times[name].append(time.perf_counter() - start)
    film_s, encoder_s = (float(np.median(found)) for found in times.values())
    return dict(
        name=f"film/{count}/{settings.target_resolution}x{settings.target_resolution}", compiled=compiled,
        frames_per_s=count / film_s, encoder_frames_per_s=count / encoder_s, part_of_encoder_speed=encoder_s / film_s,
    )  # fmt: skip


def setups(device: str) -> list[tuple[ModelSettings, bool]]:
    if torch.device(device).type == "cuda":
        full = ModelSettings(target_resolution=512)
        return [(full, False), (full, True)]
    from hvs.presets import PRESETS

    sample = PRESETS["sample"].model
    larger = replace(sample, input_resolution=128, rendering_resolution=128, target_resolution=128)
    return [(sample, False), (larger, False)]


def has_ffmpeg() -> bool:
    try:
        import imageio_ffmpeg

        return bool(imageio_ffmpeg.get_ffmpeg_exe())
    except (ImportError, RuntimeError):
        return False


def add(record: Record, rows: list[dict[str, Any]]) -> None:
    for row in rows:
        print(show(row), flush=True)
    record.rows += rows


def how(compiled: bool) -> str:
    return "compiled" if compiled else "eager"


def show(row: dict[str, Any]) -> str:
    line = f"{row['name']:24} {how(row['compiled']):9} {row['frames_per_s']:8.1f} frames/s"
    if "ms" in row:
        return f"{line} {row['ms']:8.2f} ms a call"
    return f"{line}, {row['part_of_encoder_speed']:.0%} of the encoder's {row['encoder_frames_per_s']:.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--seconds", type=float, default=6.0, help="time to spend on each row")
    parser.add_argument(
        "--frames", type=int, default=None, help="frames of the film; by default 480 on a GPU, 48 on a CPU"
    )
    parser.add_argument("--json", type=Path, help="file to write the rows to")
    arguments = parser.parse_args()
    device = arguments.device
    count = arguments.frames or (480 if torch.device(device).type == "cuda" else 48)
    record = Record(device, arguments.json)
    with_film = has_ffmpeg()
    if not with_film:
        print("imageio-ffmpeg is not installed, or finds no ffmpeg: no film is measured", file=sys.stderr)
    for settings, compiled in setups(device):
        name = f"{settings.target_resolution}x{settings.target_resolution}, {how(compiled)}"
        with record.trying(f"draw, {name}"):
            add(record, measure_drawing(settings, device, compiled, arguments.seconds))
        if with_film:
            with record.trying(f"film, {name}"):
                add(record, [measure_film(settings, device, compiled, count)])
    record.close()


if __name__ == "__main__":
    main()
