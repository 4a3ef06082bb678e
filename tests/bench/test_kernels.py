import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench import kernels
from hvs.kernels.fused import launch

FUSED = Path(launch.__file__).parent


def test_all_that_is_launched_is_timed():
    launched = set()
    for node in ast.walk(ast.parse((FUSED / "launch.py").read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Subscript):
            launched.add(getattr(node.func.value, "attr", None))
    assert launched - {None} | {"pair_large"} == set(kernels.KERNELS)


@pytest.mark.parametrize("channels", [3, 16])
def test_variants_are_what_the_package_might_choose(channels):
    chosen = dict(blend_sizes=launch.blend_sizes(channels), gradient_sizes=launch.gradient_sizes(channels))
    seen = set()
    for title, values in kernels.variants(channels).items():
        for name, value in values.items():
            sizes = value(channels) if callable(value) else value
            with kernels.replaced(values):
                assert getattr(launch, name) is value, title
            if name in chosen:
                assert sizes.keys() == chosen[name].keys()
                seen.add(name) if sizes == chosen[name] else None
            else:
                assert type(sizes) is type(getattr(launch, name))
    # The package's own choice is among them.
    assert seen == set(chosen)


def test_without_a_gpu():
    hidden = os.environ | {"CUDA_VISIBLE_DEVICES": "", "HIP_VISIBLE_DEVICES": ""}
    done = subprocess.run([sys.executable, "-m", "bench.kernels"], capture_output=True, text=True, env=hidden)
    assert done.returncode == 1 and "needs a GPU" in done.stderr
