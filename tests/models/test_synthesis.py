import copy
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from hvs import Camera, skeletons
from hvs.models import HumanViewSynthesis, ModelSettings, synthesis

SETTINGS = ModelSettings(
    skeleton="human36m",
    d_embedding=96,
    input_resolution=32,
    rendering_resolution=16,
    target_resolution=32,
    appearance_features=4,
    base_channels=8,
    encoder_depth=18,
)


def camera(batch=None, size=32):
    K = torch.tensor([[1.2 * size, 0, size / 2], [0, 1.2 * size, size / 2], [0, 0, 1]])
    one = Camera(K, torch.eye(3), torch.zeros(3), torch.tensor([0.05, -0.01, 0.0, 0.0, 0.0]), size, size)
    return one if batch is None else Camera.stack([one] * batch)


def points(batch=2):
    pose = torch.randn(batch, 17, 3, generator=torch.Generator().manual_seed(1)) * 0.4
    return pose + torch.tensor([0.0, 0.0, 3.0])


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return HumanViewSynthesis(SETTINGS).eval()


def test_lift_encode_render_compose(model):
    appearance = model.encode(torch.rand(2, 3, 32, 32))
    lifted = model.lift(torch.rand(2, 17, 2) * 1000, torch.ones(2, 17, dtype=torch.bool), torch.full((2, 2), 1000))
    latent, image = model.render(lifted + torch.tensor([0.0, 0.0, 3.0]), appearance, camera(2))
    assert lifted.shape == (2, 17, 3) and appearance.shape == (2, 16, 4)
    assert latent.shape == (2, 4, 16, 16) and image.shape == (2, 3, 32, 32)
    assert latent.isfinite().all() and image.isfinite().all()


def test_precisions_may_differ(model):
    """Of model, appearance and points."""
    appearance = torch.randn(2, 16, 4)
    wanted = model.render(points(), appearance, camera())[1]
    for other in (appearance.bfloat16(), appearance.double()):
        image = model.render(points().double(), other, camera())[1]
        assert image.dtype == torch.float32
        assert (image - wanted).norm() < 0.05 * wanted.norm()
    half = copy.deepcopy(model).bfloat16()
    picture = torch.rand(2, 3, 32, 32)
    latent, image = half.render(points(), half.encode(picture), camera())
    assert latent.dtype == torch.float32 and image.dtype == torch.bfloat16 and image.isfinite().all()
    assert torch.equal(half.encode(picture), half.encode(picture.bfloat16()))
    assert model.encode(picture.double()).dtype == torch.float32


def test_bytes_are_no_image(model):
    with pytest.raises(ValueError, match="image: got torch.uint8, wanted a floating dtype"):
        model.encode(torch.zeros(2, 3, 32, 32, dtype=torch.uint8))


def test_defaults_are_the_full_panoptic_model():
    settings = ModelSettings()
    assert (settings.skeleton, settings.doublings, settings.encoder_depth) == ("panoptic", 0, 50)
    assert replace(settings, target_resolution=512).doublings == 1


def test_one_camera_serves_the_batch(model):
    appearance = torch.randn(2, 16, 4)
    for a, b in zip(
        model.render(points(), appearance, camera()), model.render(points(), appearance, camera(2)), strict=True
    ):
        torch.testing.assert_close(a, b)


def test_the_latent_does_not_depend_on_the_resolution_the_camera_comes_at(model):
    appearance = torch.randn(2, 16, 4)
    small, large = (model.rasterize(points(), appearance, camera().resize(n, n)) for n in (32, 512))
    torch.testing.assert_close(small, large, rtol=1e-3, atol=1e-4)


def test_the_resize_convention_moves_the_latent(model):
    appearance = torch.randn(2, 16, 4)
    centred = model.rasterize(points(), appearance, camera(2))
    other = HumanViewSynthesis(replace(SETTINGS, resize="original"))
    assert (other.rasterize(points(), appearance, camera(2)) - centred).abs().max() > 1e-2


def test_empty_pixels_are_zero(model):
    away = points() + torch.tensor([0.0, 0.0, -10.0])
    assert model.rasterize(away, torch.randn(2, 16, 4), camera()).abs().max() == 0


def test_gradients_reach_points_appearance_and_camera(model):
    pose, appearance = points().requires_grad_(), torch.randn(2, 16, 4).requires_grad_()
    K = camera().K.clone().requires_grad_()
    _, image = model.render(pose, appearance, replace(camera(), K=K))
    image.square().mean().backward()
    for tensor in (pose, appearance, K):
        assert tensor.grad.isfinite().all() and tensor.grad.abs().sum() > 0


def test_geometry_and_lift_ignore_autocast(model):
    appearance = torch.randn(2, 16, 4)
    keypoints = (torch.rand(2, 17, 2) * 1000, torch.ones(2, 17, dtype=torch.bool), torch.full((2, 2), 1000))
    wanted = model.rasterize(points(), appearance, camera()), model.lift(*keypoints)
    with torch.autocast("cpu", torch.bfloat16):
        found = model.rasterize(points(), appearance, camera()), model.lift(*keypoints)
        half = model.rasterize(points(), appearance.bfloat16(), camera())
        _, image = model.render(points(), appearance, camera())
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)
    assert half.dtype == torch.float32 and image.dtype == torch.float32


def test_a_double_model_renders_in_double(model):
    double = HumanViewSynthesis(SETTINGS).double()
    latent, image = double.render(points().double(), torch.randn(2, 16, 4).double(), camera())
    assert latent.dtype == image.dtype == torch.float64


def test_the_rasteriser_gets_the_limbs_of_the_skeleton(model, monkeypatch):
    seen = {}

    def spy(means, rotations, scales, features, background, rays, alpha):
        seen.update(means=means, features=features, background=background, rays=rays, alpha=alpha)
        return features.new_zeros(len(means), 4, 16, 16)

    monkeypatch.setattr(synthesis, "rasterize", spy)
    pose, appearance = points(), torch.randn(2, 16, 4)
    model.rasterize(pose, appearance, camera())
    first, second = skeletons.HUMAN36M.edges[5]
    torch.testing.assert_close(seen["means"][:, 5], (pose[:, first] + pose[:, second]) / 2)
    assert seen["features"] is appearance and not seen["background"].any()
    assert seen["rays"].shape == (2, 16, 16, 3) and seen["alpha"] == 0.025


@pytest.fixture(scope="module")
def person(model):
    """What the encoder takes a person for, what they are, and where they stand in two poses."""
    known, other = torch.randn(2, 1, 16, 4, generator=torch.Generator().manual_seed(3))
    return known, known + 0.3 * (other - known), points()


@pytest.fixture(scope="module")
def side():
    """A camera to the right of the person."""
    turn = torch.tensor([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [-1.0, 0.0, 0.0]])
    return Camera.stack([replace(camera(), R=turn, t=torch.tensor([-3.0, 0.0, 3.0]))])


def draw(model, appearance, world, view):
    with torch.no_grad():
        return model.render(view.to_camera(world), appearance.expand(len(world), -1, -1), view)[1]


def test_refined_to_one_image_an_appearance_is_better_for_all_cameras_and_poses(model, person, side):
    known, true, world = person
    front, one = camera(1), world[:1]
    refined = model.refine(known, draw(model, true, one, front), one, front)
    assert refined.shape == known.shape and not refined.requires_grad
    for pose, view, part in ((one, front, 0.4), (one, side, 0.7), (world[1:], front, 0.7)):
        target = draw(model, true, pose, view)
        before, after = ((draw(model, looks, pose, view) - target).square().mean() for looks in (known, refined))
        assert after < part * before


def test_an_appearance_is_refined_to_all_images(model, person, side):
    known, true, world = person
    views = Camera.stack([camera(), side[0]])
    image = draw(model, true, world, views)
    refined = model.refine(known, image, views.to_camera(world), views)
    assert refined.shape == (1, 16, 4)
    errors = [(draw(model, looks, world, views) - image).square().mean((1, 2, 3)) for looks in (known, refined)]
    assert (errors[1] < 0.5 * errors[0]).all()


def test_large_appearances_are_refined_as_fast_as_small_ones(model, person):
    known, true, world = person
    change = model.refine(10 * known, draw(model, true, world, camera(2)), world, camera(2), steps=1) - 10 * known
    size = 10 * known.square().mean().sqrt()
    torch.testing.assert_close(change.abs().amax(), 1.5 * synthesis.REFINE_RATE * size, rtol=1e-2, atol=0)


def test_refining_changes_nothing_else(model, person):
    known, true, world = person
    model.zero_grad()
    image = draw(model, true, world, camera(2))
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    given = known.clone()
    assert torch.equal(model.refine(known, image, world, camera(2), steps=0), known)
    again = model.refine(known, image, world, camera(2), steps=2)
    with torch.inference_mode():
        assert torch.equal(model.refine(known.clone(), image.clone(), world.clone(), camera(2), steps=2), again)
    assert torch.equal(known, given) and not torch.equal(again, known)
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    assert all(weight.grad is None for weight in model.parameters())


def test_a_model_in_training_is_not_refined_with(person):
    known, true, world = person
    model = HumanViewSynthesis(SETTINGS)
    for part in (model, model.eval().decoder):
        part.train()
        with pytest.raises(RuntimeError, match="refine: got a model .* in training mode"):
            model.refine(known, torch.zeros(2, 3, 32, 32), world, camera(2))


def test_a_camera_of_another_batch_is_named(model, person):
    known, true, world = person
    with pytest.raises(ValueError, match=r"camera: got batch axes \[3\]"):
        model.refine(known, torch.zeros(2, 3, 32, 32), world, camera(3), steps=1)


def test_a_latent_image_alone_is_checked_as_well(model):
    appearance = torch.randn(2, 16, 4)
    for wrong in ((points()[0], appearance), (points(), appearance[..., :3]), (points().numpy(), appearance)):
        with pytest.raises(ValueError, match="(points|appearance): got (shape|ndarray)"):
            model.rasterize(*wrong, camera())


def test_images_to_refine_to_may_be_smaller_than_pictures(model, person):
    known, true, world = person

    def small(looks):
        return F.interpolate(draw(model, looks, world, camera(2)), (24, 24), mode="bilinear", antialias=True)

    refined = model.refine(known, small(true), world, camera(2))
    before, after = ((small(looks) - small(true)).square().mean() for looks in (known, refined))
    assert after < 0.4 * before


def test_people_are_refined_together_as_one_by_one(model, person, side, monkeypatch):
    known, true, world = person
    views = Camera.stack([camera(), side[0]])
    image, poses = draw(model, true, world, views), views.to_camera(world)
    begin = torch.cat((known, 0.5 * known))
    found = model.refine(begin, image, poses, views, steps=3)
    for i in range(2):
        one = slice(i, i + 1)
        wanted = model.refine(begin[one], image[one], poses[one], views[one], steps=3)
        torch.testing.assert_close(found[one], wanted, rtol=1e-3, atol=1e-3)
    # Also where fewer images are taken at once.
    wanted = model.refine(known, image, poses, views, steps=3)
    monkeypatch.setattr(synthesis, "REFINE_IMAGES", 1)
    torch.testing.assert_close(model.refine(known, image, poses, views, steps=3), wanted, rtol=1e-3, atol=1e-3)


def test_cameras_broadcast_in_refining(model, person, monkeypatch):
    known, true, world = person
    monkeypatch.setattr(synthesis, "REFINE_IMAGES", 1)
    image = draw(model, true, world, camera(2))
    wanted = model.refine(known, image, world, camera(2), steps=2)
    one = camera()
    mixed = replace(one, K=one.K.expand(2, 3, 3))
    for view in (one, camera(1), mixed):
        torch.testing.assert_close(model.refine(known, image, world, view, steps=2), wanted)


def test_a_hidden_limb_changes_with_that_of_the_other_side(model, person):
    known, true, world = person
    joints, edges = model.skeleton.joints, model.skeleton.edges
    hidden = edges.index((joints.index("LElbow"), joints.index("LWrist")))
    seen = model.skeleton.mirror[hidden]
    assert seen != hidden
    world = world[:1].clone()
    # Behind the camera.
    world[:, joints.index("LWrist"), 2] = -9
    change = model.refine(known, draw(model, true, world, camera(1)), world, camera(1)) - known
    assert change[:, hidden].norm() > 0.3 * change[:, seen].norm() > 0


def test_steps_can_be_counted(model, person):
    known, true, world = person
    counted = []
    image = draw(model, true, world, camera(2))
    model.refine(known, image, world, camera(2), 3, lambda: counted.append(1))
    assert len(counted) == 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(appearance=torch.zeros(3, 16, 4)), "appearance: got 3 of them, wanted one, or one for each of 2 poses"),
        (dict(appearance=torch.zeros(1, 15, 4)), r"appearance: got shape \(1, 15, 4\)"),
        (
            dict(image=torch.zeros(1, 3, 32, 32)),
            r"image: got \(1, 3, 32, 32\) of torch.float32, wanted square floating",
        ),
        (dict(image=torch.zeros(2, 1, 32, 32)), r"wanted square floating images for 2 poses, \[2, 3, h, h\]"),
        (dict(image=torch.zeros(2, 3, 32, 24)), "wanted square floating images"),
        (dict(image=torch.zeros(3, 32, 32)), "wanted square floating images"),
        (dict(image=torch.zeros(2, 3, 32, 32, dtype=torch.uint8)), "torch.uint8, wanted square floating images"),
        (dict(points=torch.zeros(17, 3)), r"points: got shape \(17, 3\)"),
        (dict(steps=-1), "steps: got -1, wanted 0 or more"),
    ],
)
def test_what_cannot_be_refined_is_named(model, person, change, message):
    known, _, world = person
    arguments = dict(appearance=known, image=torch.zeros(2, 3, 32, 32), points=world, camera=camera(2), steps=1)
    with pytest.raises(ValueError, match=message):
        model.refine(**(arguments | change))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(alpha=0.0), "alpha: got 0.0, wanted a positive number"),
        (dict(skeleton="coco"), "skeleton: got 'coco', wanted one of panoptic, human36m"),
        (dict(d_embedding=100), "d_embedding: got 100, wanted a multiple of 32, at least 64"),
        (dict(d_embedding=32), "d_embedding: got 32, wanted a multiple of 32, at least 64"),
        (dict(rendering_resolution=40), "rendering_resolution: got 40, wanted a multiple of 16, at least 16"),
        (dict(target_resolution=48), "target_resolution: got 48, wanted one of 16, 32"),
        (dict(target_resolution=64, base_channels=6), "base_channels: got 6, wanted a positive multiple of 4"),
        (dict(encoder_depth=101), "encoder_depth: got 101"),
        (dict(resize="corner"), "resize: got 'corner'"),
        (dict(dropout=1.0), "dropout: got 1.0"),
        (dict(appearance_features=0), "appearance_features: got 0"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_settings_that_make_no_model_are_refused(change, message):
    with pytest.raises(ValueError) as error:
        replace(SETTINGS, **change)
    assert str(error.value).startswith(message)


def test_wrong_shapes_are_named(model):
    with pytest.raises(ValueError, match=r"points: got shape \(2, 117, 3\), wanted \[B, 17, 3\]"):
        model.render(torch.zeros(2, 117, 3), torch.zeros(2, 16, 4), camera())
    with pytest.raises(ValueError, match=r"appearance: got shape"):
        model.render(points(), torch.zeros(2, 16, 5), camera())
    with pytest.raises(ValueError, match=r"image: got shape \(1, 3, 64, 64\), wanted \[B, 3, 32, 32\]"):
        model.encode(torch.zeros(1, 3, 64, 64))
    with pytest.raises(ValueError, match=r"confidence: got shape"):
        model.lift(torch.zeros(1, 17, 2), torch.zeros(1, 17, 1), torch.ones(1, 2))


def test_a_model_without_memory_gives_shapes():
    with torch.device("meta"):
        model = HumanViewSynthesis(SETTINGS).eval()
        lifted = model.lift(torch.zeros(2, 17, 2), torch.ones(2, 17, dtype=torch.bool), torch.ones(2, 2))
        appearance = model.encode(torch.zeros(2, 3, 32, 32))
        image = model.render(lifted, appearance, camera(2).to("meta"))[1]
    assert image.is_meta and image.shape == (2, 3, 32, 32)


def test_batches_that_do_not_agree_are_refused_by_name(model):
    with pytest.raises(ValueError, match=r"camera: got batch axes \[3\], wanted \[2\] as in points"):
        model.render(points(), torch.randn(2, 16, 4), camera(3))
    keypoints, confidence, resolution = torch.rand(2, 17, 2), torch.ones(2, 17, dtype=torch.bool), torch.ones(2, 2)
    with pytest.raises(ValueError, match="confidence: got 1 of them, wanted 2"):
        model.lift(keypoints, confidence[:1], resolution)
    with pytest.raises(ValueError, match="resolution: got 3 of them, wanted 2"):
        model.lift(keypoints, confidence, torch.ones(3, 2))
    # One resolution may serve all.
    wanted = model.lift(keypoints, confidence, resolution)
    assert torch.equal(model.lift(keypoints, confidence, resolution[:1]), wanted)
