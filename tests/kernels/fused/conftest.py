"""The kernels run interpreted on the CPU where there is no GPU, and on the GPU where there is one."""

import pytest
import torch

from hvs.kernels.fused import programs

ON_GPU = torch.cuda.is_available()


@pytest.fixture(
    params=[
        pytest.param("cpu", marks=pytest.mark.skipif(ON_GPU, reason="the GPU runs the kernels uninterpreted")),
        pytest.param("cuda", marks=pytest.mark.gpu),
    ]
)
def device(request):
    return request.param


@pytest.fixture(scope="session", autouse=True)
def quick_interpreter():
    """Leave out of Triton's interpreter what takes much of its time and changes nothing."""
    if ON_GPU:
        yield
        return
    from tests.kernels.fused.interpreter import quick

    with quick():
        yield


@pytest.fixture
def cut_as_launched():
    """For tests of the programs' real sizes."""


@pytest.fixture(autouse=True)
def cut_coarsely(request, monkeypatch):
    """Interpreted, a program takes as long whatever its size: few large ones are several times faster."""
    if ON_GPU or "cut_as_launched" in request.fixturenames:
        return
    blend_sizes, gradient_sizes = programs.blend_sizes, programs.gradient_sizes
    monkeypatch.setattr(programs, "blend_sizes", lambda channels: blend_sizes(channels) | dict(PIXELS=256, GROUP=16))
    monkeypatch.setattr(programs, "gradient_sizes", lambda channels: gradient_sizes(channels) | dict(PIXELS=256))
    monkeypatch.setattr(programs, "BACKGROUND_GRADIENT_SIZES", dict(CHANNELS=16))
    monkeypatch.setattr(programs, "RAY_GRADIENT_SIZES", programs.RAY_GRADIENT_SIZES | dict(GROUP=16))
    monkeypatch.setattr(programs, "GRADIENT_PROGRAMS", 64)


@pytest.fixture
def single(scene, device):
    """Scenes in float32 on the device."""

    def make(*arguments, **options):
        return {name: v.to(device) for name, v in scene(*arguments, dtype=torch.float32, **options).items()}

    return make
