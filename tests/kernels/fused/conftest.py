"""The kernels run interpreted on the CPU where there is no GPU, and on the GPU where there is one."""

from dataclasses import replace
from functools import cache

import pytest
import torch

from hvs.kernels.fused import launch

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
    from triton.language import core
    from triton.runtime import interpreter

    prepare, scope = getattr(interpreter, "_patch_lang", None), getattr(interpreter, "_LangPatchScope", None)
    kinds, builder = getattr(interpreter, "_get_np_dtype", None), getattr(interpreter, "interpreter_builder", None)
    with pytest.MonkeyPatch.context() as patch:
        # It prepares triton.language anew for every call of a device function.
        if prepare and scope:

            def prepare_what_is_not(fn):
                modules = [v for v in fn.__globals__.values() if v is interpreter.tl or v is core]
                return prepare(fn) if any(core.is_builtin(module.load) for module in modules) else scope()

            patch.setattr(interpreter, "_patch_lang", prepare_what_is_not)
        # It writes a table of all types to look one up.
        if kinds:
            looked_up = cache(kinds)

            def look_up(kind):
                return kinds(kind) if kind.scalar.is_ptr() else looked_up(kind.scalar)

            patch.setattr(interpreter, "_get_np_dtype", look_up)
        # It repeats every operation of integers in 64 bits, and then looks at the result in its debug mode only.
        if builder and not builder.options.debug:
            patch.setattr(builder, "options", replace(builder.options, sanitize_overflow=False))
        yield


@pytest.fixture
def cut_as_launched():
    """For tests of the programs' real sizes."""


@pytest.fixture(autouse=True)
def cut_coarsely(request, monkeypatch):
    """Interpreted, a program takes as long whatever its size: few large ones are several times faster."""
    if ON_GPU or "cut_as_launched" in request.fixturenames:
        return
    blend_sizes, gradient_sizes = launch.blend_sizes, launch.gradient_sizes
    monkeypatch.setattr(launch, "blend_sizes", lambda channels: blend_sizes(channels) | dict(PIXELS=256, GROUP=16))
    monkeypatch.setattr(launch, "gradient_sizes", lambda channels: gradient_sizes(channels) | dict(PIXELS=256))
    monkeypatch.setattr(launch, "RAY_GRADIENT_SIZES", dict(GROUP=16))
    monkeypatch.setattr(launch, "GRADIENT_PROGRAMS", 64)


@pytest.fixture
def single(scene, device):
    """Scenes in float32 on the device."""

    def make(*arguments, **options):
        return {name: v.to(device) for name, v in scene(*arguments, dtype=torch.float32, **options).items()}

    return make
