import sys
from types import SimpleNamespace

import pytest
import torch

from bench import gsplat_baseline
from bench.rasterize import Scene
from hvs.geometry import rotation_from_quaternion


@pytest.fixture
def given(monkeypatch):
    """What a rasteriser in the place of gsplat's is called with."""
    calls = []

    def rasterization(**arguments):
        calls.append(arguments)
        return torch.zeros(1, arguments["height"], arguments["width"], 3), None, None

    monkeypatch.setitem(sys.modules, "gsplat", SimpleNamespace(rasterization=rasterization))
    return calls


def test_the_same_ellipsoids_before_the_same_camera(given):
    inputs = Scene(height=12, width=20, count=7, channels=3).inputs("cpu")
    render, arguments = gsplat_baseline.prepare(inputs)
    assert render(**arguments).shape == (1, 12, 20, 3)
    (found,) = given
    assert all(value.requires_grad for value in arguments.values())
    # exp(-D/2) of these covariances is exp(-D/α) of ours.
    axes = rotation_from_quaternion(found["quats"]) * found["scales"][:, None]
    right = inputs["rotations"][0] * inputs["scales"][0][:, None]
    torch.testing.assert_close(axes @ axes.mT, right @ right.mT * gsplat_baseline.ALPHA / 2)
    # A pixel's middle is half a pixel from where its square begins.
    y, x = torch.meshgrid(torch.arange(12) + 0.5, torch.arange(20) + 0.5, indexing="ij")
    seen = torch.stack((x, y, torch.ones_like(x)), -1) @ found["Ks"][0].inverse().mT
    rays = inputs["rays"][0]
    torch.testing.assert_close(seen, rays / rays[..., 2:])


def test_only_single_images_of_float32_on_a_gpu(monkeypatch):
    monkeypatch.setattr(gsplat_baseline.importlib.util, "find_spec", lambda name: name)
    assert gsplat_baseline.fits(Scene(), "cuda")
    assert not gsplat_baseline.fits(Scene(batch=2), "cuda") and not gsplat_baseline.fits(Scene(), "cpu")
    assert not gsplat_baseline.fits(Scene(dtype=torch.bfloat16), "cuda")
    monkeypatch.setattr(gsplat_baseline.importlib.util, "find_spec", lambda name: None)
    assert not gsplat_baseline.fits(Scene(), "cuda")
