"""What the kernels execute, for people and as JSON."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def counts(*arguments):
    """As in a shell in which Triton is to interpret, which it then does not."""
    command = [sys.executable, "-m", "bench.counts", *map(str, arguments)]
    env = os.environ | {"PYTHONPATH": str(ROOT), "TRITON_INTERPRET": "1"}
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    path = tmp_path_factory.mktemp("counts") / "counts.json"
    done = counts("--scene", "b1/64x64", "--json", path)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines(), json.loads(path.read_text())


def test_one_row_for_each_launch(found):
    (header, *lines), rows = found
    assert header.split()[0] == "b1/64x64/n108/c16/float32"
    assert [line.split()[0] for line in lines] == [row["kernel"] for row in rows]
    assert all(len(line.split()) == len(header.split()) == 8 for line in lines)
    assert {"prepare", "blend", "gradient", "chain"} <= {row["kernel"] for row in rows}


def test_counts_agree_with_each_other(found):
    _, rows = found
    for row in rows:
        assert row["scene"] == "b1/64x64/n108/c16/float32" and row["target"] == "sm_90"
        assert 0 < row["wide_integers"] < row["instructions"]
        assert 0 < row["read"] <= row["loads"] and 0 < row["written"] <= row["stores"]


def test_every_pixel_is_written(found):
    _, rows = found
    # Once by either of two kernels: numbers of 16 channels.
    written = sum(row["written"] for row in rows if row["kernel"] in ("survey_small", "blend"))
    assert written >= 16 * 64 * 64 * 4


def test_the_rows_are_those_numbers(found):
    (_, *lines), rows = found
    for line, row in zip(lines, rows, strict=True):
        programs, instructions, _, loads, *_ = line.split()[1:]
        assert int(programs.replace(",", "")) == row["programs"]
        assert float(instructions.replace(",", "")) == pytest.approx(row["instructions"] / 1000, abs=0.05)
        assert float(loads) == pytest.approx(row["loads"] / 2**20, abs=0.005)


def test_a_scene_that_there_is_not():
    done = counts("--scene", "b33")
    assert done.returncode == 1 and done.stderr.startswith("--scene: got 'b33', wanted one of b2/256x256")
