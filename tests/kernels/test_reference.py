import subprocess
import sys

import pytest
import torch

import hvs
from hvs.kernels import reference

NAMES = ("means", "rotations", "scales", "features", "background", "rays")


@pytest.mark.parametrize(("count", "height", "width"), [(1, 1, 1), (3, 2, 3), (4, 3, 2)])
def test_gradcheck(scene, count, height, width):
    inputs = scene(count=count, height=height, width=width, channels=2, smallest=0.1)
    inputs["means"][..., 2].clamp_(min=1.0)
    leaves = [inputs[name].clone().requires_grad_() for name in NAMES]
    assert torch.autograd.gradcheck(lambda *v: hvs.rasterize(*v, backend="reference"), leaves, eps=1e-7, atol=1e-6)


def test_chunks_do_not_show(scene, monkeypatch):
    leaves = {name: value.requires_grad_() for name, value in scene(count=5, height=11, width=7, batch=(2,)).items()}
    whole = hvs.rasterize(**leaves, backend="reference")
    gradients = torch.autograd.grad(whole.square().sum(), list(leaves.values()))
    monkeypatch.setattr(reference, "PAIRS_PER_CHUNK", 2 * 5 * 9)
    chunked = hvs.rasterize(**leaves, backend="reference")
    assert torch.allclose(chunked, whole, rtol=1e-12)
    for a, b in zip(torch.autograd.grad(chunked.square().sum(), list(leaves.values())), gradients, strict=True):
        assert torch.allclose(a, b, rtol=1e-9, atol=1e-9)


def test_response_is_the_closest_approach_in_whitened_space(scene):
    """z minimises |B (z r - μ)|² and D is that minimum."""
    inputs = scene(count=4, height=3, width=3)
    rays = inputs["rays"].flatten(1, 2)
    z, D, q = reference.response(inputs["means"], inputs["rotations"], inputs["scales"], rays)
    whiten = inputs["rotations"].mT / inputs["scales"][..., None]

    def distance(depth):
        offset = depth[..., None] * rays[:, :, None] - inputs["means"][:, None]
        return torch.einsum("bnij,bpnj->bpni", whiten, offset).square().sum(-1)

    assert torch.allclose(distance(z), D)
    assert (distance(z + 1e-3) > D).all() and (distance(z - 1e-3) > D).all()
    assert torch.allclose(distance(z + 0.1) - D, 0.01 * q)


def test_ties_of_the_farthest_go_to_the_lowest_index():
    means = torch.tensor([[[0.0, 0.0, 1.0], [0.0, 0.0, 2.0], [0.0, 0.0, 2.0]]])
    rotations, scales = torch.eye(3).expand(1, 3, 3, 3), torch.full((1, 3, 3), 0.1)
    rays = torch.tensor([0.0, 0.0, 1.0]).expand(1, 2, 2, 3)
    assert reference.farthest(means, rotations, scales, rays, torch.ones(1, 3, dtype=torch.bool)).tolist() == [1]
    assert reference.farthest(means, rotations, scales, rays, torch.tensor([[True, False, True]])).tolist() == [2]


def test_memory_is_that_of_a_chunk_and_not_of_the_image():
    """Four times the pixels cost the latent and its gradient more, not four times the intermediates."""
    code = """
import resource, torch, hvs
means = (torch.rand(200, 3) + torch.tensor([-0.5, -0.5, 2.0])).requires_grad_()
geometry = means, torch.eye(3).expand(200, 3, 3), torch.full((200, 3), 0.02)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for size in (64, 128):
    K = torch.tensor([[500.0, 0, size / 2], [0, 500.0, size / 2], [0, 0, 1]])
    rays = hvs.Camera(K, torch.eye(3), torch.zeros(3), torch.zeros(0), size, size).rays()
    latent = hvs.rasterize(*geometry, torch.rand(200, 3), torch.zeros(3), rays, backend="reference")
    (gradient,) = torch.autograd.grad(latent.sum(), means)
    assert gradient.abs().sum() > 0
    # In MiB, the most so far.
    print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    small, large = map(float, said.split())
    # Densely, one intermediate of the larger image alone would take 128² · 200 · 4 B = 12 MiB, and there are dozens.
    assert small < 200
    assert large < small + 20


def test_second_derivatives_are_refused(scene):
    inputs = scene(count=3, height=4, width=5)
    means = inputs["means"].requires_grad_()
    latent = hvs.rasterize(**inputs, backend="reference")
    (gradient,) = torch.autograd.grad(latent.square().sum(), means, create_graph=True)
    with pytest.raises(RuntimeError, match="second derivatives"):
        torch.autograd.grad(gradient.sum(), means)


def test_autocast_changes_no_gradient(scene):
    inputs = {name: value.float().requires_grad_() for name, value in scene(count=5, height=9, width=8).items()}
    latent = hvs.rasterize(**inputs, backend="reference")
    wanted = torch.autograd.grad(latent.sum(), list(inputs.values()), retain_graph=True)
    with torch.autocast("cpu", torch.bfloat16):
        found = torch.autograd.grad(latent.sum(), list(inputs.values()))
    assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))
