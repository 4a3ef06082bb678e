import subprocess
import sys

import pytest
import torch

import hvs
from hvs.kernels import backends


def run(code: str, **environment: str) -> str:
    """What a new process prints."""
    return subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, env=dict(PATH="", **environment)
    ).stdout


SCENE = """
import torch, hvs
inputs = dict(means=torch.tensor([[0, 0, 2.0]]), rotations=torch.eye(3)[None], scales=torch.full((1, 3), 0.1),
              features=torch.ones(1, 1), background=torch.zeros(1), rays=torch.tensor([[[0, 0, 1.0]]]))
"""


def test_on_a_cpu_triton_says_how_it_could_run():
    code = (
        SCENE
        + """
try:
    hvs.rasterize(**inputs, backend="triton")
except ValueError as error:
    print(error)
"""
    )
    assert "means is on cpu (TRITON_INTERPRET=1" in run(code)
    assert run(code, TRITON_INTERPRET="1") == ""


def test_without_triton():
    code = (
        "import sys; sys.modules['triton'] = None"
        + SCENE
        + """
print(hvs.rasterize(**inputs).item() > 0.5)
try:
    hvs.rasterize(**inputs, backend="triton")
except ValueError as error:
    print(error)
"""
    )
    assert run(code) == "True\nbackend: got 'triton', which needs the package triton, but it is not installed\n"


def test_double_precision_is_refused(scene):
    with pytest.raises(ValueError, match="float32, but means is float64"):
        hvs.rasterize(**scene(3, 4, 4), backend="triton")


def test_unknown_backends_are_refused(scene):
    with pytest.raises(ValueError, match="backend: got 'cuda', wanted one of auto, triton, torch, reference"):
        hvs.rasterize(**scene(3, 4, 4), backend="cuda")


class Means:
    """A tensor on a GPU, as far as the choice of a backend looks at it."""

    def __init__(self, dtype=torch.float32):
        self.dtype, self.device, self.is_cuda = dtype, torch.device("cuda:0"), True


@pytest.fixture
def old_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (6, 1))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "GeForce GTX 1080")
    monkeypatch.setattr("triton.knobs.runtime.interpret", False)
    for cached in (backends._find_obstacle, backends._notice):
        cached.cache_clear()
    yield
    for cached in (backends._find_obstacle, backends._notice):
        cached.cache_clear()


def test_an_old_gpu_falls_back_with_one_notice(old_gpu, recwarn):
    assert [backends.select("auto", Means()) for _ in range(3)] == ["torch"] * 3
    assert len(recwarn) == 1
    assert "GeForce GTX 1080 has 6.1" in str(recwarn[0].message)


def test_an_old_gpu_is_refused_if_triton_is_asked_for(old_gpu):
    with pytest.raises(ValueError, match=r"needs compute capability 8.0, but GeForce GTX 1080 has 6.1"):
        backends.select("triton", Means())


def test_a_gpu_takes_triton_for_single_precision(monkeypatch, recwarn):
    monkeypatch.setattr(backends, "_obstacle", lambda device: "")
    assert backends.select("auto", Means()) == "triton"
    assert backends.select("auto", Means(torch.bfloat16)) == "triton"
    assert backends.select("auto", Means(torch.float64)) == "torch"
    assert not recwarn
