import sys

import imageio.v2 as imageio
import numpy as np
import pytest
import torch
from PIL import Image

import infer
from hvs import HumanViewSynthesis
from hvs.checkpoint import save_model
from hvs.config import PRESETS
from hvs.runtime import run_command


@pytest.fixture
def checkpoint(tmp_path, capture):
    torch.manual_seed(0)
    path = tmp_path / "runs" / "one" / "model.safetensors"
    path.parent.mkdir(parents=True)
    save_model(path, HumanViewSynthesis(PRESETS["tiny"].model), dict(root=str(capture.root)))
    return path


@pytest.fixture
def command(monkeypatch, capsys):
    def run(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["infer.py", "orbit", "--device", "cpu", *arguments])
        try:
            run_command(infer.main)
        except SystemExit as stop:
            return stop.code, capsys.readouterr().err
        return 0, capsys.readouterr().out

    return run


def test_orbit_makes_a_video_and_a_sheet_from_the_latest_run(checkpoint, command, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    code, printed = command("--frames", "7", "--fps", "12", "--batch-size", "3")
    assert code == 0 and "orbit.mp4" in printed and "view 00" in printed
    assert "bob" in printed  # who was never trained on
    with imageio.get_reader(checkpoint.parent / "orbit.mp4") as video:
        frames = [np.asarray(frame) for frame in video]
        assert video.get_meta_data()["fps"] == 12
    assert len(frames) == 7 and frames[0].shape == (256, 256, 3)
    assert any(np.abs(frames[0].astype(int) - frame).mean() > 1 for frame in frames[1:])
    with Image.open(checkpoint.parent / "orbit.png") as sheet:
        assert sheet.size == (6 * 256, 2 * 256)


def test_a_capture_without_others_shows_its_own(checkpoint, capture):
    capture.entry["unknown"] = []
    capture.write_splits()
    sequence, _, _ = infer.choose_image(capture.root, infer.hvs.load(checkpoint), infer.Orbit())
    assert sequence.name == capture.names[0]


def test_the_orbit_starts_where_the_image_was_taken(checkpoint, capture):
    model = infer.hvs.load(checkpoint)
    settings = infer.Orbit(elevation=0.0, frames=4)
    sequence, frame, view = infer.choose_image(capture.root, model, settings)
    person = infer.load_person(model, sequence, frame, view, torch.device("cpu"))
    points = person["points"][0]
    up = torch.tensor([0.0, -1.0, 0.0])
    ring = infer.cameras_around(points, person["camera_a"][0], up, settings, 64)
    eyes = ring.to_world(torch.zeros(4, 1, 3))[:, 0]
    centre = (points.amin(0) + points.amax(0)) / 2
    source = person["camera_a"].to_world(torch.zeros(1, 1, 3))[0, 0]
    flat = torch.tensor([1.0, 0.0, 1.0])
    assert torch.cosine_similarity((eyes[0] - centre) * flat, (source - centre) * flat, dim=0) > 0.999
    pixels = ring.project(points.expand(4, -1, -1))
    assert (pixels >= 0).all() and (pixels <= 63).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--sequence", "nobody"], "sequence: got 'nobody', wanted one of ann/Subsequences/0, bob/Subsequences/0"),
        (["--view", "77"], "view: got '77', wanted one of 00, 01, 02"),
        (["--frame", "99"], "frame 99"),
        (["--frames", "0"], "frames: got 0, wanted at least 1"),
        (["--elevation", "90"], "elevation: got 90.0"),
        (["--root", "no/where"], "no/where: no such folder"),
        (["--checkpoint", "no/where.safetensors"], "no/where.safetensors: no such file"),
        (["--device", "warp9"], "device: got 'warp9'"),
    ],
    ids=lambda v: v[0] if isinstance(v, list) else "",
)
def test_bad_arguments_end_with_one_line(checkpoint, command, monkeypatch, tmp_path, arguments, message):
    monkeypatch.chdir(tmp_path)
    code, error = command(*arguments)
    assert code == 2 and error.startswith("error: ") and message in error and error.count("\n") == 1
    assert not (checkpoint.parent / "orbit.mp4").exists()


def test_without_a_model_it_says_how_to_get_one(command, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    code, error = command()
    assert code == 2 and "no trained model yet; run python train.py" in error


def test_a_capture_of_another_skeleton_is_refused(human36m, tmp_path, command):
    path = tmp_path / "model.safetensors"
    save_model(path, HumanViewSynthesis(PRESETS["tiny"].model))
    code, error = command("--checkpoint", str(path))
    assert code == 2 and "give --root" in error
    code, error = command("--checkpoint", str(path), "--root", str(human36m.root))
    assert code == 2 and "is a human36m capture, but the model's skeleton is panoptic" in error
