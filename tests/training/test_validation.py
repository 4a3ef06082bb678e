"""The best model so far."""

import json
from dataclasses import replace
from functools import partial

import pytest
import torch

import hvs
from hvs import distribute
from hvs.checkpoint import read_extra
from hvs.data.stores import write_store
from hvs.presets import PRESETS
from hvs.runtime import UserError
from hvs.training import validation as module
from hvs.training.capture import Capture
from hvs.training.validation import Validation, make_validation

MODEL = PRESETS["tiny"].model


@pytest.fixture
def make(settings, tmp_path):
    """A validation on two pairs."""
    capture = Capture(settings, hvs.HumanViewSynthesis(MODEL))
    pairs = capture.examples(capture.pairs("val", "known"), 2)
    return partial(Validation, tmp_path / "best.safetensors", capture, pairs, 2)


def test_scores_leave_the_training_as_it_is(make, settings, tmp_path):
    model = hvs.HumanViewSynthesis(MODEL).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    random = torch.get_rng_state()
    validation = make()
    scores = validation(7, model)
    assert {"psnr_foreground", "mpjpe_mm"} <= set(scores) and model.training
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    extra = {"root": str(settings.data.root), "validation": scores, "step": 7}
    assert read_extra(tmp_path / "best.safetensors") == extra


@pytest.mark.parametrize(("name", "best"), [("psnr_foreground", 3), ("lpips", 2)])
def test_the_best_is_kept(make, tmp_path, monkeypatch, name, best):
    """The highest PSNR, or the lowest LPIPS; the first of two that are as good; also by one that goes on."""
    model = hvs.HumanViewSynthesis(MODEL)
    values = [0.5, 0.2, 0.7, 0.7, 0.2, 0.6]
    lpips = torch.nn.Identity() if name == "lpips" else None
    file = tmp_path / "best.safetensors"
    validation = make(lpips)
    for step, value in enumerate(values, start=1):
        monkeypatch.setattr(module, "evaluate", lambda *_, value=value: {name: value})
        state = json.loads(json.dumps(validation.state_dict()))
        validation = make(lpips)
        validation.load_state_dict(state)
        validation(step, model)
    assert read_extra(file)["step"] == best


@pytest.mark.parametrize("networks", [(None, torch.nn.Identity()), (torch.nn.Identity(), None)], ids=["found", "lost"])
def test_a_run_goes_on_with_a_score_that_the_best_has_too(make, tmp_path, monkeypatch, networks):
    """The weights of LPIPS may come and go between two parts of a run."""
    model, state = hvs.HumanViewSynthesis(MODEL), {}
    for step, (lpips, psnr) in enumerate(zip(networks, (20.0, 19.0), strict=True), start=1):
        scores = {"psnr_foreground": psnr} | ({"lpips": 0.5} if lpips else {})
        monkeypatch.setattr(module, "evaluate", lambda *_, scores=scores: scores)
        validation = make(lpips)
        validation.load_state_dict(state)
        validation(step, model)
        state = validation.state_dict()
    assert read_extra(tmp_path / "best.safetensors")["step"] == 1


def test_a_state_without_numbers_is_refused(make):
    with pytest.raises(ValueError, match="its best scores are no numbers"):
        make().load_state_dict({"psnr_foreground": "20"})


def test_a_score_that_is_no_number_is_never_better(make, tmp_path, monkeypatch):
    model = hvs.HumanViewSynthesis(MODEL)
    validation = make()
    for step, value in enumerate([float("nan"), 3.0, float("nan")]):
        monkeypatch.setattr(module, "evaluate", lambda *_, value=value: {"psnr_foreground": value})
        validation(step, model)
    assert read_extra(tmp_path / "best.safetensors")["step"] == 1


def test_without_pairs_there_is_none(tmp_path):
    validation = Validation(tmp_path / "best.safetensors", None, None, 2)
    assert validation(1, hvs.HumanViewSynthesis(MODEL)) == {} and not list(tmp_path.iterdir())


def test_a_capture_without_any_tells_nothing_with_a_warning(settings, capture):
    for entry in capture.entry["known"]:
        entry["val"] = []
    capture.write_splits()
    model = hvs.HumanViewSynthesis(settings.model)
    with pytest.warns(UserWarning, match="no best.safetensors, as there is nothing to select the best model by"):
        assert make_validation(settings, Capture(settings, model))(1, model) == {}


def test_processes_that_see_different_captures_are_told_so(settings, monkeypatch):
    monkeypatch.setattr(distribute, "gather", lambda own: [own, {"validation_pairs": None}])
    with pytest.raises(UserError, match="validation_pairs: is None in process 1, but 2 in process 0"):
        make_validation(settings, Capture(settings, hvs.HumanViewSynthesis(settings.model)))


def test_no_more_pairs_are_scored_at_once_than_a_gpu_can_take(settings, monkeypatch):
    sizes = []
    monkeypatch.setattr(module, "evaluate", lambda model, batches, _: sizes.extend(len(b["name"]) for b in batches))
    synthesis = replace(settings.synthesis, batch_size=8, most_at_once=3)
    settings = replace(settings, synthesis=synthesis, data=replace(settings.data, validation_pairs=8))
    model = hvs.HumanViewSynthesis(settings.model)
    make_validation(settings, Capture(settings, model))(1, model)
    assert sizes == [3, 3, 2]


@pytest.mark.parametrize("processes", [1, 2])
def test_frames_that_are_broken_are_told_once(settings, capture, capsys, monkeypatch, processes):
    monkeypatch.setattr(distribute, "world", lambda: processes)
    monkeypatch.setattr(distribute, "gather", lambda own: [own] * processes)
    write_store(capture.databases() / "Images/00.lmdb", ((frame, b"no picture") for frame in capture.frames))
    settings.run.mkdir()
    model = hvs.HumanViewSynthesis(settings.model)
    settings = replace(settings, data=replace(settings.data, max_faults=0.5, validation_pairs=99))
    validation = make_validation(settings, Capture(settings, model))
    for step in (1, 2):
        assert validation(step, model)
        told = capsys.readouterr().err.splitlines()
        wanted = [f"Images/00.lmdb: frame {frame}: " for frame in (4, 5)] if step == 1 else []
        assert [name in line for line, name in zip(told, wanted, strict=True)] == [True] * len(wanted)


def test_too_many_that_are_broken_end_the_validation_alone(settings, capture):
    write_store(capture.databases() / "Images/00.lmdb", ((frame, b"no picture") for frame in capture.frames))
    settings.run.mkdir()
    model = hvs.HumanViewSynthesis(settings.model)
    settings = replace(settings, data=replace(settings.data, validation_pairs=99))
    validation = make_validation(settings, Capture(settings, model))
    with pytest.warns(UserWarning, match="no more validation: .* more than 1 broken files"):
        assert validation(1, model) == {}
    assert validation(2, model) == {} and not (settings.run / "best.safetensors").exists()


def test_only_the_first_process_scores(make, tmp_path, monkeypatch):
    monkeypatch.setattr(distribute, "is_first", lambda: False)
    assert make()(1, hvs.HumanViewSynthesis(MODEL)) == {} and not (tmp_path / "best.safetensors").exists()
