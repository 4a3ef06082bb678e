import json
import sys
from dataclasses import replace

import pytest
import torch

from bench import inference
from hvs.presets import PRESETS

TINY = PRESETS["tiny"].model


@pytest.fixture
def tiny(monkeypatch):
    monkeypatch.setattr(inference, "setups", lambda device: [(TINY, False)])


def test_frames_are_drawn_of_people_who_move(tiny):
    scene = inference.Scene(TINY, "cpu", 2, False, 5)
    assert scene.draw().shape == (2, 3, 32, 32)
    frames = list(scene.frames())
    assert len(frames) == 5 and not (frames[0] == frames[3]).all()
    # The person is in the middle of every picture.
    pixels = scene.cameras.project(scene.points)
    middle = (pixels.amin(1) + pixels.amax(1)) / 2
    assert (middle - 15.5).abs().max() < 3
    assert (pixels.amax(1) - pixels.amin(1)).amax(-1).min() > 16


def test_rows_are_written(tiny, tmp_path, monkeypatch, capsys):
    file = tmp_path / "rows.json"
    arguments = ["--seconds", "0.1", "--frames", "4", "--json", str(file), "--device", "cpu"]
    monkeypatch.setattr(sys, "argv", ["bench.inference", *arguments])
    inference.main()
    found = json.loads(file.read_text())
    assert found["machine"]["torch"] == torch.__version__
    assert [row["name"] for row in found["rows"]] == ["draw/b1/32x32", "draw/b8/32x32", "film/4/32x32"]
    for row in found["rows"][:2]:
        size = 1 if "b1" in row["name"] else 8
        assert row["frames_per_s"] == pytest.approx(1e3 * size / row["ms"])
    film = found["rows"][2]
    assert film["part_of_encoder_speed"] == pytest.approx(film["frames_per_s"] / film["encoder_frames_per_s"])
    assert capsys.readouterr().out.count("frames/s") == 3


def test_without_ffmpeg_only_drawing_is_measured(tiny, monkeypatch, capsys):
    monkeypatch.setattr(inference, "has_ffmpeg", lambda: False)
    monkeypatch.setattr(sys, "argv", ["bench.inference", "--seconds", "0.1", "--device", "cpu"])
    inference.main()
    printed = capsys.readouterr()
    assert "film" not in printed.out and "imageio-ffmpeg is not installed" in printed.err


def test_a_film_that_fails_costs_no_other_row(tiny, tmp_path, monkeypatch, capsys):
    def fail(*_):
        raise OSError("no space")

    file = tmp_path / "rows.json"
    monkeypatch.setattr(inference, "measure_film", fail)
    monkeypatch.setattr(inference, "has_ffmpeg", lambda: True)
    monkeypatch.setattr(sys, "argv", ["bench.inference", "--seconds", "0.1", "--json", str(file), "--device", "cpu"])
    with pytest.raises(SystemExit, match="not timed: film, 32x32, eager"):
        inference.main()
    found = json.loads(file.read_text())
    assert [row["name"] for row in found["rows"]] == ["draw/b1/32x32", "draw/b8/32x32"]
    assert found["failed"] == {"film, 32x32, eager": "no space"}
    assert "film, 32x32, eager: no space\n" in capsys.readouterr().err


def test_a_gpu_draws_the_full_size():
    settings = [settings for settings, _ in inference.setups("cuda")]
    assert all((s.target_resolution, s.rendering_resolution, s.base_channels) == (512, 256, 64) for s in settings)
    assert [s.target_resolution for s, _ in inference.setups("cpu")] == [64, 128]
    assert replace(inference.setups("cpu")[1][0], **dict.fromkeys(SIDES, 64)) == PRESETS["sample"].model


SIDES = ("input_resolution", "rendering_resolution", "target_resolution")
