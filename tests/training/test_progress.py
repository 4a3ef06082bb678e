"""Runs that are stopped and go on, to the same bits as those that were not."""

import os
import signal
import subprocess
import sys
import time
import weakref
from dataclasses import replace
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import hvs
import train
from hvs.checkpoint import save_model
from hvs.training.history import History
from hvs.training.state import Checkpoints

from .states import same

pytestmark = pytest.mark.usefixtures("quick")


class KilledError(Exception):
    pass


@pytest.fixture
def killed(monkeypatch):
    """Train until a state is saved."""

    def run(settings, stage, step):
        save = Checkpoints.save

        def save_and_die(self, state):
            save(self, state)
            if (state["stage"], state["step"]) == (stage, step):
                raise KilledError

        with monkeypatch.context() as patch, pytest.raises(KilledError):
            patch.setattr(Checkpoints, "save", save_and_die)
            train.Trainer(settings).run()

    return run


def final(settings):
    """All that a run ends with, but for its seconds."""
    models = [hvs.load(settings.run / f"{name}.safetensors").state_dict() for name in ("best", "model")]
    return Checkpoints(settings.run).load() | {"seconds": 0.0}, models


STOPS = [("lifter", 2), ("lifter", 4), ("synthesis", 2)]
EVERYTHING = dict(image_loss="adaptive", average=0.9, batch_size=4, most_at_once=2, momentum=0.9, amsgrad=True)


# An encoder that stays as it is has no moments in a state.
PLAIN = dict(encoder_rate=0.0)


@pytest.mark.parametrize(("stops", "changes"), [(STOPS, PLAIN), (STOPS[2:], EVERYTHING)], ids=["plain", "everything"])
def test_a_resumed_run_ends_with_the_same_bits(settings, killed, stops, changes):
    settings = replace(settings, synthesis=replace(settings.synthesis, **changes))
    train.Trainer(settings).run()
    whole = final(settings)
    assert {"model", "synthesis", "validation"} <= set(whole[0]["parts"])
    for stop in stops:
        interrupted = replace(settings, run=settings.run.with_name("-".join(map(str, stop))), resume="auto")
        killed(interrupted, *stop)
        train.Trainer(interrupted).run()
        assert same(whole, final(interrupted))


def test_a_state_is_not_kept_in_memory_once_it_is_restored(settings):
    train.Trainer(replace(settings, stages=("lifter",))).run()
    progress = train.Trainer(replace(settings, stages=("lifter",), resume="auto")).progress
    kept = weakref.ref(progress._state["parts"]["model"]["lifter.head.weight"])
    assert progress.restore("synthesis", {}) == 0 and kept() is not None
    assert progress.restore("lifter", {}) == 4 and kept() is None


def test_a_resumed_run_logs_every_step_once(settings, killed):
    """Also what was logged after the last state, and what an earlier stage logged of the same steps."""
    settings = replace(settings, synthesis=replace(settings.synthesis, log_every=1, steps=5))
    settings = replace(settings, resume="auto", checkpoint_every=2)
    killed(settings, "synthesis", 4)
    last = settings.run / "checkpoints/synthesis-0000004.pt"
    last.write_bytes(last.read_bytes()[:1000])
    with pytest.warns(UserWarning, match="resuming from synthesis-0000002.pt"):
        train.Trainer(settings).run()

    def steps(stage, tag):
        return [
            event.step for event in EventAccumulator(str(settings.run / "tensorboard" / stage)).Reload().Scalars(tag)
        ]

    assert steps("synthesis", "losses/pixel") == [1, 2, 3, 4, 5]
    assert steps("synthesis", "validation/psnr_foreground") == [2, 4, 5]
    assert steps("lifter", "losses/pose") == [1, 2, 3, 4]
    history = [(entry["stage"], entry["step"]) for entry in History(settings.run).read() if "losses" in entry]
    assert history == [("lifter", step) for step in range(1, 5)] + [("synthesis", step) for step in range(1, 6)]


def test_without_resume_a_run_begins_and_the_one_before_is_kept(settings):
    settings = replace(settings, stages=("lifter",))
    for number in range(3):
        if number:
            with pytest.warns(UserWarning, match=f"held a run, now renamed to run-{number} "):
                train.Trainer(settings).run()
        else:
            train.Trainer(settings).run()
    names = ["run", "run-1", "run-2"]
    assert all((settings.run.with_name(name) / "model.safetensors").exists() for name in names)
    assert not settings.run.with_name("run-3").exists()


@pytest.mark.parametrize("resume", ["never", "auto"])
def test_a_run_killed_before_its_first_state_leaves_no_log_in_the_next(settings, monkeypatch, resume):
    """Of its synthesis, in one of the lifter alone."""

    def die(*_):
        raise KilledError

    lifter = settings.run.with_name("lifter.safetensors")
    save_model(lifter, hvs.HumanViewSynthesis(settings.model))
    synthesis = replace(settings, synthesis=replace(settings.synthesis, lifter_weights=lifter, log_every=1))
    with monkeypatch.context() as patch, pytest.raises(KilledError):
        patch.setattr(Checkpoints, "save", die)
        train.Trainer(synthesis).run()
    settings = replace(settings, stages=("lifter",), resume=resume)
    train.Trainer(settings).run()
    entries = list(History(settings.run).read())
    assert {entry["stage"] for entry in entries} == {"lifter"} and entries[0]["step"] == 1
    assert len(list(settings.run.glob("tensorboard/*/*"))) == 1
    assert not list(settings.run.glob("pictures/*"))


def test_what_a_run_begins_from_is_not_renamed(settings, command):
    train.Trainer(replace(settings, stages=("lifter",))).run()
    model = settings.run / "model.safetensors"
    code, error = command("--start-from", str(model))
    wanted = "model.safetensors: is in the folder of the run, which would be renamed; use another --run"
    assert code == 2 and wanted in error
    assert model.exists()


def test_a_broken_or_foreign_state_is_refused(settings, command):
    settings.run.mkdir()
    (settings.run / "training.pt").touch()
    code, error = command("--resume")
    assert code == 2 and "training.pt: is from an earlier release" in error
    (settings.run / "training.pt").unlink()
    file = settings.run / "checkpoints/lifter-0000002.pt"
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(b"PK\x03\x04 broken")
    code, error = command("--resume")
    assert code == 2 and "none of the 1 states can be read" in error and "lifter-0000002.pt" in error
    file.unlink()
    other = replace(settings, stages=("lifter",), model=replace(settings.model, base_channels=4))
    train.Trainer(other).train()
    code, error = command("--resume")
    assert code == 2 and "holds a run of a model with other settings" in error


def test_a_state_of_other_losses_is_refused(settings, command, killed):
    killed(settings, "synthesis", 2)
    code, error = command("--resume", "--synthesis.average", "0.9")
    assert code == 2 and "the last state has no average" in error
    code, error = command("--resume", "--synthesis.image-loss", "adversarial", "--synthesis.average", "0")
    assert code == 2 and "the last state does not fit the losses" in error
    assert "(it minimised pixel, and now it would be pixel, matching, adversarial)" in error
    code, error = command("--resume", "--synthesis.encoder-rate", "0")
    assert code == 2 and "the last state does not fit the synthesis" in error
    code, error = command("--resume", "--synthesis.amsgrad")
    assert code == 2 and "the last state does not fit the synthesis" in error and "amsgrad: got True" in error


def test_a_lifter_is_not_trained_again_under_its_synthesis(settings, command, killed):
    """That would delete the states of the synthesis."""
    killed(settings, "synthesis", 4)
    before = Checkpoints(settings.run).files()
    code, error = command("--resume", "--stages", "lifter")
    assert code == 2 and "stages: got only the lifter, but " in error and "/run has gone on to the synthesis" in error
    assert Checkpoints(settings.run).files() == before and not (settings.run / "model.safetensors").exists()


def start(settings):
    """A training in a process group of its own, once it is in its last stage."""
    root = Path(train.__file__).parent
    fixed = ["--run", settings.run, "--data.root", settings.data.root, "--device", "cpu", "--data.workers", "2"]
    fixed += ["--lifter.steps", "1", "--synthesis.steps", "100000"]
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.quick", "train.py", "tiny", *map(str, fixed)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        cwd=root,
        env=os.environ | {"PYTHONPATH": str(root)},
        # A shell that runs the tests in the background would have them ignore it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    while not list(settings.run.glob("checkpoints/synthesis-*.pt")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    return process


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_a_signal_finishes_the_step_and_says_how_to_go_on(settings, number):
    """It comes to the readers beside the main process, too, as from a terminal or a scheduler."""
    process = start(settings)
    os.killpg(process.pid, number)
    said, error = process.communicate()
    assert process.returncode == 0 and "Traceback" not in error
    assert "stopped or running" in (settings.run / "report.html").read_text()
    (line,) = [line for line in said.splitlines() if "stopped" in line]
    step = Checkpoints(settings.run).load()["step"]
    where = f"after step {step} of 100000 of the stage 'synthesis'"
    assert line == f"stopped {where}; the same command with --resume continues"
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)


def test_a_disk_that_is_too_small_is_found_before_the_training(settings, command, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 100 * 2**20}))
    code, error = command()
    (line,) = [line for line in error.splitlines() if not line.startswith("note: LPIPS needs")]
    assert code == 2 and "run: 100 MiB are free, and the run will write up to " in line
    assert not list(settings.run.rglob("*.pt"))


@pytest.fixture
def small_disk(tmp_path):
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=200m", "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True).returncode:
        pytest.skip("needs the right to mount a disk")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("left", [0, 15], ids="{} MiB left".format)
def test_a_disk_that_fills_up_leaves_the_last_state(settings, small_disk, command, monkeypatch, left):
    """Whether or not there is room for the log and the best model, of 9 MiB, but not for a state, of 27."""
    save = Checkpoints.save

    def save_and_fill(self, state):
        save(self, state)
        if (state["stage"], state["step"]) == ("synthesis", 2):
            with open(small_disk / "other", "wb", buffering=0) as file, pytest.raises(OSError, match="No space"):
                while True:
                    file.write(bytes(100_000))
            os.truncate(small_disk / "other", (small_disk / "other").stat().st_size - left * 2**20)

    arguments = [
        "--run",
        str(small_disk / "run"),
        "--keep",
        "1",
        "--checkpoint-every",
        "2",
        "--synthesis.log-every",
        "1",
    ]
    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "save", save_and_fill)
        code, error = command(*arguments)
    (line,) = [line for line in error.splitlines() if "error" in line or "Traceback" in line]
    assert code == 2 and "No space left on device" in line
    assert line.endswith("checkpoints/synthesis-0000002.pt is the last state, --resume continues from it")
    assert ("synthesis-0000004.pt: cannot be written (No space left on device)" in line) == bool(left)
    assert [path.name for path in (small_disk / "run/checkpoints").iterdir()] == ["synthesis-0000002.pt"]
    (small_disk / "other").unlink()
    code, error = command(*arguments, "--resume")
    assert code == 0 and (small_disk / "run/model.safetensors").exists()
