"""`python -m hvs.data`: tables, exit codes, errors of one line."""

import subprocess
import sys

import pytest

from hvs.data import __main__ as command
from hvs.data.stores import write_store


@pytest.fixture
def run(monkeypatch, capsys):
    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["hvs.data", *map(str, arguments)])
        code = command.run(command.main)
        return code, *capsys.readouterr()

    return run


def test_check_prints_a_row_per_view(capture, run):
    code, out, _ = run("check", capture.root, "--workers", "1")
    rows = [line.split() for line in out.splitlines()]
    assert code == 0 and rows[-1] == ["6", "views,", "no", "faults"]
    assert rows[0] == ["sequence", "view", "images", "masks", "2D", "3D", "usable", "2D-3D", "px", "faults"]
    assert rows[1] == [capture.names[0], "00", "8", "8", "8", "8", "8", "0.00", "-"]
    assert [row[:2] for row in rows[1:7]] == [[name, view] for name in capture.names for view in capture.views]


def test_columns_are_as_wide_as_the_longest_name(capsys):
    views = ["00", "a camera with a long name"]
    command.print_table([command.ViewReport("ann", view, dict.fromkeys(command.MODALITIES, 8)) for view in views])
    lines = capsys.readouterr().out.splitlines()
    assert len({len(line) for line in lines}) == 1 and lines[2].startswith(f"ann       {views[1]}        8")


@pytest.mark.parametrize(
    ("faults", "said"),
    [([[]], "1 view, no faults"), ([["x"]], "1 fault in 1 of 1 view"), ([[], ["x", "y"]], "2 faults in 1 of 2 views")],
)
def test_the_last_line_of_check_counts(tmp_path, run, monkeypatch, faults, said):
    reports = [command.ViewReport("ann", f"{view:02d}", faults=found) for view, found in enumerate(faults)]
    monkeypatch.setattr(command, "check", lambda *_, **__: reports)
    assert run("check", tmp_path)[1].splitlines()[-1] == said


def test_check_lists_faults_and_ends_with_2(capture, run):
    write_store(capture.databases() / "Images/01.lmdb", [(frame, b"text") for frame in range(20)])
    code, out, err = run("check", capture.root, "--workers", "1")
    assert code == 2 and "Traceback" not in err
    faults = [line for line in out.splitlines() if line.startswith("fault: ")]
    assert len(faults) == 11 and "numbers of frames differ" in faults[0]
    assert "Images/01.lmdb: frame 0: not a readable JPEG or PNG" in faults[1]
    assert faults[10].endswith("view 01: 11 more")
    assert out.splitlines()[-1] == "21 faults in 1 of 6 views"


def test_errors_are_one_line(tmp_path, run):
    code, _, err = run("check", tmp_path / "nowhere")
    assert code == 2 and err == f"error: {tmp_path / 'nowhere'}: no such folder\n"
    for dataset, message in (("panoptic", "no raw Panoptic sequence here"), ("human36m", "no raw Human3.6M here")):
        code, out, err = run("prepare", dataset, tmp_path, tmp_path / "out")
        assert (code, out) == (2, "") and err.startswith(f"error: {tmp_path}: {message}") and err.count("\n") == 1


def test_a_download_is_prepared_and_checked(tmp_path, run):
    """As a user runs it: in a process of its own, and what comes out has no faults."""
    pytest.importorskip("anny", reason="the sample capture's bodies come from anny (pip install hvs[sample])")
    from hvs.data.sample import SampleSettings, make_sample

    settings = SampleSettings(subjects=2, takes=1, frames=6, views=2, height=36, width=64)
    raw = make_sample(tmp_path / "raw", settings, "panoptic-raw")
    prepare = ("prepare", "panoptic", raw, tmp_path / "out", "--masks", raw / "masks", "--workers", "1")
    found = subprocess.run([sys.executable, "-m", "hvs.data", *prepare], capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    assert "subject2_pose1/Subsequences/0      2       6   6      12  12     12" in found.stdout
    assert "subject1_pose1: pictures" in found.stderr
    code, said, _ = run("check", tmp_path / "out")
    assert code == 0 and said.endswith("4 views, no faults\n")
