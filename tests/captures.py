"""Tiny captures in the prepared layouts, written by the project's own writer."""

import io
import json
import runpy
import signal
import sys
import zlib
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from hvs.data.layouts import LAYOUTS
from hvs.data.stores import pack_label, write_store
from hvs.geometry import Camera


def jpeg(pixels):
    file = io.BytesIO()
    Image.fromarray(np.asarray(pixels, dtype=np.uint8)).save(file, "JPEG", quality=95, subsampling=0)
    return file.getvalue()


def broken_profile():
    """A PNG with an empty colour profile behind its pixels, at which Pillow fails with an IndexError."""
    file = io.BytesIO()
    Image.new("L", (30, 20)).save(file, "PNG")
    data, chunk = file.getvalue(), b"iCCP"
    end = data.index(b"IEND") - 4
    return data[:end] + bytes(4) + chunk + zlib.crc32(chunk).to_bytes(4, "big") + data[end:]


def camera_entry(camera, swapped=False):
    size = [camera.width, camera.height]
    return {
        "R": camera.R.tolist(),
        "t": camera.t[:, None].tolist(),
        "K": camera.K.tolist(),
        "dist_coef": camera.distortion.tolist(),
        "resolution": size[::-1] if swapped else size,
    }


class Capture:
    """What a capture holds, and the means to write it again with a fault."""

    def __init__(self, root, layout="panoptic", names=("ann", "bob"), views=3, frames=8, size=(96, 64)):
        self.root, self.layout, self.frames, self.size = root, LAYOUTS[layout], list(range(frames)), size
        self.views = [f"{view:02d}" for view in range(views)]
        folder = {"panoptic": "Subsequences/0", "human36m": "Sequences/Walking"}[layout]
        self.names = [f"{name}/{folder}" for name in names]
        generator = torch.Generator().manual_seed(0)
        eyes = torch.randn(views, 3, generator=generator)
        eyes = 4 * eyes / eyes.norm(dim=1, keepdim=True)
        K = torch.tensor([[120.0, 0, size[0] / 2], [0, 115.0, size[1] / 2], [0, 0, 1]])
        distortion = torch.tensor([-0.1, 0.02, 1e-3, -1e-3, 0.0])
        up = torch.tensor([0.0, -1.0, 0.0])
        self.cameras = [Camera.look_at(eye, torch.zeros(3), up, K, size[1], size[0], distortion) for eye in eyes]
        self.world = 0.3 * torch.randn(frames, self.layout.label_joints, 3, generator=generator)
        self.entry = {
            "views": self.views,
            "stride": 1,
            "known": [{"sequence": self.names[0], "train": [[0, 3]], "val": [[4, 5]], "test": [[6, frames - 1]]}],
            "unknown": [{"sequence": n, "train": [], "val": [], "test": [[0, frames - 1]]} for n in self.names[1:]],
        }

    def write(self):
        self.root.mkdir(exist_ok=True)
        self.write_splits()
        for name in self.names:
            self.write_cameras(name)
            for view in range(len(self.views)):
                self.write_view(name, view)
            self.write_points(name)
        return self

    def databases(self, name=None):
        return self.root / (name or self.names[0]) / "Databases"

    def write_splits(self):
        (self.root / "splits.json").write_text(json.dumps(self.entry))

    def write_cameras(self, name=None, change=lambda entries: None, swapped=False):
        entries = {v: camera_entry(c, swapped) for v, c in zip(self.views, self.cameras, strict=True)}
        change(entries)
        file = self.root / (name or self.names[0]) / "cameras.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(entries))

    def image(self, view, frame):
        """Red rises with x, green with y, blue tells view and frame."""
        width, height = self.size
        y, x = np.mgrid[:height, :width]
        return np.stack((2 * x, 2 * y, np.full_like(x, 20 * view + 5 * frame)), -1)

    def mask(self):
        width, height = self.size
        mask = np.zeros((height, width, 3))
        mask[height // 4 : -height // 4, width // 4 : -width // 4] = 255
        return mask

    def keypoint_label(self, view, frame):
        pixels = self.cameras[view].project(self.world[frame])
        return self.with_confidence(pixels)

    def with_confidence(self, coordinates):
        if self.layout.with_confidence:
            coordinates = torch.cat((coordinates, torch.ones(len(coordinates), 1)), 1)
        return coordinates[..., None]

    def write_view(self, name, view, frames=None, keypoints=None):
        frames = self.frames if frames is None else frames
        folder, file = self.databases(name), f"{self.views[view]}.lmdb"
        write_store(folder / "Images" / file, ((f, jpeg(self.image(view, f))) for f in frames))
        write_store(folder / "Masks/SOLO" / file, ((f, jpeg(self.mask())) for f in frames))
        self.write_keypoints(name, view, keypoints or self.keypoint_label)

    def write_keypoints(self, name, view, label):
        items = ((f, pack_label(label(view, f))) for f in self.frames)
        write_store(self.databases(name) / self.layout.keypoints / f"{self.views[view]}.lmdb", items)

    def write_points(self, name):
        items = ((f, pack_label(self.with_confidence(self.world[f]))) for f in self.frames)
        write_store(self.databases(name) / self.layout.points, items)


@pytest.fixture
def capture(tmp_path):
    """A small Panoptic capture: one known subject with three views and eight frames, one unknown subject."""
    return Capture(tmp_path / "capture").write()


@pytest.fixture
def human36m(tmp_path):
    return Capture(tmp_path / "capture", "human36m", size=(50, 51)).write()


@pytest.fixture
def write_jpeg():
    return jpeg


@pytest.fixture
def settings(tmp_path, capture):
    """A training of seconds on that capture."""
    from hvs.presets import PRESETS

    tiny = PRESETS["tiny"]
    return replace(
        tiny,
        run=tmp_path / "run",
        device="cpu",
        data=replace(tiny.data, root=capture.root),
        lifter=replace(tiny.lifter, steps=4),
        synthesis=replace(tiny.synthesis, steps=4),
        checkpoint_every=2,
    )


@pytest.fixture(scope="module")
def quick():
    """For files whose trainings are not about what is learned."""
    from tests.quick import quick_trainings

    with quick_trainings():
        yield


@pytest.fixture
def command(monkeypatch, capfd, capture, tmp_path):
    """Run train.py's main with arguments; returns the exit code and what it printed to stderr."""

    import train
    from hvs.runtime import run_command

    def run(*arguments: str) -> tuple[int, str]:
        fixed = ["--run", str(tmp_path / "run"), "--data.root", str(capture.root), "--device", "cpu"]
        monkeypatch.setattr(sys, "argv", ["train.py", "tiny", *fixed, *arguments])
        try:
            run_command(train.main)
        except SystemExit as stop:
            return stop.code, capfd.readouterr().err
        return 0, capfd.readouterr().err

    return run


@pytest.fixture
def infer_command(monkeypatch, capsys, tmp_path):
    """Run infer.py's main in a folder of its own: the exit code, and what it printed, to stderr if it failed."""
    import infer
    from hvs.runtime import run_command

    monkeypatch.chdir(tmp_path)

    def run(mode: str, *arguments: object) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["infer.py", mode, "--device", "cpu", *map(str, arguments)])
        try:
            run_command(infer.main)
        except SystemExit as stop:
            return stop.code, capsys.readouterr().err
        return 0, capsys.readouterr().out

    return run


@pytest.fixture
def program(monkeypatch, capsys):
    """Run what follows `python` in this process, which has imported torch: the exit code, and what was printed."""

    def run(*words: object) -> tuple[int, str, str]:
        how, *arguments = map(str, words)
        monkeypatch.setattr(sys, "argv", arguments if how in ("-m", "-c") else [how, *arguments])
        code = 0
        try:
            if how == "-m":
                runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)
            elif how == "-c":
                exec(arguments[0], {"__name__": "__main__"})
            else:
                runpy.run_path(how, run_name="__main__")
        except SystemExit as stop:
            code = stop.code or 0
        return code, *capsys.readouterr()

    before = signal.getsignal(signal.SIGTERM)
    yield run
    # Programs that a signal ends take it for themselves.
    signal.signal(signal.SIGTERM, before)
