import subprocess
import sys

import pytest

from hvs.data import DataError, find_sequences
from hvs.data.__main__ import main


def run(*arguments):
    return subprocess.run([sys.executable, "-m", "hvs.data", *map(str, arguments)], capture_output=True, text=True)


def test_faults_are_one_line_and_exit_code_2(tmp_path):
    found = run("prepare", "panoptic", tmp_path, tmp_path / "out")
    assert found.returncode == 2 and found.stdout == ""
    assert (
        found.stderr.startswith(f"error: {tmp_path}: no raw Panoptic sequence here") and found.stderr.count("\n") == 1
    )


@pytest.mark.parametrize(("arguments", "got"), [([], "nothing"), (["frobnicate"], "frobnicate")])
def test_unknown_commands_are_refused(arguments, got):
    with pytest.raises(DataError, match=f"^command: got {got}, wanted one of .*prepare"):
        main(arguments)


def test_prepares_and_prints_a_summary(tmp_path):
    pytest.importorskip("anny", reason="the sample capture's bodies come from anny (pip install hvs[sample])")
    from hvs.data.sample import SampleSettings, make_sample

    settings = SampleSettings(subjects=2, takes=1, frames=6, views=2, height=36, width=64)
    raw = make_sample(tmp_path / "raw", settings, "panoptic-raw")
    found = run("prepare", "panoptic", raw, tmp_path / "out", "--masks", raw / "masks", "--workers", "1")
    assert found.returncode == 0, found.stderr
    assert "subject2_pose1/Subsequences/0      2       6   6      12  12     12" in found.stdout
    assert "subject1_pose1: pictures" in found.stderr
    assert len(find_sequences(tmp_path / "out", "all")) == 2
