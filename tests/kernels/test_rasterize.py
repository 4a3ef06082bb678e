import math

import numpy as np
import pytest
import torch
from torch.utils.checkpoint import checkpoint

import hvs

BACKENDS = ["reference", "torch"]


@pytest.mark.parametrize("backend", BACKENDS)
def test_one_gaussian_has_the_value_of_the_formula(backend):
    """A sphere of deviation s on the axis: every number of the pixel in the middle can be written down."""
    s, depth, alpha, beta = 0.1, 2.0, 0.025, 2.0
    rays = torch.tensor([[[0.0, 0.0, 1.0]], [[0.0, 0.6, 0.8]]], dtype=torch.float64)  # [2, 1, 3]
    latent = hvs.rasterize(
        torch.tensor([[0.0, 0.0, depth]]).double(),
        torch.eye(3).double()[None],
        torch.full((1, 3), s).double(),
        torch.tensor([[1.0]]).double(),
        torch.tensor([0.0]).double(),
        rays,
        backend=backend,
    )
    peak = 0.5 * math.sqrt(math.pi * alpha) * s
    w = peak / (1 + depth**4)
    w_background = 0.5 * math.sqrt(math.pi * alpha * 0.01) / (1 + (beta * depth) ** 4)
    assert latent.shape == (1, 2, 1)
    assert latent[0, 0, 0].item() == pytest.approx(w / (w + w_background), rel=1e-9)
    # The other ray passes the mean at depth 1.6 and at a distance of 1.2 m, 12 deviations.
    assert latent[0, 1, 0].item() == pytest.approx(0.0, abs=1e-20)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("batch", [(), (1,), (3,), (2, 1, 2), (0,)], ids=str)
def test_any_number_of_batch_axes(scene, backend, batch):
    inputs = scene(batch=batch, count=5, height=7, width=9)
    latent = hvs.rasterize(**inputs, backend=backend)
    assert latent.shape == (*batch, 3, 7, 9)
    flat = {name: value.reshape(math.prod(batch), *value.shape[len(batch) :]) for name, value in inputs.items()}
    for i, image in enumerate(latent.reshape(math.prod(batch), 3, 7, 9)):
        alone = hvs.rasterize(**{name: value[i] for name, value in flat.items()}, backend=backend)
        assert torch.allclose(image, alone, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("backend", BACKENDS)
def test_batch_axes_broadcast(scene, backend):
    inputs = scene(batch=(2,), count=5, height=6, width=6)
    one_view = inputs | dict(rays=inputs["rays"][0], background=inputs["background"][0])
    expanded = one_view | dict(
        rays=one_view["rays"].expand(2, -1, -1, -1), background=one_view["background"].expand(2, -1)
    )
    assert torch.equal(hvs.rasterize(**one_view, backend=backend), hvs.rasterize(**expanded, backend=backend))
    background = one_view["background"].clone().requires_grad_()
    hvs.rasterize(**(one_view | dict(background=background)), backend=backend).sum().backward()
    assert background.grad.shape == (3,)


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_empty_scene_is_the_background(scene, backend):
    inputs = scene(count=0, height=5, width=6, channels=4)
    inputs["background"].requires_grad_()
    latent = hvs.rasterize(**inputs, backend=backend)
    wanted = inputs["background"][..., None, None].expand(1, 4, 5, 6)
    assert torch.allclose(latent, wanted)
    latent.sum().backward()
    assert torch.allclose(inputs["background"].grad, torch.full((1, 4), 30.0).double())


@pytest.mark.parametrize("backend", BACKENDS)
def test_no_channels_are_an_empty_image(scene, backend):
    inputs = {name: value.float() for name, value in scene(3, 8, 9, 0).items()}
    assert hvs.rasterize(**inputs, backend=backend).shape == (1, 0, 8, 9)


@pytest.mark.parametrize("backend", BACKENDS)
def test_gaussians_behind_the_camera_do_not_exist(scene, backend):
    inputs = scene(count=6, height=8, width=8)
    inputs["means"] *= 0.2
    inputs["means"][..., 2] = torch.tensor([2.0, -2.0, 3.0, 0.0099, 2.5, -1e-3]).double()
    there = [0, 2, 4]
    alone = {n: v[:, there] if n in ("means", "rotations", "features") else v for n, v in inputs.items()}
    # κ looks at the scales of all Gaussians, so they must not differ here.
    inputs["scales"], alone["scales"] = torch.full((1, 6, 3), 0.2).double(), torch.full((1, 3, 3), 0.2).double()
    leaves = {name: value.requires_grad_() for name, value in inputs.items()}
    latent = hvs.rasterize(**leaves, backend=backend)
    assert torch.allclose(latent, hvs.rasterize(**alone, backend=backend), rtol=1e-12)
    gradients = torch.autograd.grad(latent.square().sum(), [leaves["means"], leaves["features"], leaves["scales"]])
    for gradient in gradients:
        assert gradient[:, there].abs().amin() > 0
        assert torch.equal(gradient[:, [1, 3, 5]], torch.zeros_like(gradient[:, [1, 3, 5]]))


@pytest.mark.parametrize("backend", BACKENDS)
def test_nothing_visible_is_the_background(scene, backend):
    inputs = scene(count=3, height=4, width=4)
    inputs["means"][..., 2] = -1.0
    latent = hvs.rasterize(**inputs, backend=backend)
    assert torch.allclose(latent, inputs["background"][..., None, None].expand_as(latent))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_features_keep_their_dtype_and_geometry_its_precision(scene, backend, dtype):
    inputs = scene(dtype=torch.float32)
    half = inputs | dict(features=inputs["features"].to(dtype), background=inputs["background"].to(dtype))
    latent = hvs.rasterize(**half, backend=backend)
    assert latent.dtype == dtype
    wanted = hvs.rasterize(**{name: value.float() for name, value in half.items()}, backend=backend)
    assert torch.equal(latent, wanted.to(dtype))


@pytest.mark.parametrize("backend", BACKENDS)
def test_autocast_changes_nothing(scene, backend):
    leaves = {name: value.requires_grad_() for name, value in scene(dtype=torch.float32).items()}
    wanted = hvs.rasterize(**leaves, backend=backend)
    gradients = torch.autograd.grad(wanted.square().sum(), list(leaves.values()))
    with torch.autocast("cpu", torch.bfloat16):
        latent = hvs.rasterize(**leaves, backend=backend)
    assert torch.equal(latent, wanted)
    for a, b in zip(torch.autograd.grad(latent.square().sum(), list(leaves.values())), gradients, strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("backend", BACKENDS)
def test_activation_checkpointing(scene, backend):
    inputs = {name: value.requires_grad_() for name, value in scene(count=5, height=7, width=9).items()}
    checkpointed = checkpoint(lambda: hvs.rasterize(**inputs, backend=backend), use_reentrant=False)
    found = torch.autograd.grad(checkpointed.square().sum(), list(inputs.values()))
    wanted = torch.autograd.grad(hvs.rasterize(**inputs, backend=backend).square().sum(), list(inputs.values()))
    assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))


@pytest.mark.parametrize("backend", BACKENDS)
def test_inputs_need_not_be_contiguous(scene, backend):
    inputs = scene()
    wanted = hvs.rasterize(**inputs, backend=backend)
    strided = {name: value.mT.contiguous().mT if value.ndim > 2 else value for name, value in inputs.items()}
    assert not strided["rotations"].is_contiguous()
    assert torch.allclose(hvs.rasterize(**strided, backend=backend), wanted, rtol=1e-12)
    expanded = inputs | dict(features=inputs["features"][:, :1].expand_as(inputs["features"]))
    assert hvs.rasterize(**expanded, backend=backend).isfinite().all()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_finite_input_never_gives_nan(scene, backend, dtype, extreme):
    inputs = scene(dtype=dtype, count=7, height=9, width=18)
    for name, value in extreme.items():
        inputs[name] = torch.full_like(inputs[name], value)
    latent = hvs.rasterize(**inputs, backend=backend)
    assert not latent.isnan().any()
    mixed = scene(dtype=dtype, count=7, height=9, width=18)
    for name, value in extreme.items():
        mixed[name] = mixed[name].clone()
        mixed[name][:, 0] = value
    assert not hvs.rasterize(**mixed, backend=backend).isnan().any()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", ["means", "rotations", "scales", "features", "background"])
def test_nan_stays_in_its_image(scene, backend, name):
    inputs = scene(batch=(2,), dtype=torch.float32)
    wanted = hvs.rasterize(**inputs, backend=backend)[1]
    inputs[name] = inputs[name].clone()
    inputs[name][0].view(-1)[0] = torch.nan
    assert torch.equal(hvs.rasterize(**inputs, backend=backend)[1], wanted)


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_background_lies_behind_the_farthest_gaussian_with_a_gradient(scene, backend):
    """With beta = 0 the background weighs most, and the gradient through the depth of the farthest response is cut."""
    leaves = {name: value.requires_grad_() for name, value in scene(count=4, height=6, width=6).items()}
    near = hvs.rasterize(**leaves, beta=0.0, backend=backend)
    far = hvs.rasterize(**leaves, beta=4.0, backend=backend)
    to_background = (leaves["background"][..., None, None] - near).abs().sum()
    assert to_background < (leaves["background"][..., None, None] - far).abs().sum()


def test_kappa_takes_rounding_for_what_it_is(scene):
    """Scales of 0.1 in float32 are a little more than 0.1; κ must still be 0.01 in both precisions."""
    inputs = scene(dtype=torch.float32)
    inputs["scales"] = torch.full_like(inputs["scales"], 0.1)
    single = hvs.rasterize(**inputs, backend="reference")
    double = hvs.rasterize(**{name: value.double() for name, value in inputs.items()}, backend="reference")
    assert (single - double).norm() / double.norm() < 1e-4


@pytest.mark.parametrize("backend", BACKENDS)
def test_numbers_may_be_symbols_of_a_compiled_program(scene, backend):
    torch._dynamo.reset()
    inputs = scene(count=4)
    compiled = torch.compile(
        lambda alpha: hvs.rasterize(**inputs, alpha=alpha, backend=backend), fullgraph=True, backend="aot_eager"
    )
    for alpha in (0.025, 0.03, 0.04):
        assert torch.allclose(compiled(alpha), hvs.rasterize(**inputs, alpha=alpha, backend=backend))


@pytest.mark.parametrize("backend", BACKENDS)
def test_transforms_that_would_give_wrong_derivatives_are_refused(scene, backend):
    inputs = scene(count=3, height=6, width=5)
    tangent = torch.ones_like(inputs["means"])

    def total(means):
        return hvs.rasterize(**(inputs | dict(means=means)), backend=backend).square().sum()

    def refused():
        return pytest.raises(ValueError, match="means: is to be differentiated by torch.func or in forward mode")

    with refused():
        torch.func.jvp(total, (inputs["means"],), (tangent,))
    with refused():
        torch.func.grad(total)(inputs["means"])
    with refused(), torch.autograd.forward_ad.dual_level():
        total(torch.autograd.forward_ad.make_dual(inputs["means"], tangent))
    with pytest.raises(ValueError, match="means: is batched by torch.func.vmap; give leading batch axes"):
        torch.func.vmap(total)(inputs["means"])


@pytest.mark.parametrize("backend", BACKENDS)
def test_wrong_arguments_are_named(scene, backend):
    good = scene(dtype=torch.float32, count=4)

    def fails(message: str, **change):
        with pytest.raises(ValueError, match=message):
            hvs.rasterize(**(good | change), backend=backend)

    fails(r"means: got shape \(1, 4, 2\), wanted \[..., N, 3\]", means=torch.zeros(1, 4, 2))
    fails(
        r"rotations: got shape \(1, 5, 3, 3\), wanted \[..., N, 3, 3\] with N = 4 as in means",
        rotations=torch.zeros(1, 5, 3, 3),
    )
    fails(r"scales: got shape \(3,\)", scales=torch.ones(3))
    fails(r"features: got shape \(1, 3, 3\), wanted \[..., N, C\] with N = 4", features=torch.zeros(1, 3, 3))
    fails(r"background: got shape \(1, 7\), wanted \[..., C\] with C = 3 as in features", background=torch.zeros(1, 7))
    fails(r"rays: got shape \(8, 3\), wanted \[..., H, W, 3\]", rays=torch.zeros(8, 3))
    fails("rays: got list, wanted a tensor", rays=[1.0])
    fails("means: got dtype torch.int64, wanted a floating dtype", means=torch.zeros(1, 4, 3, dtype=torch.long))
    fails("rays: got dtype torch.float64, wanted torch.float32", rays=good["rays"].double())
    fails("scales: is on meta, wanted cpu", scales=good["scales"].to("meta"))
    fails(r"scales: got -0.5 in shape \(1, 4, 3\), wanted all positive", scales=good["scales"] - good["scales"] - 0.5)
    fails("scales: got 0 ", scales=torch.zeros(1, 4, 3))
    fails("batch axes do not broadcast", means=torch.zeros(2, 4, 3), features=torch.zeros(3, 4, 3))
    fails("alpha: got 0, wanted a finite number > 0", alpha=0)
    fails("beta: got -1.0, wanted a finite number ≥ 0", beta=-1.0)
    fails("eps: got nan", eps=math.nan)
    fails("near: got inf", near=math.inf)
    fails("tolerance: got -1e-06", tolerance=-1e-6)
    with pytest.raises(ValueError, match="backend: got 'cuda', wanted one of auto"):
        hvs.rasterize(**good, backend="cuda")


@pytest.mark.parametrize("name", ["alpha", "beta", "eps", "near", "tolerance"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_number_that_is_a_tensor_is_refused(scene, backend, name):
    """Its gradient would cover only some of the terms in which it stands."""
    with pytest.raises(ValueError, match=f"{name}: got Tensor, wanted a number"):
        hvs.rasterize(**scene(), backend=backend, **{name: torch.tensor(0.025, requires_grad=True)})


@pytest.mark.parametrize("backend", ["auto", "reference"])
def test_tensors_without_memory_give_a_shape_and_gradients(scene, backend):
    inputs = {name: value.to("meta").requires_grad_() for name, value in scene(batch=(2,)).items()}
    latent = hvs.rasterize(**inputs, backend=backend)
    latent.sum().backward()
    assert latent.is_meta and latent.shape[0] == 2
    assert all(value.grad.shape == value.shape for value in inputs.values())


@pytest.mark.parametrize("backend", BACKENDS)
def test_tf32_is_for_others(scene, backend, monkeypatch):
    """The geometry's gradient is the difference of nearly equal products. No CPU computes in TF32, so what is looked at
    is whether it is allowed while products are computed."""
    allowed = []

    def watched(function):
        def call(*arguments):
            allowed.append(torch.backends.cuda.matmul.fp32_precision)
            return function(*arguments)

        return call

    for place, name in ((torch, "bmm"), (torch, "baddbmm"), (torch.Tensor, "__matmul__")):
        monkeypatch.setattr(place, name, watched(getattr(place, name)))
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("high")
        inputs = {name: value.float().requires_grad_() for name, value in scene(5, 8, 8).items()}
        hvs.rasterize(**inputs, backend=backend).sum().backward()
        assert torch.backends.cuda.matmul.fp32_precision == "tf32"
    finally:
        torch.set_float32_matmul_precision(before)
    assert set(allowed) == {"ieee"}


def test_batched_gradients_are_refused(scene):
    inputs = scene(3, 4, 4)
    means = inputs["means"].requires_grad_()
    latent = hvs.rasterize(**inputs, backend="reference")
    with pytest.raises(RuntimeError, match="hvs.rasterize: got batched gradients, wanted one at a time"):
        torch.autograd.grad(latent, means, torch.randn(2, *latent.shape), is_grads_batched=True)


def test_an_empty_image_is_part_of_the_graph(scene):
    for change in (dict(batch=(0,)), dict(channels=0), dict(rows=0)):
        rows = change.pop("rows", 5)
        inputs = scene(height=5, **change)
        inputs["rays"] = inputs["rays"][..., :rows, :, :]
        inputs = {name: value.detach().requires_grad_() for name, value in inputs.items()}
        latent = hvs.rasterize(**inputs)
        assert latent.numel() == 0
        latent.sum().backward()
        assert all((value.grad == 0).all() for value in inputs.values())


def test_numbers_of_numpy_are_numbers(scene):
    inputs = scene(3, 6, 6)
    wanted = hvs.rasterize(**inputs, alpha=0.05)
    assert torch.equal(hvs.rasterize(**inputs, alpha=np.float64(0.05)), wanted)
    for value in (np.array(0.05), "0.05", None):
        with pytest.raises(ValueError, match=f"alpha: got {type(value).__name__}, wanted a number"):
            hvs.rasterize(**inputs, alpha=value)


def test_the_bits_are_the_same_in_every_run_on_a_cpu(scene):
    inputs = {name: value.float().requires_grad_() for name, value in scene(60, 50, 70, 16, (2,)).items()}

    def run():
        latent = hvs.rasterize(**inputs, backend="torch")
        return latent, *torch.autograd.grad(latent.square().sum(), list(inputs.values()))

    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        first = run()
        assert all(torch.equal(a, b) for _ in range(3) for a, b in zip(run(), first, strict=True))
    finally:
        torch.set_num_threads(before)
