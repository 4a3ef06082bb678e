"""States are written whole or not at all, read back as they were, and outlived by those before them."""

import errno
import os
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from hvs.runtime import UserError
from hvs.training import state as module
from hvs.training.objectives import Terms
from hvs.training.progress import WRITTEN
from hvs.training.state import Checkpoints, check_space, random_state, restore, restore_random_state, set_aside
from hvs.training.stepper import Stepper

from .states import same

CPU = torch.device("cpu")


def make(step, stage="synthesis", **parts):
    return dict(stage=stage, step=step, seconds=1.5, settings="{}", parts=parts, random=[random_state(CPU)])


def names(checkpoints):
    return [path.name for path in checkpoints.folder.iterdir()]


@pytest.fixture
def checkpoints(tmp_path):
    return Checkpoints(tmp_path / "run")


@pytest.mark.parametrize("scaled", [False, True])
def test_a_state_comes_back_as_it_was(checkpoints, scaled):
    layer = nn.Linear(2, 3).to(torch.bfloat16)
    stepper = Stepper("layer", torch.optim.AdamW(layer.parameters(), amsgrad=True, fused=True), scaled=scaled)
    average = torch.optim.swa_utils.AveragedModel(layer)
    stepper.backward(layer(torch.ones(1, 2, dtype=torch.bfloat16)).sum())
    stepper.step(0, {"a": torch.ones(())})
    parts = dict(layer=layer, stepper=stepper, average=average)
    state = make(1, **{name: part.state_dict() for name, part in parts.items()}, validation={"lpips": 0.25, "step": 3})
    checkpoints.save(state)
    found = checkpoints.load()
    assert same(found, state)
    assert restore(found, parts, CPU) == 1
    assert same(
        {name: part.state_dict() for name, part in parts.items()}, {name: state["parts"][name] for name in parts}
    )


def test_the_last_ones_are_kept(checkpoints):
    for stage, steps in {"lifter": (500, 1000), "synthesis": (5, 10, 10_000_000)}.items():
        for step in steps:
            checkpoints.save(make(step, stage))
    wanted = ["synthesis-0000005.pt", "synthesis-0000010.pt", "synthesis-10000000.pt"]
    assert [path.name for path in checkpoints.files()] == wanted == sorted(names(checkpoints))
    assert checkpoints.load()["step"] == 10_000_000


def test_states_of_steps_that_are_done_again_are_dropped(checkpoints):
    for step in (1, 2, 3):
        checkpoints.save(make(step))
    checkpoints.save(make(2))
    assert sorted(names(checkpoints)) == ["synthesis-0000001.pt", "synthesis-0000002.pt"]


def test_there_may_be_none(checkpoints):
    assert checkpoints.load() == {} and restore({}, {"a": None}, CPU) == 0


def _truncate(path):
    path.write_bytes(path.read_bytes()[:-100])


def _flip(path):
    data = bytearray(path.read_bytes())
    data[data.index(bytes(torch.full((64,), 0.5).numpy())) + 3] ^= 1
    path.write_bytes(data)


def _empty(path):
    path.write_bytes(b"")


def _other(path):
    torch.save({"stage": "synthesis"}, path)


def _negative(path):
    torch.save(make(-4), path)


def _timeless(path):
    torch.save(make(3) | {"seconds": float("nan")}, path)


@pytest.mark.parametrize("fault", [_truncate, _flip, _empty, _other, _negative, _timeless])
def test_a_broken_state_falls_back_to_the_one_before(checkpoints, fault, recwarn):
    for step in (1, 2, 3):
        checkpoints.save(make(step, weights=torch.full((64,), 0.5)))
    fault(checkpoints.folder / "synthesis-0000003.pt")
    assert checkpoints.load()["step"] == 2
    (warning,) = recwarn
    told = str(warning.message)
    assert "synthesis-0000003.pt: " in told and told.endswith("; resuming from synthesis-0000002.pt, the one before")
    checkpoints.save(make(3))
    assert checkpoints.load()["step"] == 3 and len(recwarn) == 1


def test_only_broken_states_are_an_error(checkpoints):
    for step in (1, 2):
        checkpoints.save(make(step))
        _truncate(checkpoints.folder / f"synthesis-000000{step}.pt")
    with pytest.raises(UserError, match=r"none of the 2 states can be read: .*2.pt.*1.pt.*; use another --run"):
        checkpoints.load()


def test_a_state_runs_no_code(checkpoints):
    checkpoints.save(make(1) | {"parts": {"a": os.getcwd}})
    with pytest.raises(UserError, match="asks for posix.getcwd, which is not allowed"):
        checkpoints.load()


@pytest.mark.parametrize("moment", ["write", "fsync", "replace"])
def test_a_full_disk_leaves_the_state_before(checkpoints, monkeypatch, moment):
    checkpoints.save(make(1))

    def fail(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    where = {"write": (module.torch, "save"), "fsync": (os, "fsync"), "replace": (os, "replace")}
    monkeypatch.setattr(*where[moment], fail)
    wanted = r"synthesis-0000002.pt: cannot be written \(No space left on device\); .*synthesis-0000001.pt is the last"
    with pytest.raises(UserError, match=wanted):
        checkpoints.save(make(2))
    assert names(checkpoints) == ["synthesis-0000001.pt"] and checkpoints.load()["step"] == 1


def test_a_disk_that_fills_up_while_torch_writes(checkpoints, monkeypatch):
    """torch tells of its own bookkeeping, and not of the disk."""
    monkeypatch.setattr(module, "write_atomically", lambda path, write: write(Path("/dev/full")))
    with pytest.raises(
        UserError, match=r"synthesis-0000001.pt: cannot be written \(No space left on device\); there is"
    ):
        checkpoints.save(make(1, weights=torch.zeros(10**6)))


def ask_for_space(checkpoints, state, others, written=()):
    check_space(checkpoints.run, checkpoints.keep, state, others, checkpoints.files(), written)


def test_space_is_asked_for_before(checkpoints, monkeypatch):
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 450 * 2**20}))
    ask_for_space(checkpoints, 100 * 2**20, 50 * 2**20)
    with pytest.raises(UserError, match=r"run: 450 MiB are free, and the run will write up to 454 MiB; make room"):
        ask_for_space(checkpoints, 101 * 2**20, 50 * 2**20)
    # What will be dropped makes room.
    (checkpoints.folder / "lifter-0000001.pt").write_bytes(bytes(2**20 * 5))
    ask_for_space(checkpoints, 101 * 2**20, 50 * 2**20)


def test_a_run_that_fits_can_be_resumed(checkpoints, monkeypatch):
    """What it has written needs no more room; but it takes no room from the states, nor do files of others."""
    usage = type("Usage", (), {"free": 440 * 2**20})
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: usage)
    for name in ("model.safetensors", "history.jsonl", "tensorboard/synthesis/events.1", "pictures/0000000.png"):
        with pytest.raises(UserError, match="the run will write up to 4"):
            ask_for_space(checkpoints, 100 * 2**20, 50 * 2**20, WRITTEN)
        path = checkpoints.run / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(2**20 * 5 // 2))
        (checkpoints.run / "mine.bin").write_bytes(bytes(2**20 * 20))
    ask_for_space(checkpoints, 100 * 2**20, 50 * 2**20, WRITTEN)
    usage.free = 399 * 2**20
    with pytest.raises(UserError, match="the run will write up to 400 MiB"):
        ask_for_space(checkpoints, 100 * 2**20, 5 * 2**20, WRITTEN)


def test_a_folder_that_cannot_be_written_to(tmp_path):
    (tmp_path / "checkpoints").touch()
    with pytest.raises(UserError, match="checkpoints: not a folder that can be written to"):
        Checkpoints(tmp_path)


def test_half_written_files_are_removed(tmp_path):
    left = [tmp_path / ".4194305.best.safetensors", tmp_path / "checkpoints/.4194306.lifter-0000001.pt"]
    for folder in left:
        folder.mkdir(parents=True)
        (folder / "file").touch()
    Checkpoints(tmp_path)
    assert not any(folder.exists() for folder in left)


def test_random_numbers_go_on(checkpoints):
    def numbers():
        return [random.random(), random.gauss(0, 1), np.random.rand(), np.random.randn(), torch.rand(2)]

    numbers()
    checkpoints.save(make(1))
    wanted = numbers()
    numbers()
    restore(checkpoints.load(), {}, CPU)
    assert same(numbers(), wanted)


def test_every_process_has_its_own_random_numbers():
    torch.manual_seed(1)
    first = random_state(CPU)
    torch.manual_seed(2)
    state = make(1) | {"random": [first, random_state(CPU)]}
    wanted = torch.rand(1)
    restore(state, {}, CPU, rank=0)
    assert not torch.equal(torch.rand(1), wanted)
    restore(state, {}, CPU, rank=1)
    assert torch.equal(torch.rand(1), wanted)
    after = torch.get_rng_state()
    restore(state, {}, CPU, rank=2)
    assert torch.equal(torch.get_rng_state(), after)


@pytest.mark.gpu
def test_random_numbers_of_a_gpu_go_on():
    device = torch.device("cuda")
    state = random_state(device)
    wanted = torch.rand(2, device=device)
    restore_random_state(state, device)
    assert torch.equal(torch.rand(2, device=device), wanted)


@pytest.mark.parametrize(
    ("name", "value"),
    [("python", (3, (1, 2), None)), ("python", (*random.getstate()[:2], "1")), ("numpy", ("MT19937", [1]))]
    + [("torch", torch.zeros(3)), ("cuda", ...)],
)
def test_broken_random_states_are_told(name, value):
    state, before = make(1), random_state(CPU)
    state["random"][0] |= {name: value}
    if value is ...:
        del state["random"][0][name]
    try:
        with pytest.raises(UserError, match="the last state has broken random states"):
            restore(state, {}, CPU)
    finally:
        restore_random_state(before, CPU)


def test_parts_that_do_not_fit_are_named():
    state = make(1, layer=nn.Linear(2, 3).state_dict())
    restore(state, {"layer": nn.Linear(2, 3), "average": None}, CPU)
    # States of earlier versions do not say what was minimised.
    assert restore(make(1), {"losses": Terms(["pixel"])}, CPU) == 1
    with pytest.raises(UserError, match="the last state has no average"):
        restore(state, {"average": nn.Linear(2, 3)}, CPU)
    with pytest.raises(UserError, match="the last state does not fit the layer: it is from other settings"):
        restore(state, {"layer": nn.Linear(2, 4)}, CPU)


@pytest.mark.parametrize(
    "file", ["checkpoints/lifter-0000001.pt", "training.pt", "model.safetensors", "best.safetensors"]
)
def test_a_folder_with_a_run_is_set_aside(tmp_path, file):
    run = tmp_path / "run"
    for number in (1, 2):
        (run / file).parent.mkdir(parents=True)
        (run / file).write_text(str(number))
        with pytest.warns(UserWarning, match=f"run: held a run, now renamed to run-{number} "):
            set_aside(run, [None, tmp_path / "other"])
        assert (tmp_path / f"run-{number}" / file).read_text() == str(number) and not run.exists()


def test_a_folder_without_a_run_stays(tmp_path, recwarn):
    (tmp_path / "run/checkpoints").mkdir(parents=True)
    (tmp_path / "run/notes.txt").touch()
    set_aside(tmp_path / "run", [])
    assert (tmp_path / "run/notes.txt").exists() and not recwarn


def test_the_folder_that_one_is_in_stays(tmp_path, monkeypatch):
    """A relative path would mean the renamed folder from then on."""
    (tmp_path / "model.safetensors").touch()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="holds a run, and cannot be renamed from inside; use another --run"):
        set_aside(Path("."), [])
    assert (tmp_path / "model.safetensors").exists()


def test_a_folder_that_cannot_be_renamed_is_told(tmp_path, monkeypatch, recwarn):
    def fail(*_):
        raise PermissionError(errno.EACCES, "Permission denied")

    (tmp_path / "training.pt").touch()
    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(UserError, match=r"holds a run, and cannot be renamed \(Permission denied\); use another --run"):
        set_aside(tmp_path, [])
    assert not recwarn


def test_a_folder_that_is_read_stays(tmp_path):
    (tmp_path / "training.pt").touch()
    wanted = "best.safetensors: is in the folder of the run, which would be renamed; use another --run"
    with pytest.raises(UserError, match=wanted):
        set_aside(tmp_path, [tmp_path / "best.safetensors"])
    assert (tmp_path / "training.pt").exists()
