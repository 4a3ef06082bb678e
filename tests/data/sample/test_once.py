import contextlib
import fcntl
import subprocess
import sys
import threading
import time

import pytest

from hvs.data.sample.once import cache_folder, make_once


def fill(folder):
    (folder / "file").write_text("whole")


def everything(folder):
    return sorted(path.name for path in folder.rglob("*"))


def test_makes_the_folder_once_and_leaves_nothing_beside_it(tmp_path):
    calls = []
    for _ in range(2):
        path = make_once(tmp_path / "a" / "b", lambda folder: (calls.append(folder), fill(folder)))
    assert (path / "file").read_text() == "whole"
    assert len(calls) == 1
    assert everything(tmp_path) == ["a", "b", "file"]


def test_a_failure_leaves_nothing_and_the_next_call_tries_again(tmp_path):
    def fail(folder):
        fill(folder)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_once(tmp_path / "a", fail)
    assert everything(tmp_path) == []
    assert (make_once(tmp_path / "a", fill) / "file").exists()


def test_fills_an_empty_folder_and_leaves_a_full_one(tmp_path):
    (tmp_path / "empty").mkdir()
    assert (make_once(tmp_path / "empty", fill) / "file").exists()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("")
    assert everything(make_once(tmp_path / "full", fill)) == ["mine"]


def test_what_cannot_be_filled_is_refused_before_any_work(tmp_path, monkeypatch):
    def unwanted(folder):
        raise AssertionError("called")

    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError, match="Not a directory: .*file"):
        make_once(tmp_path / "file", unwanted)
    (tmp_path / "disk").mkdir()
    monkeypatch.setattr("os.path.ismount", lambda path: path == tmp_path / "disk")
    with pytest.raises(ValueError, match="disk: is a mount point, wanted a folder inside it"):
        make_once(tmp_path / "disk", unwanted)
    assert everything(tmp_path) == ["disk", "file"]


@pytest.mark.parametrize("there", [True, False])
def test_a_link_to_an_empty_folder_stays_one(tmp_path, there):
    link, folder = tmp_path / "link", tmp_path / "folder"
    if there:
        folder.mkdir()
    link.symlink_to(folder)
    assert make_once(link, fill) == folder and link.is_symlink()
    assert (link / "file").read_text() == "whole"


def test_errors_that_name_no_file_get_the_folders_name(tmp_path):
    def full(folder):
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match=f"No space left on device: '{tmp_path / 'a'}'"):
        make_once(tmp_path / "a", full)


def test_what_a_killed_process_left_is_removed(tmp_path):
    program = (
        "import os, pathlib, sys; from hvs.data.sample.once import make_once\n"
        "def die(folder): (folder / 'half').write_text(''); os._exit(7)\n"
        "make_once(pathlib.Path(sys.argv[1]), die)"
    )
    assert subprocess.run([sys.executable, "-c", program, tmp_path / "a"], check=False).returncode == 7
    assert "half" in everything(tmp_path)
    make_once(tmp_path / "a", fill)
    assert everything(tmp_path) == ["a", "file"]


@pytest.mark.parametrize("first_fails", [False, True], ids=["first makes it", "first fails"])
def test_only_one_makes_it_at_a_time(tmp_path, first_fails):
    running, made, most = [], [], []

    def slow(folder):
        running.append(1)
        most.append(len(running))
        time.sleep(0.05)
        running.pop()
        if first_fails and len(most) == 1:
            raise OSError("disk")
        fill(folder)
        made.append(folder)

    def attempt():
        with contextlib.suppress(OSError):
            make_once(tmp_path / "a", slow)

    threads = [threading.Thread(target=attempt) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(most) == 1
    assert len(made) == 1
    assert everything(tmp_path) == ["a", "file"]


def test_whoever_waits_says_for_what(tmp_path, monkeypatch, capsys):
    """A lock that is free is not spoken of; behind one that is held, somebody has made the folder."""
    calls, flock = [], fcntl.flock

    def held(handle, how):
        calls.append(how)
        if how & fcntl.LOCK_NB:
            raise BlockingIOError
        (tmp_path / "a").mkdir()
        fill(tmp_path / "a")
        flock(handle, how)

    assert make_once(tmp_path / "b", fill) and capsys.readouterr().err == ""
    monkeypatch.setattr(fcntl, "flock", held)
    make_once(tmp_path / "a", lambda folder: pytest.fail("made twice"))
    assert calls == [fcntl.LOCK_EX | fcntl.LOCK_NB, fcntl.LOCK_EX]
    assert capsys.readouterr().err == f"waiting for another process that is making {tmp_path / 'a'} ...\n"


def test_cache_folder_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "hvs"
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_folder() == tmp_path / "home" / ".cache" / "hvs"
