"""The script, with something that stands in for Python on a machine with a GPU."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "bench" / "on_gpu.sh"
# Knows the GPU's name, has all packages, and fails at the first scene of the kernels and in the memory checks.
STANDIN = """#!/bin/sh
case "$*" in
  *get_device_name*) echo nvidia-h200 ;;
  *import*) ;;
  *"bench.kernels --sweep"*) echo "$*" >> "$CALLED"; exit 1 ;;
  *) echo "$*" >> "$CALLED"; echo "ran $2" ;;
esac
"""
SANITIZER = """#!/bin/sh
echo "sanitizer $2" >> "$CALLED"; exit 1
"""


@pytest.fixture
def run(tmp_path):
    for name, text in ("standin", STANDIN), ("compute-sanitizer", SANITIZER):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    (tmp_path / "called").touch()
    environment = dict(PYTHON=str(tmp_path / "standin"), CALLED=str(tmp_path / "called"), COMMIT="0123abc")
    environment |= dict(RESULTS=str(tmp_path / "results"), PATH=f"{tmp_path}:{os.environ['PATH']}")

    def call(*steps, **more):
        done = subprocess.run(
            ["bash", SCRIPT, *steps], capture_output=True, text=True, env=os.environ | environment | more
        )
        return done, (tmp_path / "called").read_text().splitlines()

    return call


def test_a_step_that_fails_stops_no_other(run, tmp_path):
    done, called = run()
    assert done.returncode == 1
    steps = [line for line in done.stdout.splitlines() if line.startswith("==")]
    assert steps[:5] == ["== tests", "== sanitizer", "== sanitizer: failed", "== kernels", "== kernels: failed"]
    assert steps[5:] == [f"== {name}" for name in ("host", "rasterize", "train_step", "train_step_saving", "inference")]
    # Nor does the first half of a step the second.
    assert {"sanitizer memcheck", "sanitizer racecheck"} <= set(called)
    assert sum("bench.kernels" in line for line in called) == 2
    assert (tmp_path / "results" / "nvidia-h200.log").read_text() == done.stdout


def test_only_the_steps_that_are_named(run):
    done, called = run("host")
    assert done.returncode == 0 and called == ["-m bench.host"] and done.stdout == "== host\nran bench.host\n"


def test_an_unknown_step_is_named_before_any_other_runs(run, tmp_path):
    done, called = run("host", "kernel")
    assert done.returncode == 2 and not called and not (tmp_path / "results").exists()
    assert done.stderr.startswith("got kernel, wanted some of: tests sanitizer kernels")


def test_without_a_gpu(run):
    done, _ = run("host", PYTHON=sys.executable, CUDA_VISIBLE_DEVICES="", HIP_VISIBLE_DEVICES="")
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1
    assert "has no torch that finds a GPU: " in done.stderr
