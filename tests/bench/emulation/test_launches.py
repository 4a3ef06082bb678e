"""Launches are compiled and executed with tensors of PyTorch."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def found():
    """By a process of its own: in this one, Triton may interpret."""
    command = [sys.executable, "-m", "tests.bench.emulation.launching"]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_launch(found):
    name, grid, executed, sectors, to = found["right"]
    assert (name, grid) == ("scale", [2, 1, 1])
    assert to == [2 * i for i in range(100)]
    # 100 numbers of 4 bytes, and four warps that execute the same but in their last accesses.
    assert sectors == 13 and executed % 4 == 0 and 40 <= executed <= 400


def test_other_types_and_addresses(found):
    assert found["odd"][-1] == [2 * (i + 1) for i in range(100)]
    # 1.5 times the number, of 8 bits.
    assert found["half"][-1][:40] == [1.5 * i for i in range(40)]
    # A count of one becomes a part of the kernel.
    assert found["one"][-1] == [0]


def test_errors(found):
    assert found["outside"] == "MachineError: scale: accesses memory outside of its arguments"
    assert found["elsewhere"] == "ValueError: a tensor is not on the CPU, where launches are emulated"


def test_the_package_is_changed_for_a_while(found):
    assert found["replaced"] and found["restored"]


def test_with_the_interpreter_kernels_are_not_compiled():
    code = "from hvs.kernels.fused import launch; from bench.emulation.launches import emulated; emulated().__enter__()"
    env = os.environ | {"PYTHONPATH": str(ROOT), "TRITON_INTERPRET": "1"}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("RuntimeError: the kernels were imported with Triton's interpreter")
