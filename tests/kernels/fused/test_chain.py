"""From sums to gradients: the parts that few scenes show."""

import torch
import triton.language as tl

import hvs
from hvs.kernels.fused import chain

NAMES = ("means", "rotations", "scales", "rays")


def gradients(inputs, device, backend, dtype, **options):
    leaves = {name: value.detach().to(device, dtype).requires_grad_() for name, value in inputs.items()}
    latent = hvs.rasterize(**leaves, backend=backend, **options)
    return dict(zip(leaves, torch.autograd.grad(latent.sum(), list(leaves.values())), strict=True))


def test_the_path_through_the_largest_depth(scene, device, relative, monkeypatch):
    """Features alike and a background unlike them: what the background weighs is most of the gradient."""
    if device == "cpu":
        # The limb that shows is not among the tiles that are summed first.
        monkeypatch.setattr(chain, "TILES", tl.constexpr(1))
    inputs = scene(3, 20, 40, 2)
    inputs["means"][..., 2] = torch.tensor([1.0, 1.5, 2.0])
    inputs["features"] = torch.ones_like(inputs["features"])
    inputs["background"] = torch.zeros_like(inputs["background"])
    found = gradients(inputs, device, "triton", torch.float32)
    wanted = gradients(inputs, "cpu", "reference", torch.float64)
    without = gradients(inputs, "cpu", "reference", torch.float64, beta=0.0)
    for name in NAMES:
        assert relative(found[name], wanted[name]) < 1e-4, name
        assert relative(wanted[name], without[name]) > 1e-3, name
    assert relative(found["background"], wanted["background"]) < 1e-4


def test_clamped_inputs_have_no_gradient(scene, device):
    inputs = scene(6, 20, 20, 2)
    inputs["scales"][0, 0] = 1e-5
    inputs["rotations"][0, 1, :, 0] = 5.0
    inputs["means"][0, 2, 0] = 1e10
    inputs["rays"] = inputs["rays"].clone()
    inputs["rays"][0, 3, 3, 0] = -3.0
    found = gradients(inputs, device, "triton", torch.float32)
    assert (found["scales"][0, 0] == 0).all() and found["scales"][0, 3:].abs().amin() > 0
    assert (found["rotations"][0, 1, :, 0] == 0).all()
    assert found["means"][0, 2, 0] == 0
    assert found["rays"][0, 3, 3, 0] == 0
    assert all(value.isfinite().all() for value in found.values())
    # All along rays that are clamped, also the deepest response.
    inputs = scene(6, 20, 20, 2)
    inputs["means"][..., :2] = inputs["means"][..., 2:]
    inputs["rays"] = torch.full_like(inputs["rays"], 3.0)
    found = gradients(inputs, device, "triton", torch.float32)
    assert found["means"].abs().amax() > 0 and (found["rays"] == 0).all()
