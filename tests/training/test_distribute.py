"""Two processes train as one does, and what ends one of them is told once."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
import torch

from hvs import HumanViewSynthesis, distribute
from hvs.checkpoint import save_model
from hvs.data.stores import Store, write_store
from hvs.presets import PRESETS
from hvs.runtime import UserError

from . import processes

ROOT = Path(__file__).parents[2]
# Relative, of float64. Sums are taken in another order, and AdamW, which divides a gradient by its own size, lets their
# rounding grow a hundredfold in every step: 3e-15 in the first one and 5e-10 in the fourth.
TOLERANCE = 1e-7


def launch(*arguments: object) -> subprocess.CompletedProcess:
    """Two processes of a Python program, by torchrun."""
    return subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *map(str, arguments)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )


pytestmark = pytest.mark.usefixtures("quick")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    from tests.captures import Capture

    folder = tmp_path_factory.mktemp("distribute")
    Capture(folder / "capture").write()
    torch.manual_seed(0)
    # A lifter of another width than the preset's, whose groups are of two: its output jumps.
    model = HumanViewSynthesis(replace(PRESETS["tiny"].model, d_embedding=128))
    model.decoder.start_quiet()
    save_model(folder / "start.safetensors", model)
    return folder


@pytest.fixture(scope="module")
def found(folder):
    """What the trainings gave: of one process, and of each of two."""
    done = launch("-m", "tests.training.processes", folder)
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr and "warning" not in done.stderr, done.stderr
    together = [torch.load(folder / f"found.{rank}.pt") for rank in (0, 1)]
    return processes.train_all(folder), *together


@pytest.mark.parametrize("stage", ["lifter", "lifter by parts", "synthesis", "adversarial, in passes"])
def test_two_processes_train_as_one_does(found, stage):
    alone, first, second = (trainings[stage] for trainings in found)
    assert first["curve"] == second["curve"]
    assert len(first["curve"]) == len(alone["curve"]) >= 3
    for one, two in zip(alone["curve"], first["curve"], strict=True):
        assert list(one) == list(two) and two == pytest.approx(one, rel=TOLERANCE)
    for one, two, other in zip(alone["states"], first["states"], second["states"], strict=True):
        assert list(one) == list(two) == list(other)
        assert all(torch.equal(two[name], other[name]) for name in one)
        difference = sum((one[name].double() - two[name].double()).square().sum() for name in one)
        size = sum(value.double().square().sum() for value in one.values())
        assert (difference / size).sqrt() < TOLERANCE
    # What is drawn at random differs, or both would drop and augment alike.
    assert not torch.equal(first["random"], second["random"])


def test_only_one_process_writes_and_tells(folder, tmp_path):
    """From end to end, with a frame that cannot be read."""
    from tests.captures import Capture

    capture = Capture(tmp_path / "capture").write()
    store = capture.databases() / "Images/02.lmdb"
    items = [(frame, Store(store)[frame]) for frame in capture.frames]
    write_store(store, [(frame, data[: len(data) // 2] if frame == 1 else data) for frame, data in items])
    run = tmp_path / "run"
    done = launch(
        *("-m", "--", "tests.quick", "train.py", "tiny", "--run", run, "--data.root", capture.root, "--device", "cpu"),
        *("--lifter.steps", 4, "--synthesis.steps", 2, "--synthesis.batch-size", 8),
    )
    assert done.returncode == 0, done.stderr
    told = [line for line in done.stderr.splitlines() if "note: skipped" in line]
    assert len(told) == 1 and "Images/02.lmdb: frame 1: a damaged picture" in told[0]
    assert done.stdout.count("on novel views") == 1 and "Warning" not in done.stderr
    assert all(len(list((run / "tensorboard" / stage).iterdir())) == 1 for stage in ("lifter", "synthesis"))
    scores = json.loads((run / "metrics.json").read_text())
    assert all(value == value for name, value in scores.items() if name != "held_out_subjects")
    assert (run / "model.safetensors").exists() and (run / "preview.png").exists()
    assert not [path for path in run.iterdir() if path.name.startswith(".")]


def test_an_error_of_all_is_told_once(folder, tmp_path):
    fixed = ("--run", tmp_path / "run", "--device", "cpu", "--data.root", folder / "capture", "--lifter.steps", 1)
    done = launch("--", "train.py", "tiny", *fixed, "--synthesis.batch-size", 3)
    lines = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert done.returncode != 0
    assert lines == ["error: synthesis.batch_size: got 3, wanted a multiple of the 2 processes"]
    # Of torchrun itself.
    assert done.stderr.count("Traceback") == 1


def test_an_error_of_one_process_ends_the_other(tmp_path):
    """Where it fails, and where it is killed once torchrun has started both again."""
    program = tmp_path / "program.py"
    program.write_text(
        "import os, sys\n"
        "from hvs.runtime import UserError, run_command\n"
        "from hvs import distribute\n"
        "def main():\n"
        "    with distribute.one_voice():\n"
        "        distribute.start('cpu')\n"
        "        distribute.gather(0)\n"
        "        again = os.environ['TORCHELASTIC_RESTART_COUNT'] == '1'\n"
        "        if again and distribute.is_first():\n"
        "            print('again', file=sys.stderr, flush=True)\n"
        "        if not distribute.is_first():\n"
        "            if again:\n"
        "                os.kill(os.getpid(), 9)\n"
        "            raise UserError('the second has had enough')\n"
        "        while True:\n"
        "            distribute.gather(0)\n"
        "run_command(main)\n"
    )
    done = launch("--max-restarts", 1, program)
    said = [line for line in done.stderr.splitlines() if line.startswith(("error:", "again"))]
    assert done.returncode != 0 and len(said) == 3 and said[:2] == ["error: the second has had enough", "again"]
    assert said[2].startswith("error: process 0 lost the others")
    # Of torchrun itself.
    assert done.stderr.count("Traceback") == 1


def test_of_two_errors_one_is_told_before_the_other_process_ends(monkeypatch):
    ends = []
    monkeypatch.setattr(distribute, "_store", torch.distributed.HashStore())
    monkeypatch.setattr(distribute.atexit, "register", lambda *call: ends.append(call))
    monkeypatch.setattr(distribute, "PATIENCE", timedelta(milliseconds=1))
    assert distribute._speaks_first() and not distribute._speaks_first()
    monkeypatch.setattr(distribute, "PATIENCE", timedelta(days=1))
    (leave_word, word), (leave_group,) = ends
    leave_word(word)
    assert not distribute._speaks_first()
    # Otherwise gloo's threads would sometimes abort the process at its end.
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    leave_group()
    assert not torch.distributed.is_initialized()


def test_a_plain_run_has_no_group(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert distribute.start("cpu") == torch.device("cpu")
    assert (distribute.rank(), distribute.world(), distribute.is_first()) == (0, 1, True)
    layer, value = torch.nn.Linear(2, 2), torch.ones(2)
    assert distribute.wrap(layer) is layer
    assert distribute.average(value) is value and distribute.everywhere(value) is value
    assert distribute.share(value) is not None and distribute.share(torch.arange(3)).tolist() == [0, 1, 2]
    assert distribute.gather("a") == ["a"] and distribute.anywhere(True) and list(distribute.part(3)) == [0, 1, 2]
    distribute.agree(anything=1)
    with distribute.accumulating(layer, last=False):
        layer(value).sum().backward()
    with pytest.raises(ZeroDivisionError), distribute.one_voice():
        _ = 1 / 0
    distribute.stop()


@pytest.mark.parametrize(
    ("name", "number", "wanted"),
    [
        ("cuda:1", "3", "device: got 'cuda:1', wanted \"cuda\": every process takes a GPU of its own"),
        ("cuda", "3", "device: process 3 of this machine has no GPU of its own, there are 2"),
        ("cuda", "", "LOCAL_RANK: got '', wanted the process's number on its machine, as torchrun sets it"),
    ],
)
def test_every_process_has_a_gpu_of_its_own(monkeypatch, name, number, wanted):
    monkeypatch.setenv("LOCAL_RANK", number)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(UserError) as caught:
        distribute._own_device(name)
    assert str(caught.value) == wanted
    taken = []
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setattr(distribute, "select_device", lambda name: taken.append(name))
    distribute._own_device("auto")
    assert taken == ["cuda:1"]
    assert distribute._own_device("cpu") is None and taken == ["cuda:1", "cpu"]


def test_processes_that_do_not_find_each_other_are_told_so(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(UserError, match="WORLD_SIZE is 2, but the processes do not find each other"):
        distribute.start("cpu")
