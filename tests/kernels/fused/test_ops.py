"""The Triton backend as a whole: latent, gradients, and how PyTorch sees it."""

import math

import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import hvs
from hvs.kernels.fused import launch, ops

NAMES = ("means", "rotations", "scales", "features", "background", "rays")
GEOMETRY = ("means", "rotations", "scales", "rays")
# Relative errors in float32 that the project promises.
FORWARD, BACKWARD = 5e-5, 1e-3


@pytest.fixture
def single(scene, device):
    """Scenes in float32 on the device."""

    def make(*arguments, **options):
        return {name: v.to(device) for name, v in scene(*arguments, dtype=torch.float32, **options).items()}

    return make


def render(inputs, **options):
    return hvs.rasterize(**inputs, backend="triton", **options)


def differentiate(inputs, **options):
    """The latent of random features, and the gradients of everything."""
    leaves = {name: value.detach().requires_grad_() for name, value in inputs.items()}
    latent = render(leaves, **options)
    # The same numbers whatever the type.
    cotangent = torch.randn(latent.shape, generator=torch.Generator().manual_seed(2)).bfloat16().to(latent)
    return latent.detach(), *torch.autograd.grad(latent, list(leaves.values()), cotangent)


@pytest.mark.parametrize(
    ("count", "height", "width"),
    [
        (0, 7, 33),
        (1, 1, 1),
        (1, 33, 7),
        (15, 7, 33),
        (17, 64, 48),
        (108, 33, 7),
        (108, 64, 48),
        (700, 7, 33),
    ],
    ids=str,
)
def test_latent_and_all_gradients(scene, compare, device, count, height, width):
    inputs = scene(count, height, width, channels=5, dtype=torch.float32)
    compare(inputs, "triton", FORWARD, BACKWARD, device)


@pytest.mark.parametrize(
    ("channels", "batch"), [(1, ()), (3, (3,)), (16, (1,)), (24, (3,)), (65, ()), (130, (1,))], ids=str
)
def test_channels_and_batches(scene, compare, device, channels, batch):
    compare(scene(20, 20, 37, channels, batch, dtype=torch.float32), "triton", FORWARD, BACKWARD, device)


@pytest.mark.parametrize("size", [(0.002, 0.01), (0.01, 0.3), (0.5, 3.0)], ids=["specks", "limbs", "covering all"])
def test_sizes(scene, compare, device, size):
    inputs = scene(40, 50, 40, 4, dtype=torch.float32, smallest=size[0], largest=size[1])
    compare(inputs, "triton", FORWARD, BACKWARD, device)


def test_panoptic_pose(compare, device, cut_as_launched):
    skeleton = hvs.skeletons.PANOPTIC
    generator = torch.Generator().manual_seed(3)
    points = torch.randn(1, len(skeleton.joints), 3, generator=generator) * 0.1 + torch.tensor([0.1, 0.0, 2.5])
    means, rotations, scales = hvs.limb_gaussians(points, skeleton)
    K = torch.tensor([[90.0, 0, 48], [0, 90.0, 40], [0, 0, 1]])
    rays = hvs.Camera(K, torch.eye(3), torch.zeros(3), torch.zeros(0), 80, 96).rays()[None]
    features = torch.randn(1, len(skeleton.edges), 16, generator=generator)
    background = torch.randn(1, 16, generator=generator)
    inputs = dict(zip(NAMES, (means, rotations, scales, features, background, rays), strict=True))
    compare(inputs, "triton", FORWARD, BACKWARD, device)


@settings(
    max_examples=200 if torch.cuda.is_available() else 10,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # interpreted kernels are too slow to look for less
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    st.integers(0, 2**20),
    st.integers(0, 30),
    st.integers(1, 30),
    st.integers(1, 30),
    st.floats(0.004, 1.0),  # metres; of thinner Gaussians float32 does not resolve the edge at this depth
    st.floats(1.0, 100.0),
)
def test_random_scenes(scene, compare, device, seed, count, height, width, smallest, ratio):
    largest = smallest * ratio
    inputs = scene(count, height, width, 3, (2,), seed, torch.float32, smallest, largest)
    compare(inputs, "triton", 1e-4, 3e-3, device)


def test_large_scenes_have_lists_of_their_own(scene, compare, device, monkeypatch):
    monkeypatch.setattr(launch, "SMALL_PAIRS", 0)
    monkeypatch.setattr(launch, "SEARCH_PAIRS", 0)
    monkeypatch.setattr(launch, "SURVEYED", 128)
    # Two by nine tiles are two cells.
    inputs = scene(130, 20, 140, 3, (2,), dtype=torch.float32, smallest=0.02, largest=0.05)
    compare(inputs, "triton", FORWARD, BACKWARD, device)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_features(single, relative, dtype, cut_as_launched):
    inputs = single(17, 20, 33, 16)
    half = inputs | {name: inputs[name].to(dtype) for name in ("features", "background")}
    rounded = inputs | {name: half[name].float() for name in ("features", "background")}
    latent, *gradients = differentiate(half)
    wanted, *expected = differentiate(rounded)
    assert latent.dtype == dtype
    unit = torch.finfo(dtype).eps
    assert relative(latent, wanted) < unit
    for name, found, right in zip(NAMES, gradients, expected, strict=True):
        assert found.dtype == half[name].dtype
        # The gradient takes the latent as it was rounded.
        assert relative(found, right) < 8 * unit, name


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_geometry_is_computed_in_single_precision(single, relative, dtype):
    inputs = {name: value.to(dtype) for name, value in single(12, 20, 20).items()}
    latent, *gradients = differentiate(inputs)
    wanted, *expected = differentiate({name: value.float() for name, value in inputs.items()})
    assert relative(latent, wanted) < torch.finfo(dtype).eps
    for name, found, right in zip(NAMES, gradients, expected, strict=True):
        assert found.dtype == dtype
        assert relative(found, right) < 8 * torch.finfo(dtype).eps, name


def test_autocast_changes_nothing(single, device):
    inputs = single(9, 20, 18)
    wanted = differentiate(inputs)
    with torch.autocast(device, torch.bfloat16):
        found = differentiate(inputs)
    assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))


def test_the_bits_are_the_same_in_every_run(single):
    inputs = single(20, 20, 36, 16, batch=(2,))
    first = differentiate(inputs)
    assert all(torch.equal(a, b) for a, b in zip(differentiate(inputs), first, strict=True))


@pytest.mark.parametrize("batch", [(), (1,), (2, 1, 2), (0,)], ids=str)
def test_any_number_of_batch_axes(single, batch):
    inputs = single(batch=batch, count=5, height=7, width=9)
    latent = render(inputs)
    assert latent.shape == (*batch, 3, 7, 9)
    flat = {name: value.reshape(math.prod(batch), *value.shape[len(batch) :]) for name, value in inputs.items()}
    for i, image in enumerate(latent.reshape(math.prod(batch), 3, 7, 9)):
        assert torch.equal(image, render({name: value[i] for name, value in flat.items()}))


def test_batch_axes_broadcast(single, relative):
    inputs = single(batch=(2,), count=5, height=6, width=6)
    one_view = inputs | dict(rays=inputs["rays"][0], background=inputs["background"][0])
    copied = one_view | {
        name: one_view[name].expand(2, *one_view[name].shape).clone() for name in ("rays", "background")
    }
    (latent, *gradients), (wanted, *expected) = differentiate(one_view), differentiate(copied)
    assert torch.equal(latent, wanted)
    for name, found, right in zip(NAMES, gradients, expected, strict=True):
        assert relative(found, right if found.shape == right.shape else right.sum(0)) < 1e-6, name


def test_inputs_need_not_be_contiguous(single):
    inputs = single(9, 20, 18)
    strided = {name: value.mT.contiguous().mT if value.ndim > 2 else value for name, value in inputs.items()}
    assert not strided["rotations"].is_contiguous()
    assert all(torch.equal(a, b) for a, b in zip(differentiate(strided), differentiate(inputs), strict=True))
    leaf = inputs["features"].requires_grad_()
    latent = render(inputs)
    latent.sum().backward()  # the gradient of a sum is one number, expanded
    assert leaf.grad.isfinite().all()


def test_gaussians_behind_the_camera_do_not_exist(single):
    inputs = single(count=6, height=8, width=8)
    inputs["scales"] = torch.full_like(inputs["scales"], 0.2)
    inputs["means"] *= 0.2
    inputs["means"][..., 2] = torch.tensor([2.0, -2.0, 3.0, 0.0099, 2.5, -1e-3])
    there = [0, 2, 4]
    alone = {n: v[:, there] if n in ("means", "rotations", "scales", "features") else v for n, v in inputs.items()}
    latent, *gradients = differentiate(inputs)
    assert torch.allclose(latent, render(alone), rtol=1e-5)
    for name, gradient in zip(NAMES[:4], gradients[:4], strict=True):
        assert gradient[:, there].abs().amax() > 0, name
        assert (gradient[:, [1, 3, 5]] == 0).all(), name


def test_nothing_visible_is_the_background(single):
    inputs = single(count=3, height=4, width=4)
    inputs["means"][..., 2] = -1.0
    latent, *gradients = differentiate(inputs)
    assert torch.allclose(latent, inputs["background"][..., None, None].expand_as(latent))
    assert all(gradient.isfinite().all() for gradient in gradients)


@pytest.mark.parametrize(
    "extreme",
    [
        dict(means=1e30),
        dict(means=-1e30),
        dict(means=0.0),
        dict(scales=1e-30),
        dict(scales=1e30),
        dict(rotations=0.0),
        dict(rotations=1e30),
        dict(features=1e38),
        dict(rays=0.0),
        dict(rays=1e30),
        dict(rays=-1.0),
        dict(means=1e30, scales=1e30),
        dict(means=1e30, scales=1e-30, rotations=-1e30),
    ],
    ids=str,
)
def test_finite_input_never_gives_nan(single, extreme):
    inputs, mixed = single(count=7, height=9, width=18), single(count=7, height=9, width=18)
    for name, value in extreme.items():
        inputs[name] = torch.full_like(inputs[name], value)
        mixed[name] = mixed[name].clone()
        mixed[name][:, 0] = value
    assert not render(inputs).isnan().any()
    assert not render(mixed).isnan().any()


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("name", NAMES)
def test_what_is_not_finite_stays_in_its_image(single, name, value):
    inputs = single(6, 9, 18, batch=(2,))
    wanted = [v[1] for v in differentiate(inputs)]
    inputs[name] = inputs[name].clone()
    inputs[name][0].view(-1)[::5] = value
    assert all(torch.equal(found[1], right) for found, right in zip(differentiate(inputs), wanted, strict=True))


def test_every_pixel_and_gradient_is_written(single, monkeypatch):
    """Whatever was in the memory that the outputs get."""
    inputs = single(12, 20, 35, 5)
    wanted = differentiate(inputs)

    def poisoned(self, *arguments, **options):
        made = new_empty(self, *arguments, **options)
        return made.fill_(math.nan if made.is_floating_point() else 2**30)

    new_empty = torch.Tensor.new_empty
    monkeypatch.setattr(torch.Tensor, "new_empty", poisoned)
    assert all(torch.equal(a, b) for a, b in zip(differentiate(inputs), wanted, strict=True))


@pytest.mark.parametrize("with_rays", [False, True])
def test_the_gradient_of_rays_is_only_computed_where_wanted(single, with_rays):
    inputs = single(5, 16, 16)
    inputs["features"].requires_grad_()
    inputs["rays"] = inputs["rays"].clone().requires_grad_(with_rays)
    render(inputs).sum().backward()
    assert (inputs["rays"].grad is not None) == with_rays


def test_options_are_those_of_the_reference(scene, compare, device):
    inputs = scene(9, 20, 20, 3, dtype=torch.float32)
    compare(inputs, "triton", FORWARD, BACKWARD, device, eps=10.0)
    compare(inputs, "triton", FORWARD, BACKWARD, device, eps=1e-3)
    compare(inputs, "triton", FORWARD, BACKWARD, device, alpha=0.4, beta=0.0, near=2.0, tolerance=0.0)


def test_skipped_pairs_stay_within_the_stated_bound(single):
    inputs = single(30, 32, 32, 4, smallest=0.02)
    exact = render(inputs, tolerance=0.0)
    largest = max(inputs["features"].abs().max(), inputs["background"].abs().max()).item()
    for tolerance in (1e-1, 1e-2):
        error = (render(inputs, tolerance=tolerance) - exact).abs().max().item()
        assert 0 < error <= 30 * tolerance * 2 * largest


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


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
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
        compare(scene(108, 512, 512, 16, dtype=torch.float32), "triton", FORWARD, BACKWARD, "cuda")

    def test_it_is_the_default(self, scene):
        inputs = self.inputs(scene)
        assert torch.equal(hvs.rasterize(**inputs), render(inputs))
