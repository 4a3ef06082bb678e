import subprocess
import sys

import pytest


@pytest.fixture
def run(program):
    return lambda *arguments: program("-m", "hvs.data.sample", *arguments)


def test_prints_the_path_and_nothing_else_on_standard_output(model, tmp_path):
    """As a user runs it: in a process of its own."""
    small = ("--subjects", "2", "--frames", "6", "--views", "2", "--height", "36", "--width", "64")
    command = [sys.executable, "-m", "hvs.data.sample", "--layout", "human36m", "--root", tmp_path / "sample", *small]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{tmp_path / 'sample'}\n"
    assert "Warp" not in done.stderr
    assert (tmp_path / "sample" / "splits.json").exists()


def test_bad_input_is_one_line_and_exit_code_2(tmp_path, run):
    (tmp_path / "thesis.tex").write_text("")
    code, _, error = run("--root", tmp_path)
    assert code == 2
    assert error.startswith(f"error: root: {tmp_path} holds something other than this sample")
    assert error.count("\n") == 1


def test_impossible_settings_end_with_their_reason_and_exit_code_2(run):
    code, _, error = run("--frames", "2")
    assert code == 2
    assert "frames: got 2, wanted at least 6" in error
    assert "Traceback" not in error


def test_help_tells_what_every_setting_is(run):
    _, said, _ = run("--help")
    text = " ".join(said.replace("│", " ").split())
    assert "usage: python -m hvs.data.sample" in text
    assert "--width INT width of the pictures, in pixels. (default: 480)" in text
    assert "--height INT height of the pictures, in pixels; those of the Human3.6M layouts are square" in text


def test_a_file_in_the_way_is_told_at_once(tmp_path, run):
    (tmp_path / "file").write_text("")
    code, _, error = run("--root", tmp_path / "file")
    assert (code, error) == (2, f"error: [Errno 20] Not a directory: '{tmp_path / 'file'}'\n")
