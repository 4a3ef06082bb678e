"""`python -m bench`, at a size that takes seconds."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from bench import __main__ as main
from bench.record import WrongResultsError

ROOT = Path(__file__).parents[2]
WANTED = {"name", "ms", "floor_ms", "ratio_to_floor", "dense_ms", "speedup_over_dense", "peak_mib", "dense_peak_mib"}


def bench(*arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "bench", "--device", "cpu", "--only", "b1/64x64", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT)


def test_table_json_and_plots(tmp_path):
    files = tmp_path / "result.json", tmp_path / "plots.png"
    found = bench("--seconds", "0.01", "--no-compile", "--json", str(files[0]), "--plots", str(files[1]))
    assert found.returncode == 0, found.stderr
    results = json.loads(files[0].read_text())
    assert set(results["machine"]) >= {"device", "torch", "triton", "commit", "date"}
    names = [row["name"] for row in results["rows"]]
    assert names == [f"{name}/b1/64x64/n108/c16/float32" for name in ("forward", "backward", "both")]
    for row in results["rows"]:
        assert set(row) >= WANTED
        assert row["ratio_to_floor"] == pytest.approx(row["ms"] / row["floor_ms"])
        assert row["speedup_over_dense"] == pytest.approx(row["dense_ms"] / row["ms"])
        assert 0 < row["peak_mib"] < row["dense_peak_mib"]
        assert row["name"] in found.stdout + found.stderr
    assert files[1].stat().st_size > 10_000


def test_what_fails_costs_no_other_row(tmp_path, monkeypatch, capsys):
    """Nor does a run that is cut short lose what it has measured."""
    file, seen = tmp_path / "result.json", []

    def measure_scene(scene, device, seconds, compiled):
        if file.exists():
            seen.append(len(json.loads(file.read_text())["rows"]))
        if scene.height == 128:
            raise torch.OutOfMemoryError("no memory")
        if scene.height == 512:
            raise WrongResultsError("wrong results are not timed: relative errors [1.0]")
        if scene.channels == 64:
            # Triton's own errors are of no common kind.
            raise KeyError("shared memory")
        return [
            dict(
                name=f"forward/{scene}", ms=1.0, ms_low=1.0, ms_high=1.0, floor_ms=1.0, ratio_to_floor=1.0, peak_mib=1.0
            )
        ]

    monkeypatch.setattr(main, "measure_scene", measure_scene)
    monkeypatch.setattr(sys, "argv", ["bench", "--device", "cpu", "--only", "b1/", "--json", str(file)])
    failed = "b1/128x128/n108/c16/float32, b1/512x512/n108/c16/float32, b1/256x256/n108/c64/float32"
    with pytest.raises(SystemExit, match=f"not timed: {failed}"):
        main.main()
    results = json.loads(file.read_text())
    reasons = ["no memory", "wrong results are not timed: relative errors [1.0]", "'shared memory'"]
    assert results["failed"] == dict(zip(failed.split(", "), reasons, strict=True))
    assert len(results["rows"]) == len(main.scenes("cpu")) - 2 - 3 and seen[:3] == [1, 2, 2]
    printed = capsys.readouterr().err
    assert "b1/128x128/n108/c16/float32: no memory\n" in printed and "c64/float32: 'shared memory'\n" in printed


def test_without_matplotlib_there_are_results(tmp_path, monkeypatch, capsys):
    files = tmp_path / "result.json", tmp_path / "plots.png"
    row = dict(name="both/b1/64x64/n108/c16/float32", ms=1.0)
    monkeypatch.setattr(main, "measure_scene", lambda *_, **options: [row])
    monkeypatch.setattr(main.importlib.util, "find_spec", lambda name: None)
    arguments = ["--device", "cpu", "--only", "b1/64x64", "--json", str(files[0]), "--plots", str(files[1])]
    monkeypatch.setattr(sys, "argv", ["bench", *arguments])
    main.main()
    assert json.loads(files[0].read_text())["rows"] == [row] and not files[1].exists()
    assert "--plots: matplotlib is not installed" in capsys.readouterr().err


def test_a_trace_can_be_read(tmp_path):
    file = tmp_path / "new" / "trace.json"
    assert bench("--profile", str(file)).returncode == 0
    assert any("blend_tiled" in str(event.get("name")) for event in json.loads(file.read_text())["traceEvents"])


def test_an_unknown_scene_is_named():
    found = bench("--only", "b7/")
    assert found.returncode == 1 and "--only: got 'b7/', wanted one of b1/256x256" in found.stderr
