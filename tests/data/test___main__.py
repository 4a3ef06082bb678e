"""`python -m hvs.data`: tables, exit codes, errors of one line."""

import sys

import pytest

from hvs.data import __main__ as command
from hvs.data.stores import write_store


@pytest.fixture
def run(monkeypatch, capsys):
    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["hvs.data", *map(str, arguments)])
        code = command.main()
        return code, *capsys.readouterr()

    return run


def test_check_prints_a_row_per_view(capture, run):
    code, out, _ = run("check", capture.root, "--workers", "0")
    rows = [line.split() for line in out.splitlines()]
    assert code == 0 and rows[-1] == ["6", "views,", "no", "faults"]
    assert rows[0] == ["sequence", "view", "images", "masks", "2D", "3D", "usable", "2D-3D", "px", "faults"]
    assert rows[1] == [capture.names[0], "00", "8", "8", "8", "8", "8", "0.00", "-"]
    assert [row[:2] for row in rows[1:7]] == [[name, view] for name in capture.names for view in capture.views]


def test_check_lists_faults_and_ends_with_2(capture, run):
    write_store(capture.databases() / "Images/01.lmdb", [(frame, b"text") for frame in range(20)])
    code, out, err = run("check", capture.root, "--workers", "0")
    assert code == 2 and "Traceback" not in err
    faults = [line for line in out.splitlines() if line.startswith("fault: ")]
    assert len(faults) == 11 and "numbers of frames differ" in faults[0]
    assert "Images/01.lmdb: frame 0: not a readable JPEG or PNG" in faults[1]
    assert faults[10].endswith("view 01: 11 more")
    assert out.splitlines()[-1] == "21 faults in 1 of 6 views"


def test_errors_are_one_line(tmp_path, run):
    code, _, err = run("check", tmp_path / "nowhere")
    assert code == 2 and err == f"error: {tmp_path / 'nowhere'}: no such folder\n"
