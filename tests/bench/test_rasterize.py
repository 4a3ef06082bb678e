from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from bench import rasterize
from bench.dense import dense_rasterize
from bench.rasterize import Calls, Scene
from bench.scenes import cloud, limbs, with_features


def test_wrong_results_are_not_timed():
    scene = Scene(height=32, width=32)
    inputs = scene.inputs("cpu")
    gradient = torch.randn(1, 16, 32, 32)
    right = Calls.of(rasterize.hvs.rasterize, inputs, gradient)
    assert rasterize.check(right, inputs, gradient, torch.float32) < 5e-5
    wrong = Calls.of(lambda **v: 1.001 * rasterize.hvs.rasterize(**v), inputs, gradient)
    with pytest.raises(rasterize.WrongResultsError, match="wrong results are not timed"):
        rasterize.check(wrong, inputs, gradient, torch.float32)


@pytest.mark.parametrize("at", range(5))
def test_gradients_that_are_no_numbers_are_wrong(at):
    scene = Scene(height=32, width=32)
    inputs, gradient = scene.inputs("cpu"), torch.ones(1, 16, 32, 32)
    right = Calls.of(rasterize.hvs.rasterize, inputs, gradient)
    found = [torch.full_like(v, torch.nan) if i == at else v for i, v in enumerate(right.backward())]
    with pytest.raises(rasterize.WrongResultsError, match="nan"):
        rasterize.check(Calls(right.forward, lambda: tuple(found), right.both), inputs, gradient, torch.float32)


def test_what_others_cannot_does_not_stop_ours(monkeypatch, capsys):
    def broken(**inputs):
        raise RuntimeError("no compiler")

    monkeypatch.setattr(rasterize, "dense_rasterize", broken)
    rows = rasterize.measure_scene(Scene(height=32, width=32), "cpu", seconds=0.01, compiled=False)
    assert len(rows) == 3 and all("dense_ms" not in row and row["ms"] > 0 for row in rows)
    assert "b1/32x32/n108/c16/float32: dense is left out: no compiler" in capsys.readouterr().err


def test_too_little_memory_for_others_does_not_stop_ours(monkeypatch, capsys):
    """As when all that is compared is captured, and its memory kept, before the first of it is timed."""
    calls = []

    def hungry(**inputs):
        calls.append(inputs)
        if len(calls) > 5:
            raise torch.OutOfMemoryError("no memory")
        return dense_rasterize(**inputs)

    monkeypatch.setattr(rasterize, "dense_rasterize", hungry)
    rows = rasterize.measure_scene(Scene(height=32, width=32), "cpu", seconds=0.01, compiled=False)
    assert [row["name"].partition("/")[0] for row in rows] == ["forward", "backward", "both"]
    assert all("dense_ms" not in row and row["ms"] > 0 and row["error"] < 5e-5 for row in rows)
    assert "b1/32x32/n108/c16/float32: dense left out: no memory\n" in capsys.readouterr().err


def test_passes_of_the_compiled_formulation_can_be_repeated(monkeypatch):
    """In another thread too, as the backward pass on a GPU."""
    compile_with = torch.compile
    monkeypatch.setattr(rasterize.torch, "compile", lambda function: compile_with(function, backend="aot_eager"))
    scene = Scene(height=32, width=32)
    # In float32 the textbook formulation loses digits, each time others.
    inputs = {name: v.detach().double().requires_grad_(v.requires_grad) for name, v in scene.inputs("cpu").items()}
    gradient = torch.ones(1, 16, 32, 32, dtype=torch.float64)
    calls = rasterize._prepared(scene, rasterize._others(scene, "cpu", True, inputs, gradient))
    with ThreadPoolExecutor(1) as pool:
        found = pool.submit(calls["compiled"].backward).result()
    for a, b in zip(found, calls["dense"].backward(), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("arrays", [10, 20, 30, 50])
def test_what_there_is_no_memory_for_is_named(monkeypatch, capsys, arrays):
    scene = Scene(height=32, width=32)
    timed = {10: set(), 20: {"compiled"}, 30: {"dense"}, 50: {"dense", "compiled"}}[arrays]
    monkeypatch.setattr(rasterize, "MOST_MIB_ON_CPU", arrays * scene.pairs_mib())
    assert rasterize._others(scene, "cpu", True, {}, torch.zeros(())).keys() == timed
    printed = capsys.readouterr().err
    for name in ("dense", "compiled"):
        assert (f"b1/32x32/n108/c16/float32: {name} is left out: 0.01 GiB are not free\n" in printed) == (
            name not in timed
        )


def test_the_dense_formulation_computes_the_same():
    inputs = {name: value.detach().double() for name, value in Scene(height=24, width=24).inputs("cpu").items()}
    torch.testing.assert_close(dense_rasterize(**inputs), rasterize.hvs.rasterize(**inputs, backend="reference"))


def test_names_say_what_is_rendered():
    assert str(Scene(batch=32, dtype=torch.bfloat16)) == "b32/256x256/n108/c16/bfloat16"
    inputs = Scene(batch=2, height=16, width=24, count=5, channels=3).inputs("cpu")
    assert inputs["means"].shape == (2, 5, 3) and inputs["rays"].shape == (2, 16, 24, 3)
    assert inputs["features"].shape == (2, 5, 3) and list(inputs)[-2:] == ["features", "background"]


def test_bodies_fill_the_image():
    inputs = with_features(limbs(3, 64, 64), 1, torch.float32, "cpu")
    inputs = {name: value.detach() for name, value in inputs.items()} | dict(features=torch.ones(3, 108, 1))
    seen = rasterize.hvs.rasterize(**inputs | dict(background=torch.zeros(3, 1)))[:, 0] > 0.5
    assert (seen.flatten(1).float().mean(1) > 0.015).all()
    assert (seen.any(2).float().mean(1) > 0.5).all()


@pytest.mark.parametrize("count", [10, 1000])
def test_clouds_cover_the_same_area(count):
    geometry = cloud(1, count, 64, 64)
    inputs = dict(geometry, features=torch.ones(1, count, 1), background=torch.zeros(1, 1))
    assert 0.5 < (rasterize.hvs.rasterize(**inputs) > 0.5).float().mean() <= 1
