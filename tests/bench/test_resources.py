"""The kernels compiled for real GPUs, none of which is needed."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "bench" / "resources.py"
COLUMNS = {"kernel", "variant", "target", "warps", "registers", "spill_bytes", "shared_bytes", "occupancy"}


def report(*arguments: str) -> str:
    return subprocess.run([sys.executable, SCRIPT, *arguments], check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="module")
def rows():
    return json.loads(report("--json", "--channels", "16"))


def test_every_kernel_compiles_for_every_target(rows):
    kernels = {"prepare", "survey_small", "survey", "search", "extents", "pair_large", "blend"}
    kernels |= {"background_gradient", "gradient", "ray_gradient", "chain"}
    targets = {"sm_80", "sm_90", "sm_100", "gfx942"}
    assert {(row["kernel"], row["target"]) for row in rows} == {(k, t) for k in kernels for t in targets}
    for row in rows:
        assert set(row) == COLUMNS
        assert row["registers"] > 8 and 0 < row["occupancy"] <= 1


def test_nothing_spills(rows):
    spilling = [row for row in rows if row["spill_bytes"]]
    assert not spilling, spilling


def test_the_table_for_people_has_the_same_rows():
    lines = report("--targets", "sm_90", "--channels", "16").splitlines()
    assert set(lines[0].split()) == COLUMNS
    assert sum("sm_90" in line for line in lines) == len(lines) - 1 >= 8
