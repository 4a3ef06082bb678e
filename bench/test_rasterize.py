"""The rasteriser under pytest-benchmark, to compare your own changes: `pytest bench --benchmark-autosave`."""

import pytest
import torch

import hvs

from .dense import dense_rasterize
from .floors import read_once, write_once
from .rasterize import Calls, Scene, check

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
SCENES = [Scene(), Scene(channels=64), Scene(height=64, width=64)] if DEVICE == "cpu" else [Scene(batch=32), Scene()]
PASSES = ("forward", "backward", "both")


@pytest.fixture(scope="module", params=SCENES, ids=str)
def scene(request):
    inputs = request.param.inputs(DEVICE)
    shape = request.param.batch, request.param.channels, request.param.height, request.param.width
    return inputs, torch.randn(shape, generator=torch.Generator().manual_seed(2)).to(DEVICE)


def time(benchmark, call):
    """Time the call, on a GPU until its work is done."""

    def run():
        call()
        if DEVICE == "cuda":
            torch.cuda.synchronize()

    benchmark.pedantic(run, rounds=10, warmup_rounds=2)


@pytest.mark.parametrize("name", PASSES)
def test_rasterize(benchmark, scene, name):
    calls = Calls.of(hvs.rasterize, *scene)
    check(calls, *scene, torch.float32)
    time(benchmark, getattr(calls, name))


@pytest.mark.parametrize("name", PASSES)
def test_dense(benchmark, scene, name):
    time(benchmark, getattr(Calls.of(dense_rasterize, *scene), name))


@pytest.mark.parametrize("name", ["write", "read"])
def test_floor(benchmark, scene, name):
    _, gradient = scene
    time(benchmark, dict(write=write_once(gradient), read=read_once(gradient, gradient.clone()))[name])
