"""The operators as PyTorch sees them, and on a GPU."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

import hvs
from hvs.kernels.fused import ops, programs
from tests.kernels.fused.rendering import NAMES, differentiate, render


def test_opcheck(single):
    inputs = single(5, 18, 9)
    leaves = [inputs[name].contiguous().requires_grad_() for name in NAMES]
    torch.library.opcheck(ops.rasterize, (*leaves, 0.025, 2.0, 1e-8, 1e-2, 1e-6))


def test_compiles_without_graph_breaks(single):
    inputs = single(12, 20, 20)
    leaves = {name: value.requires_grad_() for name, value in inputs.items()}
    wanted = render(leaves)
    gradients = torch.autograd.grad(wanted.square().sum(), list(leaves.values()))
    torch._dynamo.reset()
    latent = torch.compile(render, fullgraph=True, backend="aot_eager")(leaves)
    assert torch.equal(latent, wanted)
    for a, b in zip(torch.autograd.grad(latent.square().sum(), list(leaves.values())), gradients, strict=True):
        assert torch.allclose(a, b, rtol=1e-5, atol=1e-7)


def test_one_compiled_program_takes_any_sizes_and_numbers(single):
    """Numbers become symbols when a second value comes."""
    torch._dynamo.reset()
    compiled = torch.compile(render, fullgraph=True, backend="aot_eager", dynamic=True)
    for alpha, sizes in ((0.025, (5, 18, 20)), (0.03, (7, 33, 17)), (0.04, (0, 9, 9))):
        inputs = single(*sizes)
        assert torch.equal(compiled(inputs, alpha=alpha), render(inputs, alpha=alpha))


def test_backward_fills_nothing_that_nobody_reads(single):
    """By default PyTorch makes gradients of zeros for all that the forward pass keeps."""

    class Called(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, arguments=(), options=None):
            found.append(function)
            return function(*arguments, **options or {})

    inputs = {name: value.requires_grad_() for name, value in single(3, 8, 8).items()}
    latent = render(inputs)
    cotangent, found = torch.ones_like(latent), []
    with Called():
        torch.autograd.grad(latent, list(inputs.values()), cotangent)
    aten = {function for function in found if function.namespace == "aten"}
    assert torch.ops.hvs.rasterize_fused_backward.default in found and aten <= {torch.ops.aten.detach.default}


def test_no_gradient_of_the_latent_is_none_of_the_inputs(single):
    class Stop(torch.autograd.Function):
        @staticmethod
        def forward(ctx, latent):
            return latent.clone()

        @staticmethod
        def backward(ctx, gradient):
            return None

    inputs = {name: value.requires_grad_() for name, value in single(3, 8, 8).items()}
    Stop.apply(render(inputs)).sum().backward()
    assert all(value.grad is None for value in inputs.values())


def test_activation_checkpointing(single):
    inputs = {name: value.requires_grad_() for name, value in single(3, 8, 8).items()}
    checkpointed = checkpoint(render, inputs, use_reentrant=False)
    found = torch.autograd.grad(checkpointed.square().sum(), list(inputs.values()))
    wanted = torch.autograd.grad(render(inputs).square().sum(), list(inputs.values()))
    assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))


def test_double_backward_is_refused(single):
    inputs = single(3, 8, 8)
    inputs["means"].requires_grad_()
    (gradient,) = torch.autograd.grad(render(inputs).square().sum(), inputs["means"], create_graph=True)
    with pytest.raises(RuntimeError, match="second derivatives"):
        gradient.sum().backward()


def test_vmap_is_refused(single):
    inputs = single(3, 8, 8)
    with pytest.raises(ValueError, match="leading batch axes"):
        torch.func.vmap(lambda means: render(inputs | dict(means=means)))(inputs["means"])


def test_more_images_than_a_grid_has_are_refused(single):
    inputs = {name: v.expand(70_000, *v.shape[1:]) for name, v in single(1, 1, 1).items()}
    with pytest.raises(ValueError, match="batch: got 70000 images, wanted at most 65535 at once"):
        render(inputs)


def test_more_gaussians_than_are_numbered_are_refused(single, monkeypatch):
    monkeypatch.setattr(programs, "MOST_GAUSSIANS", 3)
    with pytest.raises(ValueError, match="means: got 4 Gaussians, wanted at most 3 per image"):
        render(single(4, 1, 1))


def test_more_pixels_than_are_numbered_are_refused(single, monkeypatch):
    monkeypatch.setattr(programs, "MOST_PIXELS", 11)
    with pytest.raises(ValueError, match="rays: got 12 of them, wanted at most 11 per image"):
        render(single(1, 3, 4))


def test_more_rows_of_tiles_than_a_grid_has_are_refused(single, monkeypatch):
    monkeypatch.setattr(programs, "MOST_ROWS", 2)
    with pytest.raises(ValueError, match="rays: got 33 rows of them, wanted at most 32"):
        render(single(1, 33, 1))
    assert render(single(1, 32, 1)).shape[-2:] == (32, 1)


def test_batched_gradients_are_refused(single):
    inputs = single(3, 8, 8)
    features = inputs["features"].requires_grad_()
    latent = render(inputs)
    with pytest.raises(RuntimeError, match="hvs.rasterize: got batched gradients, wanted one at a time"):
        torch.autograd.grad(latent, features, latent[None].expand(2, *latent.shape), is_grads_batched=True)


@pytest.mark.gpu
class TestOnGPU:
    def inputs(self, scene, **options):
        return {name: v.cuda() for name, v in scene(108, 128, 128, 16, (2,), dtype=torch.float32, **options).items()}

    def test_cuda_graph(self, scene):
        inputs = {name: value.requires_grad_() for name, value in self.inputs(scene).items()}
        cotangent = torch.randn(2, 16, 128, 128, device="cuda")

        def step():
            latent = render(inputs)
            return latent, *torch.autograd.grad(latent, list(inputs.values()), cotangent)

        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                step()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            captured = step()
        with torch.no_grad():
            for name, value in self.inputs(scene, seed=5).items():
                inputs[name].copy_(value)
        graph.replay()
        assert all(torch.equal(a, b) for a, b in zip(captured, step(), strict=True))

    def test_other_streams(self, scene):
        inputs = self.inputs(scene)
        wanted = differentiate(inputs)
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            found = differentiate(inputs)
        torch.cuda.current_stream().wait_stream(stream)
        assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))

    @pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
    def test_other_devices(self, scene):
        inputs = self.inputs(scene)
        found = differentiate({name: value.to("cuda:1") for name, value in inputs.items()})
        assert all(torch.equal(a.cpu(), b.cpu()) for a, b in zip(found, differentiate(inputs), strict=True))

    def test_nothing_waits_for_the_gpu(self, scene):
        inputs = self.inputs(scene)
        differentiate(inputs)
        torch.cuda.set_sync_debug_mode("error")
        try:
            leaves = {name: value.requires_grad_() for name, value in inputs.items()}
            latent = render(leaves)
            torch.autograd.grad(latent, list(leaves.values()), torch.ones_like(latent))
        finally:
            torch.cuda.set_sync_debug_mode("default")

    def test_512_pixels(self, scene, compare):
        compare(scene(108, 512, 512, 16, dtype=torch.float32), "triton", 5e-5, 1e-3, "cuda")

    def test_it_is_the_default(self, scene):
        inputs = self.inputs(scene)
        assert torch.equal(hvs.rasterize(**inputs), render(inputs))
