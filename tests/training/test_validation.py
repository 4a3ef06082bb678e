"""The best model so far."""

import json

import pytest
import torch

import hvs
from hvs.checkpoint import read_extra
from hvs.data import PairDataset, even_subset
from hvs.presets import PRESETS
from hvs.training import validation as module
from hvs.training.capture import Capture
from hvs.training.validation import Validation, make_validation

MODEL = PRESETS["tiny"].model


@pytest.fixture
def pairs(capture):
    return even_subset(PairDataset(capture.root, "val", "known", 32, 32, same_view=False), 2)


def test_scores_leave_the_training_as_it_is(pairs, tmp_path):
    model = hvs.HumanViewSynthesis(MODEL).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    random = torch.get_rng_state()
    validation = Validation(tmp_path / "best.safetensors", pairs, 2)
    scores = validation(7, model)
    assert {"psnr_foreground", "mpjpe_mm"} <= set(scores) and model.training
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert read_extra(tmp_path / "best.safetensors") == {"validation": scores, "step": 7}


@pytest.mark.parametrize(("name", "best"), [("psnr_foreground", 3), ("lpips", 2)])
def test_the_best_is_kept(pairs, tmp_path, monkeypatch, name, best):
    """The highest PSNR, or the lowest LPIPS; the first of two that are as good; also by one that goes on."""
    model = hvs.HumanViewSynthesis(MODEL)
    values = [0.5, 0.2, 0.7, 0.7, 0.2, 0.6]
    lpips = torch.nn.Identity() if name == "lpips" else None
    file = tmp_path / "best.safetensors"
    validation = Validation(file, pairs, 2, lpips)
    for step, value in enumerate(values, start=1):
        monkeypatch.setattr(module, "evaluate", lambda *_, value=value: {name: value})
        state = json.loads(json.dumps(validation.state_dict()))
        validation = Validation(file, pairs, 2, lpips)
        validation.load_state_dict(state)
        validation(step, model)
    assert read_extra(file)["step"] == best


def test_a_score_that_is_no_number_is_never_better(pairs, tmp_path, monkeypatch):
    model = hvs.HumanViewSynthesis(MODEL)
    validation = Validation(tmp_path / "best.safetensors", pairs, 2)
    for step, value in enumerate([float("nan"), 3.0, float("nan")]):
        monkeypatch.setattr(module, "evaluate", lambda *_, value=value: {"psnr_foreground": value})
        validation(step, model)
    assert read_extra(tmp_path / "best.safetensors")["step"] == 1


def test_without_pairs_there_is_none(tmp_path):
    validation = Validation(tmp_path / "best.safetensors", [], 2)
    assert validation(1, hvs.HumanViewSynthesis(MODEL)) == {} and not list(tmp_path.iterdir())


def test_a_capture_without_any_tells_nothing_with_a_warning(settings, capture):
    for entry in capture.entry["known"]:
        entry["val"] = []
    capture.write_splits()
    model = hvs.HumanViewSynthesis(settings.model)
    with pytest.warns(UserWarning, match="no best.safetensors, as there is nothing to select the best model by"):
        assert make_validation(settings, Capture(settings, model))(1, model) == {}
