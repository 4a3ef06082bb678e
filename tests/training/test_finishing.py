"""What a finished run leaves, and one that is stopped before its evaluation."""

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from hvs import HumanViewSynthesis, distribute
from hvs.checkpoint import load_discriminator, read_extra
from hvs.data.stores import Store, write_store
from hvs.models import Discriminator
from hvs.runtime import UserError
from hvs.training import finishing
from hvs.training.capture import Capture
from hvs.training.faults import Faults
from hvs.training.finishing import finish
from tests.captures import jpeg

pytestmark = pytest.mark.usefixtures("quick")


class StoppedError(Exception):
    pass


class Stop:
    asked, seconds = False, 12.0

    def leave(self, where):
        raise StoppedError(where)


@pytest.fixture
def run(settings):
    settings.run.mkdir()
    model = HumanViewSynthesis(settings.model)
    return SimpleNamespace(settings=settings, capture=Capture(settings, model), progress=Stop(), model=model)


def test_without_other_people_there_are_scores_of_the_known_alone(run, capture, capsys):
    capture.entry["unknown"] = []
    capture.write_splits()
    finish(**vars(run), discriminator=Discriminator())
    scores = json.loads((run.settings.run / "metrics.json").read_text())
    assert "psnr" in scores and "held_out_subjects" not in scores and scores["seconds"] == 12
    assert "held-out frames" in (said := capsys.readouterr().out) and "held-out subjects" not in said
    file = run.settings.run / "model.safetensors"
    assert read_extra(file) == {"root": str(capture.root), "metrics": scores}
    assert load_discriminator(file) is not None


def test_of_a_lifter_alone_the_poses_are_scored(run, capsys):
    """What an untrained decoder draws means nothing, but for one that came from a checkpoint."""
    run.settings = replace(run.settings, stages=("lifter",))
    finish(**vars(run))
    scores = json.loads((run.settings.run / "metrics.json").read_text())
    poses = {"mpjpe_mm", "n_mpjpe_mm", "p_mpjpe_mm"}
    assert set(scores) == poses | {"held_out_subjects", "seconds"} and set(scores["held_out_subjects"]) == poses
    assert "PSNR" not in (said := capsys.readouterr().out) and "MPJPE" in said
    assert not (run.settings.run / "preview.png").exists()
    run.settings = replace(run.settings, start_from=run.settings.run / "model.safetensors")
    finish(**vars(run))
    assert "psnr" in json.loads((run.settings.run / "metrics.json").read_text())


def test_without_frames_to_evaluate_there_is_a_model_all_the_same(run, capture):
    for group in ("known", "unknown"):
        for sequence in capture.entry[group]:
            sequence["test"] = []
    capture.write_splits()
    with pytest.warns(UserWarning, match="subjects are not evaluated: .*no frame of split 'test'"):
        finish(**vars(run))
    written = {path.name for path in run.settings.run.iterdir()}
    assert {"model.safetensors", "metrics.json"} <= written and "preview.png" not in written
    assert json.loads((run.settings.run / "metrics.json").read_text()) == {"seconds": 12}


@pytest.mark.parametrize("every", [1, 2])
def test_a_group_of_too_many_broken_files_is_left_out(run, capture, every):
    """Whether or not some of its pairs can be read; the scores of the others are kept."""
    store = capture.databases(capture.names[0]) / "Images/01.lmdb"
    items = [(frame, Store(store)[frame]) for frame in capture.frames]
    for view in ("00", "01", "02"):
        store = capture.databases(capture.names[0]) / f"Images/{view}.lmdb"
        write_store(store, [(frame, b"" if frame % every == 0 else data) for frame, data in items])
    run.settings = replace(run.settings, data=replace(run.settings.data, evaluation_pairs=99))
    run.capture = Capture(run.settings, run.model)
    with pytest.warns(UserWarning, match="^known subjects are not evaluated: .*/Images/0..lmdb: frame [67]: "):
        finish(**vars(run))
    scores = json.loads((run.settings.run / "metrics.json").read_text())
    assert set(scores) == {"held_out_subjects", "seconds"} and scores["held_out_subjects"]["psnr"] > 0


def test_what_another_process_cannot_read_is_told(run, monkeypatch, capsys):
    """One file of another process is told by the first one; too many end the group in all of them."""
    monkeypatch.setattr(distribute, "world", lambda: 2)
    monkeypatch.setattr(finishing, "score", lambda *_, **__: {"psnr": torch.ones(1)})
    monkeypatch.setattr(distribute, "gather", lambda own: [own, {"theirs"} if isinstance(own, set) else own])
    finish(**vars(run))
    assert capsys.readouterr().err.count("note: skipped theirs\n") == 1
    monkeypatch.setattr(distribute, "gather", lambda own: [own, UserError("too many") if own is None else own])
    with pytest.warns(UserWarning, match="^(un)?known subjects are not evaluated: too many$"):
        finish(**vars(run))
    assert set(json.loads((run.settings.run / "metrics.json").read_text())) == {"seconds"}


def test_an_evaluation_that_fails_leaves_the_model(run, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(finishing, "score", fail)
    with pytest.raises(RuntimeError):
        finish(**vars(run))
    assert [path.name for path in run.settings.run.iterdir()] == ["model.safetensors"]


def test_scores_that_are_no_numbers_are_null(run, monkeypatch):
    monkeypatch.setattr(finishing, "average", lambda parts: [*parts] and {"psnr": float("nan"), "ssim": 0.5})
    finish(**vars(run))
    scores = json.loads((run.settings.run / "metrics.json").read_text(), parse_constant=pytest.fail)
    assert scores["psnr"] is None and scores["held_out_subjects"] == {"psnr": None, "ssim": 0.5}


def test_no_more_pairs_are_scored_at_once_than_a_gpu_can_take(run, monkeypatch):
    sizes = []

    def score(model, batches, lpips, pictures):
        sizes.extend(len(batch["name"]) for batch in batches)
        return {"psnr": torch.ones(1)}

    monkeypatch.setattr(finishing, "score", score)
    synthesis = replace(run.settings.synthesis, batch_size=8, most_at_once=3)
    run.settings = replace(run.settings, synthesis=synthesis, data=replace(run.settings.data, evaluation_pairs=8))
    run.capture = Capture(run.settings, run.model)
    finish(**vars(run))
    assert sizes == [3, 3, 2] * 2


def test_the_bar_waits_for_the_scores(run, capture, capsys, monkeypatch):
    capture.entry["unknown"] = []
    capture.write_splits()

    def score(model, batches, lpips, pictures):
        for batch in batches:
            assert len(batch["name"]) == 1 and "1/1 [" not in capsys.readouterr().err
        return {"psnr": torch.ones(1)}

    monkeypatch.setattr(finishing, "score", score)
    run.settings = replace(run.settings, data=replace(run.settings.data, evaluation_pairs=1))
    finish(**vars(run))
    assert "1/1 [" in capsys.readouterr().err


def test_a_signal_is_heeded_before_the_evaluation(run):
    run.progress.asked = True
    with pytest.raises(StoppedError, match="after the training, before its evaluation"):
        finish(**vars(run))
    assert not list(run.settings.run.iterdir())


def test_a_signal_is_heeded_between_the_groups(run, monkeypatch):
    def score(*_, **__):
        run.progress.asked = True
        return {"psnr": torch.ones(1)}

    monkeypatch.setattr(finishing, "score", score)
    with pytest.raises(StoppedError, match="after the training, before its evaluation"):
        finish(**vars(run))
    assert [path.name for path in run.settings.run.iterdir()] == ["model.safetensors"]


def test_every_pair_is_scored_once(run, capture, monkeypatch):
    """In frame 6 one view of three sees nobody, and in frame 7 a file is broken."""
    items = [(frame, jpeg(capture.image(1, frame)) if frame != 7 else b"broken") for frame in capture.frames]
    write_store(capture.databases() / "Images/01.lmdb", items)
    away = {6: 1e4}
    capture.write_keypoints(capture.names[0], 2, lambda v, f: capture.keypoint_label(v, f) - away.get(f, 0))
    scored = []

    def score(model, batches, lpips, pictures):
        scored.append([name for batch in batches for name in batch["name"]])
        return {"psnr": torch.ones(len(scored[-1]))}

    monkeypatch.setattr(finishing, "score", score)
    run.capture.faults = Faults(capture.root, 1.0)
    run.settings = replace(run.settings, data=replace(run.settings.data, evaluation_pairs=96))
    finish(**vars(run))
    known, unknown = scored
    wanted = [(6, "00", "01"), (6, "01", "00"), (7, "00", "02"), (7, "02", "00")]
    assert known == [f"{capture.names[0]}/{frame}/{a}-{b}" for frame, a, b in wanted]
    assert len(unknown) == len(set(unknown)) > 0


def test_a_group_of_which_no_pair_can_be_used_is_not_evaluated(run, capture):
    for view in range(3):
        capture.write_keypoints(capture.names[0], view, lambda *which: capture.keypoint_label(*which) - 1e4)
    with pytest.warns(UserWarning, match="known subjects are not evaluated: .*: no pair of views in test can be used"):
        finish(**vars(run))
    scores = json.loads((run.settings.run / "metrics.json").read_text())
    assert "psnr" not in scores and scores["held_out_subjects"]["psnr"] > 0
