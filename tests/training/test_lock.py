"""A folder is one training's alone, for as long as that lives."""

import fcntl
import multiprocessing
import os
import time
from pathlib import Path

import pytest

from hvs.runtime import UserError
from hvs.training.lock import FolderLock


def hold(folder, connection):
    """In a process of its own, with a child that outlives it."""
    lock = FolderLock(folder)
    child = os.fork()
    if child == 0:
        time.sleep(60)
        os._exit(0)
    connection.send(child)
    connection.recv()
    lock.release()
    connection.send("released")
    connection.recv()


@pytest.fixture
def holder(tmp_path):
    """Another process, that has locked `run`, and its end of a pipe."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("fork").Process(target=hold, args=(tmp_path / "run", theirs))
    process.start()
    child = ours.recv()
    yield process, ours
    process.kill()
    os.kill(child, 9)
    process.join()


@pytest.fixture
def run(tmp_path):
    (tmp_path / "run").mkdir()
    return tmp_path / "run"


WANTED = "run: another training is using it; wait, or use another --run"


def test_a_folder_in_use_is_refused(run, holder):
    with pytest.raises(UserError, match=WANTED):
        FolderLock(run)
    (run.parent / "link").symlink_to(run)
    with pytest.raises(UserError, match=WANTED):
        FolderLock(run.parent / "link")
    FolderLock(run.parent / "other").release()
    # Renamed by its owner, it is still in use.
    run.rename(run.with_name("run-1"))
    with pytest.raises(UserError, match=WANTED):
        FolderLock(run)


def test_a_process_that_releases_a_folder_may_live_on(run, holder):
    process, connection = holder
    connection.send("release")
    assert connection.recv() == "released"
    FolderLock(run).release()
    assert process.is_alive()


def test_a_killed_process_leaves_no_lock(run, holder):
    """Not even if others that it had started live on."""
    holder[0].kill()
    holder[0].join()
    FolderLock(run).release()


def test_one_process_may_train_there_again(run):
    first = FolderLock(run)
    again = FolderLock(run)
    first.release()
    again.release()
    assert not list(run.iterdir())


def test_the_root_has_no_folder_beside_it():
    FolderLock(Path("/")).release()


@pytest.mark.parametrize("fault", [OSError(95, "Operation not supported"), OSError(37, "No locks available")])
def test_where_nothing_can_be_locked_the_training_goes_on(run, monkeypatch, fault):
    def fail(*_):
        raise fault

    monkeypatch.setattr(fcntl, "lockf", fail)
    FolderLock(run).release()


def test_a_run_in_progress_is_not_renamed(settings, command, holder):
    (settings.run / "checkpoints").mkdir(parents=True)
    (settings.run / "checkpoints/lifter-0000002.pt").touch()
    for resume in ((), ("--resume",)):
        code, error = command(*resume)
        assert code == 2 and WANTED in error
    assert (settings.run / "checkpoints/lifter-0000002.pt").exists()
    assert not settings.run.with_name("run-1").exists()
