"""`python -m bench.decoding`: how many pictures one worker of a loader decodes, beside a whole decode with Pillow.

Both read the same JPEGs, crop the same window of them and bring it to the size that training asks for; they take turns,
picture by picture, in one thread. Frames of the sample at 1920×1080, or of a capture of your own.
"""

import io
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro
from PIL import Image
from torch import Tensor

from hvs.data import PairDataset
from hvs.data.datasets import load_view
from hvs.data.decoding import Picture
from hvs.data.layouts import IMAGES
from hvs.data.transforms import Box, align, crop_box, crop_image, reduction_for

HEIGHT = 1080
# Below this the two do not show the same picture, and their times are worth nothing.
LEAST_PSNR = 35.0


@dataclass(frozen=True)
class Settings:
    """
    Attributes:
        root: folder of a capture; the sample, made at full HD if needed, by default.
        resolutions: sides of the cropped picture, in pixels.
        pictures: how many are timed.
        json: file to write the rows to as well.
    """

    root: Path | None = None
    resolutions: tuple[int, ...] = (256, 512)
    pictures: int = 60
    json: Path | None = None


def with_pillow(data: bytes, box: Box, resolution: int) -> Tensor:
    """Decode the whole picture, then crop and resize it."""
    left, top, side = box
    image = Image.open(io.BytesIO(data)).convert("RGB")
    image = image.resize((resolution, resolution), Image.Resampling.BILINEAR, box=(left, top, left + side, top + side))
    return torch.from_numpy(np.array(image)).movedim(-1, 0).float() / 255


def measure(dataset: PairDataset, resolution: int, pictures: int) -> dict[str, float]:
    """One row: pictures per second of each way, medians over pictures."""
    seconds: dict[str, list[float]] = {"pillow": [], "ours": [], "view": []}
    chosen = np.linspace(0, len(dataset) - 1, pictures).round().astype(int)
    for item in chosen.tolist():
        sequence, frame, (view, _) = dataset.index.locate(item)
        data = sequence.encoded(IMAGES, view, frame)[0]
        picture = Picture(data, "")
        keypoints, found = sequence.keypoints(view, frame)
        box = crop_box(keypoints, found, picture.width, picture.height, sequence.layout.crop_side)
        if box is None:
            continue
        box = align(box, reduction_for(box, resolution))
        pillow = _timed(lambda: with_pillow(data, box, resolution), seconds["pillow"])  # noqa: B023
        ours = _timed(lambda: crop_image(Picture(data, ""), box, resolution), seconds["ours"])  # noqa: B023
        _timed(lambda: load_view(sequence, frame, view, resolution, "centre"), seconds["view"])  # noqa: B023
        error = (pillow - ours).square().mean()
        if error > 10 ** (-LEAST_PSNR / 10):
            raise SystemExit(f"{sequence.folder}, view {view}, frame {frame}: the two decode to different pictures")
    pillow, ours, view = (1 / float(np.median(values)) for values in seconds.values())
    return {
        "resolution": resolution,
        "pillow_per_s": pillow,
        "ours_per_s": ours,
        "ratio": ours / pillow,
        "views_per_s": view,
    }


def _timed(work: Callable[[], Tensor], seconds: list[float]) -> Tensor:
    started = time.perf_counter()
    result = work()
    seconds.append(time.perf_counter() - started)
    return result


def main(settings: tyro.conf.OmitArgPrefixes[Settings]) -> None:
    """Print a table of pictures per second of one worker."""
    torch.set_num_threads(1)
    root = settings.root
    if root is None:
        from hvs.data.sample import SampleSettings, make_sample

        size = dict(height=HEIGHT, width=HEIGHT * 16 // 9)
        root = make_sample(settings=SampleSettings(subjects=2, takes=1, frames=6, views=4, **size))
    rows = []
    print(f"{'side':>6s}{'Pillow':>14s}{'hvs':>14s}{'ratio':>8s}{'with mask and labels':>24s}")
    for resolution in settings.resolutions:
        dataset = PairDataset(root, "train", "all", resolution, resolution)
        measure(dataset, resolution, 3)
        row = measure(dataset, resolution, settings.pictures)
        rows.append(row)
        print(
            f"{resolution:6d}{row['pillow_per_s']:12.0f}/s{row['ours_per_s']:12.0f}/s{row['ratio']:8.2f}"
            f"{row['views_per_s']:22.0f}/s"
        )
    if settings.json:
        settings.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    tyro.cli(main)
