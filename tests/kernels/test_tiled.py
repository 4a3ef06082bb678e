import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import hvs
from hvs.kernels import tiled, tiles

NAMES = ("means", "rotations", "scales", "features", "background", "rays")


@pytest.mark.parametrize("count", [0, 1, 15, 17, 108, 700])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (7, 33), (33, 7), (64, 48)], ids=str)
def test_latent_and_all_gradients(scene, compare, count, height, width):
    compare(scene(count, height, width, channels=5), "torch", 1e-10, 1e-7, tolerance=1e-14)


@pytest.mark.parametrize("channels", [1, 3, 16, 65])
@pytest.mark.parametrize("batch", [(), (1,), (3,)], ids=str)
def test_channels_and_batches(scene, compare, channels, batch):
    compare(scene(30, 20, 37, channels, batch), "torch", 1e-10, 1e-7, tolerance=1e-14)


@pytest.mark.parametrize("size", [(0.002, 0.01), (0.01, 0.3), (0.5, 3.0)], ids=["specks", "limbs", "covering all"])
def test_sizes_in_single_precision(scene, compare, size):
    smallest, largest = size
    inputs = scene(40, 50, 40, 4, dtype=torch.float32, smallest=smallest, largest=largest)
    compare(inputs, "torch", 5e-5, 1e-3)


def test_panoptic_pose_in_single_precision(panoptic_pose, compare):
    compare(panoptic_pose, "torch", 5e-5, 1e-3)


def test_rays_may_look_anywhere(fisheye, compare):
    compare(fisheye, "torch", 5e-5, 1e-3)


def test_gradcheck(scene):
    inputs = scene(count=3, height=2, width=17, channels=2, smallest=0.1)
    inputs["means"][..., 2].clamp_(min=1.0)
    leaves = [inputs[name].clone().requires_grad_() for name in NAMES]
    assert torch.autograd.gradcheck(
        lambda *v: hvs.rasterize(*v, tolerance=1e-14, backend="torch"), leaves, eps=1e-7, atol=1e-6, fast_mode=True
    )


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 2**20),
    st.integers(0, 40),
    st.integers(1, 40),
    st.integers(1, 40),
    st.floats(0.001, 1.0),
    st.floats(1.0, 100.0),
)
def test_random_scenes(scene, compare, seed, count, height, width, smallest, ratio):
    inputs = scene(count, height, width, 3, (2,), seed, smallest=smallest, largest=smallest * ratio)
    # Where every image is its background to some digits, the tolerance lets go all that has a gradient.
    latent = hvs.rasterize(**inputs, backend="torch")
    assume((latent - inputs["background"][..., None, None]).abs().amax() > 1e-2)
    compare(inputs, "torch", 1e-5, 1e-3)


def test_flat_gaussians(plates, compare):
    compare(plates, "torch", 1e-4, 1e-4)


def test_rotations_without_an_inverse_have_no_gradient(singular):
    inputs = {name: value.requires_grad_() for name, value in singular.items()}
    gradients = torch.autograd.grad(hvs.rasterize(**inputs, backend="torch").sum(), list(inputs.values()))
    assert all(gradient.isfinite().all() for gradient in gradients)
    pushed = gradients[1][0].abs().amax((-2, -1)) > 0
    # One may be the deepest, which the background's weight depends on.
    assert pushed[:40].sum() <= 1 and pushed[40:].any()


def test_rotations_without_an_inverse_are_seen_everywhere(singular, relative):
    wanted = hvs.rasterize(**{name: v.double() for name, v in singular.items()}, backend="reference")
    assert relative(hvs.rasterize(**singular, backend="torch"), wanted) < 5e-5


def test_gaussians_that_point_at_the_camera(needles, compare):
    """None is taken to lie beside its own middle."""
    compare(needles, "torch", 5e-5, 1e-3)


def test_background_alone_pushes_nothing_in_float32(scene):
    """The difference of two sums of large numbers would."""
    double = scene(6, 31, 9, batch=(2,), seed=2330, smallest=0.0013, largest=0.0093)
    inputs = {name: value.float().requires_grad_() for name, value in double.items()}
    latent = hvs.rasterize(**inputs, backend="torch")
    assert torch.equal(latent, inputs["background"][..., None, None].expand_as(latent))
    geometry = [inputs[name] for name in ("means", "rotations", "scales")]
    cotangent = torch.randn(latent.shape, generator=torch.Generator().manual_seed(1))
    assert max(v.abs().max() for v in torch.autograd.grad(latent, geometry, cotangent)) < 1e-9


def test_skipped_pairs_stay_within_the_stated_bound(scene, relative):
    inputs = scene(60, 48, 48, 4, smallest=0.02)
    exact = hvs.rasterize(**inputs, backend="reference")
    largest = max(inputs["features"].abs().max(), inputs["background"].abs().max()).item()
    for tolerance in (1e-1, 1e-2, 1e-4):
        error = (hvs.rasterize(**inputs, tolerance=tolerance, backend="torch") - exact).abs().max().item()
        assert 0 < error <= 60 * tolerance * 2 * largest
    everything = hvs.rasterize(**inputs, tolerance=0.0, backend="torch")
    assert relative(everything, exact) < 1e-12


def test_chunks_and_blocks_do_not_show(scene, monkeypatch):
    leaves = {name: value.requires_grad_() for name, value in scene(50, 40, 40, 3, (2,), largest=1.0).items()}
    whole = hvs.rasterize(**leaves, backend="torch")
    gradients = torch.autograd.grad(whole.square().sum(), list(leaves.values()))
    monkeypatch.setattr(tiles, "PAIRS_PER_CHUNK", 7 * 256)
    chunked = hvs.rasterize(**leaves, backend="torch")
    assert torch.allclose(chunked, whole, rtol=1e-10)
    for a, b in zip(torch.autograd.grad(chunked.square().sum(), list(leaves.values())), gradients, strict=True):
        assert torch.allclose(a, b, rtol=1e-7, atol=1e-10)


def test_a_floored_denominator_has_the_right_gradient(scene, compare):
    """With a large eps every pixel's sum of weights sits on its floor."""
    compare(scene(9, 20, 20, 3), "torch", 1e-10, 1e-7, eps=10.0, tolerance=1e-14)
    compare(scene(9, 20, 20, 3), "torch", 1e-10, 1e-7, eps=1e-3, tolerance=1e-14)


@pytest.mark.parametrize("with_rays", [False, True])
def test_only_wanted_gradients_are_computed(scene, with_rays):
    inputs = scene(5, 16, 16)
    inputs["features"].requires_grad_()
    inputs["rays"] = inputs["rays"].clone().requires_grad_(with_rays)
    hvs.rasterize(**inputs, backend="torch").sum().backward()
    assert (inputs["rays"].grad is not None) == with_rays


def test_ops_pass_opcheck(scene):
    inputs = scene(5, 18, 9, dtype=torch.float32)
    visible = inputs["means"][..., 2] > 0
    weight = torch.tensor([1e-4], requires_grad=True)
    leaves = [inputs[name].contiguous().requires_grad_() for name in NAMES[:5]]
    rays = inputs["rays"].contiguous().requires_grad_()
    torch.library.opcheck(tiled.blend, (*leaves, weight, rays, visible, 0.025, 1e-8, 1e-6))
    geometry = [v.detach() for v in leaves[:3]]
    torch.library.opcheck(tiled.farthest, (*geometry, rays.detach(), visible))


def test_compiles_without_graph_breaks(scene):
    leaves = {name: value.requires_grad_() for name, value in scene(12, 20, 20, dtype=torch.float32).items()}
    wanted = hvs.rasterize(**leaves)
    gradients = torch.autograd.grad(wanted.square().sum(), list(leaves.values()))
    compiled = torch.compile(hvs.rasterize, fullgraph=True, backend="aot_eager")
    latent = compiled(**leaves)
    assert torch.allclose(latent, wanted)
    for a, b in zip(torch.autograd.grad(latent.square().sum(), list(leaves.values())), gradients, strict=True):
        assert torch.allclose(a, b, rtol=1e-4, atol=1e-6)


def test_double_backward_is_refused(scene):
    inputs = scene(3, 8, 8)
    inputs["means"].requires_grad_()
    latent = hvs.rasterize(**inputs, backend="torch")
    (gradient,) = torch.autograd.grad(latent.square().sum(), inputs["means"], create_graph=True)
    with pytest.raises(RuntimeError, match="second derivatives are not implemented"):
        gradient.sum().backward()
