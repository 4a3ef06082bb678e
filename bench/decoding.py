"""`python -m bench.decoding`: pictures per second that a loader's worker decodes, against a full decode with Pillow.

Both read the same JPEGs, crop the same window and resize it to the size that training asks for. They take turns,
picture by picture, in one thread. The frames are those of the sample at 1920×1080, as they are and with sensor noise,
which makes up most of the bytes of a real JPEG; or those of a capture of your own.
"""

import io
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

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
# Standard deviation of the noise, in values of 0 to 255, and the quality of the noisy JPEGs.
NOISE, QUALITY = 6.0, 90
# Below this the two have not decoded the same picture, and their times mean nothing.
LEAST_PSNR = 35.0


@dataclass(frozen=True)
class Settings:
    """
    Attributes:
        root: folder of a capture; by default the sample, made at full HD if needed.
        resolutions: sides of the cropped picture, in pixels.
        pictures: number of pictures to time.
        json: also write the rows to this file.
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


def decode(data: bytes, box: Box, resolution: int) -> Tensor:
    """Decode, crop and resize as training does."""
    return crop_image(Picture(data, ""), box, resolution)


def add_noise(data: bytes, seed: int) -> bytes:
    """The JPEG with noise like that of a camera's sensor."""
    pixels = np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(np.float32)
    pixels += NOISE * np.random.default_rng(seed).standard_normal(pixels.shape, dtype=np.float32)
    file = io.BytesIO()
    Image.fromarray(pixels.round().clip(0, 255).astype(np.uint8)).save(file, "JPEG", quality=QUALITY)
    return file.getvalue()


def measure(dataset: PairDataset, resolution: int, pictures: int, noisy: bool) -> dict[str, float]:
    """One row: pictures per second with each decoder, from medians over the pictures."""
    pillows: list[float] = []
    ours: list[float] = []
    views: list[float] = []
    sizes = []
    chosen = np.linspace(0, len(dataset) - 1, pictures).round().astype(int)
    for item in chosen.tolist():
        sequence, frame, (view, _) = dataset.index.locate(item)
        data = sequence.encoded(IMAGES, view, frame)[0]
        if noisy:
            data = add_noise(data, item)
        sizes.append(len(data))
        picture = Picture(data, "")
        keypoints, found = sequence.keypoints(view, frame)
        box = crop_box(keypoints, found, picture.width, picture.height, sequence.layout.crop_side)
        if box is None:
            continue
        box = align(box, reduction_for(box, resolution))
        whole = _timed(partial(with_pillow, data, box, resolution), pillows)
        reduced = _timed(partial(decode, data, box, resolution), ours)
        if not noisy:
            _timed(partial(load_view, sequence, frame, view, resolution, "centre"), views)
        error = (whole - reduced).square().mean()
        if error > 10 ** (-LEAST_PSNR / 10):
            raise SystemExit(f"{sequence.folder}, view {view}, frame {frame}: the two decode to different pictures")
    pillow, our, view = (1 / float(np.median(values or np.nan)) for values in (pillows, ours, views))
    return {
        "resolution": resolution,
        "kilobytes": float(np.mean(sizes)) / 1000,
        "pillow_per_s": pillow,
        "hvs_per_s": our,
        "ratio": our / pillow,
        "views_per_s": view,
    }


def _timed(work: Callable[[], Any], seconds: list[float]) -> Any:
    started = time.perf_counter()
    result = work()
    seconds.append(time.perf_counter() - started)
    return result


def main(settings: tyro.conf.OmitArgPrefixes[Settings]) -> None:
    """Print a table of the pictures per second of one worker."""
    torch.set_num_threads(1)
    root = settings.root
    if root is None:
        from hvs.data.sample import SampleSettings, make_sample

        size = dict(height=HEIGHT, width=HEIGHT * 16 // 9)
        root = make_sample(settings=SampleSettings(subjects=2, takes=1, frames=6, views=4, **size))
    rows = []
    print(f"{'side':>6s}{'JPEG':>10s}{'Pillow':>12s}{'hvs':>12s}{'ratio':>8s}{'with mask and labels':>24s}")
    # A capture of your own has its own noise.
    for noisy, resolution in product((False,) if settings.root else (False, True), settings.resolutions):
        dataset = PairDataset(root, "train", "all", resolution, resolution)
        measure(dataset, resolution, 3, noisy)
        row = measure(dataset, resolution, settings.pictures, noisy)
        rows.append(row)
        views = "-" if noisy else f"{row['views_per_s']:.0f}/s"
        print(
            f"{resolution:6d}{row['kilobytes']:7.0f} kB{row['pillow_per_s']:10.0f}/s{row['hvs_per_s']:10.0f}/s"
            f"{row['ratio']:8.2f}{views:>24s}"
        )
    if settings.json:
        settings.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    tyro.cli(main, prog="python -m bench.decoding")
