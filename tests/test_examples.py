"""The scripts of examples/, run as a user does."""

import re
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from plyfile import PlyData

from hvs import HumanViewSynthesis
from hvs.checkpoint import save_model
from hvs.export import HARMONIC
from hvs.presets import PRESETS

FOLDER = Path(__file__).parents[1] / "examples"


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    def run(name: str, *arguments: object) -> tuple[str, Image.Image]:
        """What a script prints, and the picture that it is told to draw."""
        out = tmp_path / "drawn.png"
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments), str(out)])
        runpy.run_path(str(FOLDER / name), run_name="__main__")
        with Image.open(out) as picture:
            return capsys.readouterr().out, picture.convert("RGB")

    return run


def test_every_example_is_tested_and_short():
    tests = Path(__file__).read_text()
    scripts = sorted(FOLDER.glob("*.py"))
    assert len(scripts) == 3
    for script in scripts:
        text = script.read_text()
        assert f'"{script.name}"' in tests and f"python examples/{script.name}" in text
        assert len(text.splitlines()) <= 60


def test_rasterize_a_pose(run, tmp_path):
    printed, picture = run("rasterize_a_pose.py")
    assert "(3, 16, 256, 256)" in printed and picture.size == (3 * 256 + 2 * 4, 256)
    # Three people on an even background.
    assert len(picture.getcolors(1 << 16)) > 50 and picture.getpixel((0, 0)) == picture.getpixel((255, 255))
    vertices = PlyData.read(tmp_path / "drawn.ply")["vertex"]
    assert len(vertices) == 108
    # The Gaussians have the picture's colours: of a limb that is wide enough, its middle is a pixel of its own.
    widest = np.argsort(vertices["scale_2"])[-20:]
    colours = 0.5 + HARMONIC * np.stack([vertices[f"f_dc_{i}"][widest] for i in range(3)], 1)
    places = np.stack([vertices[axis][widest] for axis in "xyz"], 1)
    x, y = (360 * places[:, :2] / places[:, 2:] + 127.5).round().astype(int).T
    difference = abs(np.asarray(picture)[y, x] / 255 - colours).max(1)
    assert (difference < 0.05).sum() > 5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["rasterize_a_pose.py", "no/where/pose.png"], "No such file or directory: 'no/where/pose.png'"),
        (["rasterize_a_pose.py", "pose.xyz"], "pose.xyz: got the ending '.xyz', wanted .png"),
        (["novel_view.py", "no/where.safetensors"], "no/where.safetensors: no such file"),
        (["novel_view.py", "plain.safetensors"], "plain.safetensors: does not say which capture it was trained on"),
    ],
    ids=lambda v: v[0] if isinstance(v, list) else "",
)
def test_what_the_user_can_mend_is_one_line(monkeypatch, capsys, tmp_path, arguments, message):
    monkeypatch.chdir(tmp_path)
    save_model(tmp_path / "plain.safetensors", HumanViewSynthesis(PRESETS["tiny"].model))
    monkeypatch.setattr(sys, "argv", arguments)
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(str(FOLDER / arguments[0]), run_name="__main__")
    error = capsys.readouterr().err
    assert stop.value.code == 2 and error.startswith("error: ") and message in error and error.count("\n") == 1


def test_optimise_a_camera(run):
    printed, picture = run("optimise_a_camera.py")
    errors = [float(number) for number in re.findall(r"error (\S+)", printed)]
    off = [float(number) for number in re.findall(r"camera +(\S+) mm", printed)]
    assert len(errors) == 7 and errors[-1] < 1e-4 * errors[0]
    assert off[0] > 500 and off[-1] < 5
    assert picture.width > picture.height


def test_novel_view(run, capture, tmp_path):
    torch.manual_seed(0)
    path = tmp_path / "model.safetensors"
    save_model(path, HumanViewSynthesis(PRESETS["tiny"].model), dict(root=str(capture.root)))
    printed, picture = run("novel_view.py", path)
    (name,) = re.findall(r"pair +bob/Subsequences/0/(\S+)", printed)
    frame, views = name.split("/")
    assert int(frame) in capture.frames and len(set(views.split("-"))) == 2
    assert float(*re.findall(r"error +(\S+) of 1", printed)) < 1
    # Four pictures of 32 pixels, enlarged, under their captions.
    assert picture.width == 4 * 96 + 3 * 4
