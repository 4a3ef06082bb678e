"""The Triton backend as a whole: the latent and its gradients."""

import math

import pytest
import torch
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st

import hvs
from hvs.kernels.fused import programs
from tests.kernels.fused.rendering import NAMES, differentiate, render

# Relative errors in float32 that the project promises.
FORWARD, BACKWARD = 5e-5, 1e-3


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


def test_panoptic_pose(panoptic_pose, compare, device, cut_as_launched):
    """At the programs' real sizes, and in the middle of the image alone, as these take long."""
    panoptic_pose["rays"] = panoptic_pose["rays"][:, 16:64, 28:76]
    compare(panoptic_pose, "triton", FORWARD, BACKWARD, device)


@pytest.mark.parametrize("pairs", [programs.SMALL_PAIRS, 0], ids=["small", "large"])
def test_rays_may_look_anywhere(fisheye, compare, device, monkeypatch, pairs):
    monkeypatch.setattr(programs, "SMALL_PAIRS", pairs)
    compare(fisheye, "triton", FORWARD, BACKWARD, device)


@settings(
    max_examples=200 if torch.cuda.is_available() else 8,
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
    inputs = scene(count, height, width, 3, (1,), seed, torch.float32, smallest, largest)
    # Where the image is its background to some digits, gradients are those digits' differences.
    latent = hvs.rasterize(**{name: value.double() for name, value in inputs.items()}, backend="torch")
    assume((latent - inputs["background"][..., None, None]).abs().amax() > 1e-2)
    compare(inputs, "triton", 1e-4, 3e-3, device, beside_torch=10.0)


def test_flat_gaussians(plates, compare, device):
    compare(plates, "triton", 1e-4, 1e-4, device)


@pytest.mark.parametrize("pairs", [programs.SMALL_PAIRS, 0], ids=["small", "large"])
def test_gaussians_that_point_at_the_camera(needles, compare, device, monkeypatch, pairs):
    """None is taken to lie beside its own middle."""
    monkeypatch.setattr(programs, "SMALL_PAIRS", pairs)
    compare(needles, "triton", FORWARD, BACKWARD, device)


def test_large_scenes_have_lists_of_their_own(scene, compare, device, monkeypatch):
    monkeypatch.setattr(programs, "SMALL_PAIRS", 0)
    # Two by nine tiles are two cells.
    inputs = scene(130, 20, 140, 3, (2,), dtype=torch.float32, smallest=0.02, largest=0.05)
    compare(inputs, "triton", FORWARD, BACKWARD, device)


@pytest.mark.parametrize("pairs", [programs.SMALL_PAIRS, 0], ids=["small", "large"])
def test_gaussians_that_show_in_a_part_of_a_tile(scene, compare, device, monkeypatch, cut_as_launched, pairs):
    """Smaller than the groups of pixels that programs skip, at the groups' real sizes."""
    monkeypatch.setattr(programs, "SMALL_PAIRS", pairs)
    inputs = scene(12, 40, 40, 4, dtype=torch.float32, smallest=0.01, largest=0.06)
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


@pytest.mark.parametrize("shared", [("background", "rays"), ("means", "rotations", "scales", "features")], ids=str)
def test_batch_axes_broadcast(single, relative, shared):
    inputs = single(batch=(2,), count=5, height=6, width=6)
    one = inputs | {name: inputs[name][0] for name in shared}
    copied = one | {name: one[name].expand(2, *one[name].shape).clone() for name in shared}
    (latent, *gradients), (wanted, *expected) = differentiate(one), differentiate(copied)
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


def test_finite_input_never_gives_nan(single, extreme):
    inputs, mixed = single(count=7, height=9, width=18), single(count=7, height=9, width=18)
    for name, value in extreme.items():
        inputs[name] = torch.full_like(inputs[name], value)
        mixed[name] = mixed[name].clone()
        mixed[name][:, 0] = value
    assert not render(inputs).isnan().any()
    assert not render(mixed).isnan().any()


def test_huge_features_may_cancel(single, cut_as_launched):
    inputs = single(count=4, height=4, width=4, channels=1)
    inputs["means"] = torch.tensor([0.0, 0.0, 0.02]).to(inputs["means"]).expand(1, 4, 3)
    inputs["scales"], inputs["rays"] = torch.ones_like(inputs["scales"]), torch.zeros_like(inputs["rays"])
    inputs["features"] = 3e38 * torch.tensor([1.0, 1.0, -1.0, -1.0]).to(inputs["means"]).view(1, 4, 1)
    assert not render(inputs).isnan().any()


def test_rotations_without_an_inverse(singular, relative, device):
    wanted = hvs.rasterize(**{name: v.double() for name, v in singular.items()}, backend="reference")
    latent, *gradients = differentiate({name: v.to(device) for name, v in singular.items()})
    assert relative(latent.cpu(), wanted) < 5e-5
    assert all(gradient.isfinite().all() for gradient in gradients)
    pushed = gradients[NAMES.index("rotations")][0].abs().amax((-2, -1)) > 0
    # One may be the deepest, which the background's weight depends on.
    assert pushed[:40].sum() <= 1 and pushed[40:].any()


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("name", NAMES)
def test_what_is_not_finite_stays_in_its_image(single, name, value):
    inputs = single(6, 9, 18, batch=(2,))
    wanted = [v[1] for v in differentiate(inputs)]
    inputs[name] = inputs[name].clone()
    inputs[name][0].view(-1)[::5] = value
    assert all(torch.equal(found[1], right) for found, right in zip(differentiate(inputs), wanted, strict=True))


@pytest.mark.parametrize("value", [math.nan, 1e30], ids=str)
def test_every_pixel_and_gradient_is_written(single, monkeypatch, value):
    """Whatever was in the memory that the outputs get."""
    inputs = single(12, 20, 35, 5, batch=(2,))
    wanted = differentiate(inputs)

    def poisoned(self, *arguments, **options):
        made = new_empty(self, *arguments, **options)
        return made.fill_(value if made.is_floating_point() else torch.iinfo(made.dtype).max // 2)

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
    # Here some tiles meet nothing, and show a background below the floor.
    compare(scene(9, 20, 40, 3, dtype=torch.float32, largest=0.03), "triton", FORWARD, BACKWARD, device, eps=1e-3)
    compare(inputs, "triton", FORWARD, BACKWARD, device, eps=1e-30)
    compare(inputs, "triton", FORWARD, BACKWARD, device, alpha=0.4, beta=0.0, near=2.0, tolerance=0.0)
    # In other units than metres weights may be tiny.
    far = inputs | dict(means=1e4 * inputs["means"], scales=1e4 * inputs["scales"])
    compare(far, "triton", FORWARD, BACKWARD, device, eps=1e-30)


def test_skipped_pairs_stay_within_the_stated_bound(single):
    inputs = single(30, 32, 32, 4, smallest=0.02)
    exact = render(inputs, tolerance=0.0)
    largest = max(inputs["features"].abs().max(), inputs["background"].abs().max()).item()
    for tolerance in (1e-1, 1e-2):
        error = (render(inputs, tolerance=tolerance) - exact).abs().max().item()
        assert 0 < error <= 30 * tolerance * 2 * largest
