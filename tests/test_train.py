import json
import os
import pickle
import shutil
from dataclasses import replace

import lmdb
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file
from torchvision.models import alexnet, vgg16

import hvs
import train
from hvs.checkpoint import save_model
from hvs.data.stores import Store, write_store
from hvs.presets import PRESETS
from hvs.training.history import History
from hvs.training.state import Checkpoints
from tests.quick import quick_trainings
from tests.training.states import same


@pytest.fixture
def command(command):
    with quick_trainings():
        yield command


def test_a_run_trains_evaluates_and_leaves_its_results(settings, capsys):
    train.Trainer(settings).run()
    scores = json.loads((settings.run / "metrics.json").read_text())
    wanted = {
        "psnr",
        "ssim",
        "psnr_foreground",
        "psnr_foreground_background_baseline",
        "psnr_foreground_copy_baseline",
        "mpjpe_mm",
        "seconds",
    }
    assert wanted <= set(scores) and wanted - {"seconds"} <= set(scores["held_out_subjects"])
    assert all(isinstance(scores[name], float) and scores[name] == scores[name] for name in wanted)
    with Image.open(settings.run / "preview.png") as preview:
        assert preview.width > preview.height / 3
    model = hvs.load(settings.run / "model.safetensors")
    assert model.settings == settings.model
    printed = capsys.readouterr().out
    assert "preview.png" in printed and "model.safetensors" in printed and "held-out subjects" in printed
    assert len(list(settings.run.glob("tensorboard/*/*"))) == 2
    assert [path.name for path in sorted(settings.run.glob("pictures/*"))] == ["0000000.png", "0000004.png"]
    page = (settings.run / "report.html").read_text()
    assert "held-out subjects" in page and "Stage lifter" in page and "Stage synthesis" in page


def test_losses_fall(settings):
    """The same pairs again and again must become known."""
    synthesis = replace(settings.synthesis, steps=60, log_every=1)
    settings = replace(settings, synthesis=synthesis, checkpoint_every=60)
    train.Trainer(settings).train_synthesis()
    seen = [entry["losses"]["pixel"] for entry in History(settings.run).read() if "losses" in entry]
    assert len(seen) == 60
    assert sum(seen[-5:]) < 0.7 * sum(seen[:5])
    # From the start pictures are about as bright as pictures.
    assert max(seen) < 1


def test_no_argument_means_the_sample(monkeypatch):
    assert train.parse_settings([]) == PRESETS["sample"]
    assert train.parse_settings(["--seed", "3"]) == replace(PRESETS["sample"], seed=3)
    assert train.parse_settings(["sample-512"]).model.target_resolution == 512
    for resume in (["--resume"], ["--resume", "auto"], ["--resume=auto"], ["--resume", "--seed", "0"]):
        assert train.parse_settings(resume) == replace(PRESETS["sample"], resume="auto")


class _Call:
    def __reduce__(self):
        return (os.mkdir, ("executed",))


def _fault_missing_root(capture):
    for path in sorted(capture.root.rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    capture.root.rmdir()
    return "no such folder"


def _fault_empty_lmdb(capture):
    (capture.databases() / "Images/00.lmdb/data.mdb").write_bytes(b"")
    return "Images/00.lmdb"


def _fault_truncated_lmdb(capture):
    file = capture.databases() / "Images/00.lmdb/data.mdb"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    return "Images/00.lmdb"


def _fault_hostile_label(capture):
    items = [(frame, pickle.dumps(_Call(), protocol=4)) for frame in capture.frames]
    write_store(capture.databases() / "Poses/2D/BODY_135/01.lmdb", items)
    return "BODY_135/01.lmdb: frame "


def _fault_frame_without_image(capture):
    store = capture.databases() / "Images/01.lmdb"
    with lmdb.open(str(store)) as environment, environment.begin(write=True) as transaction:
        for frame in capture.frames:
            assert transaction.delete(pickle.dumps(frame, protocol=4))
    return "Images/01.lmdb: no frame "


def _fault_broken_image(capture):
    store = capture.databases() / "Images/02.lmdb"
    items = [(frame, b"not a picture") for frame in capture.frames]
    write_store(store, items)
    return "Images/02.lmdb: frame "


def _fault_missing_camera(capture):
    capture.write_cameras(change=lambda entries: entries.pop("01"))
    return "cameras.json: view 01 is missing"


FAULTS = [value for name, value in sorted(globals().items()) if name.startswith("_fault_")]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda f: f.__name__.removeprefix("_fault_"))
def test_bad_captures_end_with_one_line_and_exit_code_2(capture, command, fault):
    wanted = fault(capture)
    code, error = command()
    lines = [line for line in error.splitlines() if line.startswith("error:")]
    assert code == 2
    assert len(lines) == 1 and wanted in lines[0]
    assert "Traceback" not in error
    assert not os.path.exists("executed")


def test_a_broken_frame_is_passed_over_and_told(capture, command):
    """One picture of twenty-four: the training goes on, and says which."""
    store = capture.databases() / "Images/02.lmdb"
    items = [(frame, Store(store)[frame]) for frame in capture.frames]
    write_store(store, [(frame, data[: len(data) // 2] if frame == 1 else data) for frame, data in items])
    # At most three at once: in four passes of two.
    code, error = command("--synthesis.batch-size", "8", "--synthesis.most-at-once", "3")
    assert code == 0
    told = [line for line in error.splitlines() if "note: skipped" in line]
    assert len(told) == 1 and "Images/02.lmdb: frame 1: a damaged picture" in told[0]


def test_bad_settings_end_with_one_line(command, tmp_path):
    code, error = command("--device", "warp9")
    assert (
        code == 2 and error.startswith("error: device: got 'warp9', which is not available") and error.count("\n") == 1
    )
    code, error = command("--data.root", str(tmp_path))
    assert code == 2 and "no sequences here" in error
    (tmp_path / "file").touch()
    code, error = command("--run", str(tmp_path / "file" / "run"))
    assert code == 2 and "not a folder that can be written to" in error


@pytest.mark.parametrize("weights", ["perceptual", "encoder", "lifter"])
def test_missing_weights_end_with_one_line(command, weights):
    code, error = command("--lifter.steps", "1", f"--synthesis.{weights}-weights", "no/where.pth")
    lines = [line for line in error.splitlines() if line.startswith("error:")]
    assert code == 2 and len(lines) == 1 and "no/where.pth" in lines[0] and "Traceback" not in error
    # Before anything is trained.
    assert "lifter:" not in error


def test_a_broken_classifier_in_torchs_cache_ends_before_anything_is_trained(command, settings, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    path = tmp_path / "hub/checkpoints/alexnet-owt-7be5be79.pth"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"no weights at all")
    code, error = command()
    assert code == 2 and "alexnet-owt-7be5be79.pth: not torchvision's" in error and "Traceback" not in error
    assert not Checkpoints.found(settings.run)


@pytest.fixture
def earlier(settings):
    """A run that is in the folder; whatever comes instead of a new one, it stays there."""
    state = settings.run / "checkpoints/lifter-0000002.pt"
    state.parent.mkdir(parents=True)
    state.touch()
    yield
    assert [path.name for path in settings.run.parent.glob("run*")] == ["run"]
    assert [path.name for path in state.parent.iterdir()] == [state.name]


@pytest.mark.parametrize("weights", ["perceptual", "encoder", "lifter"])
def test_broken_weights_end_a_run_before_it_begins(earlier, command, tmp_path, weights):
    path = tmp_path / "weights.pth"
    path.write_bytes(b"no weights at all")
    code, error = command(f"--synthesis.{weights}-weights", str(path))
    lines = [line for line in error.splitlines() if line.startswith("error:")]
    assert code == 2 and len(lines) == 1 and "weights.pth: " in lines[0] and "Traceback" not in error


def test_a_broken_discriminator_ends_a_run_before_it_begins(earlier, command, settings, tmp_path):
    discriminator, path = hvs.models.Discriminator(), tmp_path / "start.safetensors"
    save_model(path, hvs.HumanViewSynthesis(settings.model), discriminator=discriminator)
    with safe_open(path, "pt") as file:
        entries, metadata = {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118
    del entries["discriminator.head.weight"]
    save_file(entries, path, metadata)
    code, error = command("--start-from", str(path), "--synthesis.image-loss", "adaptive")
    assert code == 2 and "start.safetensors: missing discriminator.head.weight" in error


def test_a_disk_that_is_too_small_ends_a_run_before_it_begins(earlier, command):
    code, error = command("--keep", "1000000000")
    assert code == 2 and "make room, or use another --run or a --keep below 1000000000" in error


@quick_trainings()
@pytest.mark.parametrize("side", [32, 16])
def test_the_smallest_pictures_can_be_compared_by_classifiers(settings, tmp_path, monkeypatch, side):
    """With weights in torch's cache, even where a scale of the pyramid or the whole picture is too small for them."""
    folder = tmp_path / "hub/checkpoints"
    folder.mkdir(parents=True)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    for name, network in (("vgg16-397923af", vgg16), ("alexnet-owt-7be5be79", alexnet)):
        with torch.device("meta"):
            state = network(weights=None).features.state_dict()
        made = {f"features.{name}": 0.01 * torch.randn(value.shape) for name, value in state.items()}
        torch.save(made, folder / f"{name}.pth")
    model = replace(settings.model, rendering_resolution=16, target_resolution=side)
    settings = replace(settings, model=model, lifter=replace(settings.lifter, steps=1))
    train.Trainer(replace(settings, synthesis=replace(settings.synthesis, steps=2))).run()
    entries = [entry for entry in History(settings.run).read() if entry["stage"] == "synthesis"]
    assert all(entry["losses"]["lpips"] > 0 for entry in entries if "losses" in entry)
    assert ("lpips" in json.loads((settings.run / "metrics.json").read_text())) == (side == 32)
    # The best model by LPIPS, or by PSNR where there is none.
    assert (settings.run / "best.safetensors").exists()


def _without_masks(capture):
    shutil.rmtree(capture.databases() / "Masks")


def _without_pairs(capture):
    for name in capture.names:
        capture.write_cameras(name, lambda entries: [entries.pop(view) for view in ("01", "02")])
    capture.entry["views"] = ["00"]
    capture.write_splits()


def _without_capture(capture):
    shutil.rmtree(capture.root)


@pytest.mark.parametrize("fault", [_without_masks, _without_pairs, _without_capture], ids=lambda f: f.__name__[1:])
def test_what_cannot_be_trained_on_ends_a_run_before_it_begins(earlier, command, capture, fault):
    fault(capture)
    code, error = command()
    assert code == 2 and "Traceback" not in error and "lifter:" not in error
    assert {"masks": "Masks", "pairs": "two views", "capture": "no such folder"}[fault.__name__[9:]] in error


def test_model_settings_in_place_of_a_checkpoints_are_told(settings, command):
    path = settings.run.parent / "start.safetensors"
    save_model(path, hvs.HumanViewSynthesis(settings.model))
    arguments = ["--start-from", str(path), "--stages", "lifter", "--lifter.steps", "1"]
    code, error = command(*arguments, "--model.d-embedding", "128")
    assert code == 0
    assert "note: --start-from brings its own model settings, in place of --model.d-embedding\n" in error


@pytest.mark.parametrize("resume", [(), ("--resume",)], ids=str)
def test_a_synthesis_needs_a_lifter(settings, command, resume):
    settings.run.mkdir()
    (settings.run / "model.safetensors").touch()
    code, error = command("--stages", "synthesis", *resume)
    assert code == 2 and "stages: got only the synthesis, but its lifter has not been trained" in error
    # A run that was there still is.
    assert (settings.run / "model.safetensors").exists()


def test_the_lifter_can_come_from_a_checkpoint(settings, command):
    """In place of its stage; at a rate of 0 it stays as it came."""
    torch.manual_seed(7)
    source = hvs.HumanViewSynthesis(settings.model)
    path = settings.run.parent / "lifter.safetensors"
    save_model(path, source)
    synthesis = replace(settings.synthesis, lifter_weights=path, lifter_rate=0.0, steps=2)
    trainer = train.Trainer(replace(settings, synthesis=synthesis))
    trainer.run()
    # Without dropout, which would shake the poses that the decoder learns from.
    assert trainer.model.decoder.training and not trainer.model.lifter.training
    found = hvs.load(settings.run / "model.safetensors").lifter.state_dict()
    assert all(torch.equal(found[name], value) for name, value in source.lifter.state_dict().items())
    code, error = command("--synthesis.lifter-weights", str(path), "--stages", "lifter")
    assert code == 2 and "stages: got only the lifter" in error
    code, error = command("--synthesis.lifter-weights", str(path), "--model.d-embedding", "96")
    assert code == 2 and "lifter.safetensors: a lifter of 117 joints and width 64, but the model's" in error


@quick_trainings()
def test_saving_memory_changes_no_bit(settings):
    """Weights, moments and so gradients are the same, and so is what is logged."""
    synthesis = replace(settings.synthesis, steps=2, log_every=1)
    settings = replace(settings, synthesis=synthesis)
    found = []
    for sparing in (False, True):
        chosen = replace(settings, run=settings.run / str(sparing), synthesis=replace(synthesis, save_memory=sparing))
        trainer = train.Trainer(chosen)
        trainer.train_synthesis()
        assert trainer.model.decoder.to_rgb.recompute is sparing
        losses = [entry["losses"] for entry in History(chosen.run).read() if "losses" in entry]
        assert len(losses) == 2
        found.append((losses, Checkpoints(chosen.run).load() | {"seconds": 0.0}))
    assert same(*found)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ("tiny --synthesis.steps 0", "synthesis: steps: got 0, wanted more than 0"),
        ("tiny --model.alpha -1", "model: alpha: got -1.0, wanted a positive number"),
        ("tiny --stpes 3", "Unrecognized options: --stpes"),
    ],
)
def test_a_wrong_setting_is_named_with_the_help_that_explains_it(capsys, arguments, named):
    with pytest.raises(SystemExit) as stop:
        train.parse_settings(arguments.split())
    said = " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert stop.value.code == 2 and named in said and "train.py tiny --help" in said and "dummy" not in said


def test_help_explains_every_setting_and_is_printed_by_one_process(monkeypatch, capsys):
    for rank in ("0", "1"):
        monkeypatch.setenv("RANK", rank)
        with pytest.raises(SystemExit) as stop:
            train.parse_settings(["sample", "--help"])
        said = capsys.readouterr().out
        assert stop.value.code == 0 and bool(said) == (rank == "0")
        if said:
            text = " ".join(said.replace("│", " ").split())
            assert "--synthesis.save-memory" in text and "keep only their input" in text
