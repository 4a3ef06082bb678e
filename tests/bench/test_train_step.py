"""`python -m bench.train_step`, with a tiny model."""

import json
import sys

import pytest
import torch

from bench import train_step
from hvs.models import ModelSettings

SIZES = dict(d_embedding=128, base_channels=8, encoder_depth=18, input_resolution=32, rendering_resolution=32)


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.setattr(train_step, "model_settings", lambda side: ModelSettings(**SIZES, target_resolution=side))

    def run(*arguments):
        options = ["--device", "cpu", "--resolution", "32", "64", "--batch-size", "2"]
        options += ["--seconds", "0.01"]
        monkeypatch.setattr(sys, "argv", ["train_step", *options, *map(str, arguments)])
        train_step.main()

    return run


def test_table_and_json(bench, tmp_path, capsys):
    file = tmp_path / "result.json"
    bench("--json", file)
    results = json.loads(file.read_text())
    assert set(results["machine"]) >= {"device", "torch", "commit", "date"}
    assert [row["name"] for row in results["rows"]] == [f"train_step/b2/{side}x{side}/fp32" for side in (32, 64)]
    printed = capsys.readouterr().out
    for row in results["rows"]:
        assert row["name"] in printed
        assert row["images_per_s"] == pytest.approx(2000 / row["ms"])
        assert row["speedup"] == pytest.approx(row["baseline_ms"] / row["ms"])
        assert row["speedup"] == pytest.approx(row["images_per_s"] / row["baseline_images_per_s"])
        for name in ("", "baseline_"):
            assert row[f"{name}peak_mib"] > row[f"{name}state_mib"] > 0
            assert set(row[f"{name}shares"]) == set(train_step.PARTS)
            assert sum(row[f"{name}shares"].values()) == pytest.approx(1)
    small, large = results["rows"]
    assert small["peak_mib"] < large["peak_mib"] and small["baseline_peak_mib"] < large["baseline_peak_mib"]


def test_shares_that_fail_cost_no_row(bench, tmp_path, monkeypatch, capsys):
    """Nor do they stop the next size; what there is of a row is in the file by then."""
    file, seen = tmp_path / "result.json", []

    def fail(*_):
        seen.append(len(json.loads(file.read_text())["rows"]))
        raise RuntimeError("no compiler\nand more")

    monkeypatch.setattr(train_step, "measure_shares", fail)
    with pytest.raises(SystemExit, match="not timed: train_step/b2/32x32/fp32, train_step/b2/64x64/fp32"):
        bench("--no-baseline", "--json", file)
    results = json.loads(file.read_text())
    assert seen == [1, 2] and all(row["images_per_s"] > 0 for row in results["rows"])
    assert list(results["failed"].values()) == ["no compiler\nand more"] * 2
    assert "train_step/b2/32x32/fp32: no compiler\n" in capsys.readouterr().err


def test_shares_are_left_out_if_not_wanted(bench, tmp_path, capsys):
    file = tmp_path / "result.json"
    bench("--no-baseline", "--no-shares", "--json", file)
    assert all("shares" not in row and row["peak_mib"] > 0 for row in json.loads(file.read_text())["rows"])
    assert "shares" not in capsys.readouterr().out


def test_a_trace_can_be_read(bench, tmp_path):
    file = tmp_path / "trace.json"
    bench("--profile", file)
    names = {str(event.get("name")) for event in json.loads(file.read_text())["traceEvents"]}
    assert any("blend_tiled" in name for name in names) and any("adam" in name for name in names)


@pytest.mark.parametrize("baseline", [False, True])
def test_steps_train(bench, baseline):
    """What is timed is a training: every part's weights move, and the loss goes down."""
    step = train_step.Step(train_step.Setup("cpu", 32, 2, torch.float32), baseline)
    before = {name: value.clone() for name, value in step.model.named_parameters()}
    losses = [step()["pixel"].item() for _ in range(8)]
    assert min(losses[4:]) < losses[0]
    for part in ("lifter", "encoder", "decoder"):
        assert any(not torch.equal(before[n], v) for n, v in step.model.named_parameters() if n.startswith(part))


def test_parts_leave_no_gradients(bench):
    step = train_step.Step(train_step.Setup("cpu", 32, 2, torch.float32), baseline=False)
    step()
    for part in step.parts().values():
        part()
        assert all(parameter.grad is None for parameter in step.model.parameters())
