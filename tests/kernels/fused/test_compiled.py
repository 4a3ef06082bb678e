"""The kernels as they are compiled for GPUs, with the layouts, shuffles and barriers that the compiler chooses."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import hvs
from tests.kernels.fused.compiled import CASES

# Relative errors in float32 that the project promises.
FORWARD, BACKWARD = 5e-5, 1e-3
ROOT = Path(__file__).parents[3]
# Most of the time is the compiler's.
PROCESSES = 2


@pytest.fixture(scope="module")
def rendered(tmp_path_factory):
    """Latents and gradients of all cases, by processes of their own, because in this one Triton may interpret."""
    folder = tmp_path_factory.mktemp("compiled")
    files = [folder / f"{i}.pt" for i in range(PROCESSES)]
    command = [sys.executable, "-m", "tests.kernels.fused.compiled"]
    options = dict(cwd=ROOT, stderr=subprocess.PIPE, text=True)
    options["env"] = os.environ | {"PYTHONPATH": str(ROOT), "TRITON_INTERPRET": "0"}
    runs = [subprocess.Popen([*command, file, str(i), str(PROCESSES)], **options) for i, file in enumerate(files)]
    errors = [run.communicate()[1] for run in runs]
    assert not any(run.returncode for run in runs), "\n".join(errors)
    found = {}
    for file in files:
        found |= torch.load(file)
    return found


@pytest.mark.parametrize("case", CASES, ids=str)
def test_against_the_reference(rendered, relative, case):
    found = rendered[str(case)]
    assert not isinstance(found, str), found
    inputs = case.inputs()
    double = {name: value.double().requires_grad_() for name, value in inputs.items()}
    wanted = hvs.rasterize(**double, backend="reference")
    shown = (wanted - double["background"][..., None, None]).abs().amax((1, 2, 3))
    assert (shown > 0.1).all() or not case.count
    gradients = torch.autograd.grad(wanted, list(double.values()), case.cotangent().double())
    expected = dict(zip(double, gradients, strict=True))
    unit = 0.0 if case.dtype == torch.float32 else torch.finfo(case.dtype).eps
    assert found["latent"].dtype == case.dtype
    assert relative(found["latent"], wanted) <= max(FORWARD, unit)
    assert found.keys() - {"latent"} == expected.keys()
    for name, right in expected.items():
        assert found[name].dtype == inputs[name].dtype
        assert found[name].isfinite().all(), name
        # The gradient takes the latent as it was rounded.
        assert relative(found[name], right) <= max(BACKWARD, 8 * unit), name
