import multiprocessing
import os
import random
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from hvs.checkpoint import CheckpointError
from hvs.data import DataError
from hvs.runtime import (
    KILLED_READER,
    UserError,
    autocast,
    choose_precision,
    make_folder,
    refuse_folders,
    refuse_inputs,
    remove_leftovers,
    run_command,
    seed_everything,
    select_device,
    write_atomically,
)


@pytest.mark.parametrize(
    "error", [UserError("a\nb"), CheckpointError("a b"), DataError("a b"), ModuleNotFoundError("a b"), OSError("a b")]
)
def test_what_the_user_can_mend_is_one_line_and_exit_code_2(error, capsys):
    def command():
        raise error

    with pytest.raises(SystemExit) as stop:
        run_command(command)
    assert stop.value.code == 2
    assert capsys.readouterr().err == "error: a b\n"


def test_warnings_are_notes(capsys):
    run_command(lambda: warnings.warn("a b", stacklevel=1))
    assert capsys.readouterr().err == "note: a b\n"


CPU = (
    "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 "
)
CPU += "bytes. Error code 12 (Cannot allocate memory)"


@pytest.mark.parametrize(
    ("error", "asked"),
    [
        (RuntimeError(CPU), " for 8 bytes more"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has"), " for 20.00 GiB more"),
        (MemoryError("Unable to allocate 3.05 GiB for an array"), " for 3.05 GiB more"),
        (MemoryError(), ""),
    ],
    ids=["cpu", "gpu", "numpy", "python"],
)
def test_too_little_memory_is_the_users_to_mend(error, asked, capsys):
    def command():
        raise error

    with pytest.raises(SystemExit) as stop:
        run_command(command)
    assert stop.value.code == 2
    wanted = f"error: not enough memory{asked}; smaller sizes, counts or batches need less\n"
    assert capsys.readouterr().err == wanted


def test_a_killed_reader_is_told(capsys):
    def command():
        batches = iter(torch.utils.data.DataLoader(range(100_000), num_workers=1, collate_fn=list))
        next(batches)
        (reader,) = multiprocessing.active_children()
        reader.kill()
        # The signal of its end may come a moment later.
        while True:
            next(batches, None)

    with pytest.raises(SystemExit) as stop:
        run_command(command)
    assert stop.value.code == 2
    assert capsys.readouterr().err == f"error: {KILLED_READER}\n"


def test_other_errors_of_torch_are_bugs():
    with pytest.raises(RuntimeError, match="inconsistent tensor size"):
        run_command(lambda: torch.ones(2) @ torch.ones(3))


def test_an_interrupt_is_no_traceback_and_a_bug_is_one():
    def interrupt():
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as stop:
        run_command(interrupt)
    assert stop.value.code == 130
    with pytest.raises(ZeroDivisionError):
        run_command(lambda: 1 / 0)


def test_select_device():
    assert select_device("cpu") == torch.device("cpu")
    assert select_device("auto").type in ("cpu", "cuda")
    with pytest.raises(UserError, match="device: got 'toaster', which is not available"):
        select_device("toaster")


def test_seeds_repeat():
    found = []
    for _ in range(2):
        seed_everything(3)
        found.append((random.random(), np.random.rand(), torch.rand(1).item()))
    assert found[0] == found[1]


def test_autocast_is_off_on_cpu():
    with autocast(torch.device("cpu")):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32


@pytest.mark.parametrize("name", ["bf16", "fp16", "fp32", "auto"])
def test_networks_compute_at_the_precision_that_is_asked_for(name):
    device = torch.device("cpu")
    wanted = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(name, torch.float32)
    with autocast(device, choose_precision(name, device)):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == wanted


def test_a_gpu_computes_in_bfloat16_if_it_can(monkeypatch):
    for able, wanted in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation, able=able: able)
        assert choose_precision("auto", torch.device("cuda")) == wanted


def test_make_folder(tmp_path):
    folder = make_folder(tmp_path / "a" / "b")
    assert folder.is_dir() and not list(folder.iterdir())
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="file: not a folder that can be written to"):
        make_folder(tmp_path / "file")


def test_write_atomically_keeps_the_old_file_when_writing_fails(tmp_path):
    path = tmp_path / "file"
    write_atomically(path, lambda p: p.write_text("old"))

    def fail(temporary):
        temporary.write_text("half")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        write_atomically(path, fail)
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]
    write_atomically(path, lambda p: p.write_text("new"))
    assert path.read_text() == "new"


def test_errors_of_writing_name_the_file_asked_for(tmp_path):
    (tmp_path / "folder").mkdir()
    for path, error in ((tmp_path / "no/where", FileNotFoundError), (tmp_path / "folder", IsADirectoryError)):
        with pytest.raises(error) as caught:
            write_atomically(path, lambda temporary: temporary.write_text("whole"))
        assert caught.value.filename == str(path) and str(caught.value).endswith(f": '{path}'")
    # What else a writer needs is named as it is.
    with pytest.raises(FileNotFoundError) as caught:
        write_atomically(tmp_path / "file", lambda temporary: (tmp_path / "source").read_text())
    assert caught.value.filename == str(tmp_path / "source")
    assert list(tmp_path.iterdir()) == [tmp_path / "folder"]


def test_write_atomically_does_no_work_for_a_name_that_is_taken(tmp_path):
    (tmp_path / "film.mp4").mkdir()
    with pytest.raises(IsADirectoryError, match="Is a directory: '.*/film.mp4'"):
        write_atomically(tmp_path / "film.mp4", lambda _: pytest.fail("it has begun"))
    assert [path.name for path in tmp_path.iterdir()] == ["film.mp4"]


def test_write_atomically_leaves_a_file_as_private_as_any_other(tmp_path):
    def write_for_nobody_else(temporary):
        temporary.unlink()
        temporary.touch(mode=0o600)

    (tmp_path / "any").touch()
    write_atomically(tmp_path / "file", write_for_nobody_else)
    assert (tmp_path / "file").stat().st_mode == (tmp_path / "any").stat().st_mode


# No system gives a process such a number.
NOBODY = 2**22 + 1


def test_what_a_killed_process_left_half_written_is_removed(tmp_path):
    child = os.fork()
    if not child:

        def die(temporary):
            # As safetensors does.
            temporary.with_name(".tmpX").write_text("half")
            temporary.write_text("half")
            os._exit(0)

        write_atomically(tmp_path / "file", die)
    os.waitpid(child, 0)
    (tmp_path / f".{NOBODY}.probe").touch()
    others = [tmp_path / ".notes.txt", tmp_path / ".1x.y", tmp_path / "file"]
    for other in others:
        other.touch()
    assert len(list(tmp_path.iterdir())) == 5
    remove_leftovers(tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted(others)


def test_what_another_process_is_writing_is_left_alone(tmp_path):
    """Only its own number, which an earlier process may have had, says that nobody is writing."""
    others, own = (tmp_path / f".{number}.film.mp4" for number in (os.getppid(), os.getpid()))
    for folder in (others, own):
        folder.mkdir()
    (tmp_path / f".{10**30}.film.mp4").touch()
    remove_leftovers(tmp_path)
    assert list(tmp_path.iterdir()) == [others]


def test_half_written_files_may_vanish_while_they_are_removed(tmp_path, monkeypatch):
    """Other processes remove them, too."""
    (tmp_path / f".{NOBODY}.model.pt").mkdir()
    remove = shutil.rmtree

    def remove_twice(path, **options):
        remove(path)
        remove(path, **options)

    monkeypatch.setattr(shutil, "rmtree", remove_twice)
    remove_leftovers(tmp_path)
    assert not list(tmp_path.iterdir())


def test_folders_in_the_place_of_files_are_refused(tmp_path):
    (tmp_path / "a.mp4").mkdir()
    (tmp_path / "b.mp4").touch()
    refuse_folders(tmp_path / "b.mp4", tmp_path / "c.mp4")
    with pytest.raises(UserError, match="a.mp4: is a folder, which is in the way of a file"):
        refuse_folders(tmp_path / "b.mp4", tmp_path / "a.mp4")


def test_inputs_are_not_replaced_by_whatever_name(tmp_path, monkeypatch):
    picture = tmp_path / "me" / "1.png"
    picture.parent.mkdir()
    picture.touch()
    (tmp_path / "link.png").symlink_to(picture)
    monkeypatch.chdir(tmp_path)
    refuse_inputs([picture, tmp_path / "missing"], tmp_path / "missing", tmp_path / "me" / "2.png")
    for given, output in ((picture, "me/1.png"), (tmp_path / "link.png", "me/../me/1.png"), (picture, "me")):
        with pytest.raises(UserError, match=f"out: {output} would replace {given}, which is read"):
            refuse_inputs([given], Path(output))
