import subprocess
import sys

from hvs.data import find_sequences


def run(*arguments):
    return subprocess.run([sys.executable, "-m", "hvs.data", *map(str, arguments)], capture_output=True, text=True)


def test_faults_are_one_line_and_exit_code_2(tmp_path):
    for arguments, message in (
        ((), "error: command: got nothing, wanted one of prepare"),
        (("frobnicate",), "error: command: got frobnicate, wanted one of prepare"),
        (("prepare", "panoptic", tmp_path, tmp_path / "out"), f"error: {tmp_path}: no raw Panoptic sequence here"),
        (("prepare", "human36m", tmp_path, tmp_path / "out"), f"error: {tmp_path}: no raw Human3.6M here"),
    ):
        found = run(*arguments)
        assert found.returncode == 2 and found.stdout == ""
        assert found.stderr.startswith(message) and found.stderr.count("\n") == 1


def test_prepares_and_prints_a_summary(tmp_path):
    import pytest

    pytest.importorskip("anny", reason="the sample capture's bodies come from anny (pip install hvs[sample])")
    from hvs.data.sample import SampleSettings, make_sample

    settings = SampleSettings(subjects=2, takes=1, frames=6, views=2, height=36, width=64)
    raw = make_sample(tmp_path / "raw", settings, "panoptic-raw")
    found = run("prepare", "panoptic", raw, tmp_path / "out", "--masks", raw / "masks", "--workers", "1")
    assert found.returncode == 0, found.stderr
    assert "subject2_pose1/Subsequences/0      2       6   6      12  12     12" in found.stdout
    assert "subject1_pose1: pictures" in found.stderr
    assert len(find_sequences(tmp_path / "out", "all")) == 2
