import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hvs.geometry import Camera
from hvs.geometry import triangulation as module
from hvs.geometry.triangulation import triangulate


def ring(count, sizes=((1920, 1080),), radius=4.0, spread=2 * math.pi, distortion=(-0.25, 0.08, 1e-3, -5e-4, 0.02)):
    """Cameras about the origin that look at it, their images of different sizes."""
    cameras = []
    for view in range(count):
        width, height = sizes[view % len(sizes)]
        angle = spread * view / count
        eye = torch.tensor((radius * math.sin(angle), -0.4 * (view % 3), -radius * math.cos(angle))).double()
        focal = 1.2 * height
        K = torch.tensor(((focal, 0.3, width / 2), (0, 1.01 * focal, height / 2 - 3), (0, 0, 1))).double()
        up, target = torch.tensor((0.0, -1.0, 0.0)).double(), torch.zeros(3).double()
        cameras.append(Camera.look_at(eye, target, up, K, height, width, torch.tensor(distortion).double()))
    return cameras


def people(*shape, seed=0):
    return (torch.rand(*shape, 3, generator=torch.Generator().manual_seed(seed)).double() - 0.5) * 1.6


def see(cameras, points):
    pixels = torch.stack([camera.project(points.reshape(-1, 3)).reshape(*points.shape[:-1], 2) for camera in cameras])
    return pixels, torch.ones(pixels.shape[:-1]).double()


def with_outliers(pixels, part, seed=1):
    generator = torch.Generator().manual_seed(seed)
    wrong = torch.rand(pixels.shape[:-1], generator=generator) < part
    where = torch.rand(pixels.shape, generator=generator).double() * torch.tensor((1919.0, 1079.0))
    return torch.where(wrong[..., None], where, pixels), wrong


@pytest.mark.parametrize("views", [2, 3, 8, 31])
@pytest.mark.parametrize("distortion", [(), (-0.25, 0.08, 1e-3, -5e-4, 0.02), (0.3, -0.1, 0, 0, 0, 0.2, 0, 0)])
def test_exact_views_give_exact_points(views, distortion):
    cameras, points = ring(views, ((1920, 1080), (1000, 1002)), spread=4.0, distortion=distortion), people(3, 7)
    found = triangulate(*see(cameras, points), cameras)
    assert found.points.shape == (3, 7, 3) and found.confidence.shape == found.error.shape == (3, 7)
    torch.testing.assert_close(found.points, points, rtol=0, atol=1e-6)
    assert found.inliers.shape == (views, 3, 7) and found.inliers.all()
    assert (found.confidence == 1).all() and found.error.max() < 1e-4


@pytest.mark.parametrize("shape", [(), (1,), (0,), (2, 0), (2, 3, 4)])
def test_any_leading_axes(shape):
    cameras, points = ring(4), people(*shape)
    found = triangulate(*see(cameras, points), cameras)
    torch.testing.assert_close(found.points, points, rtol=0, atol=1e-6)
    assert found.inliers.shape == (4, *shape)


def test_noise_costs_no_more_than_it_must():
    cameras, points = ring(8), people(500)
    pixels, confidence = see(cameras, points)
    noisy = pixels + 2 * torch.randn(pixels.shape, generator=torch.Generator().manual_seed(2)).double()
    found = triangulate(noisy, confidence, cameras)
    # Two pixels are 6 mm at this distance and focal length; eight views bring that to about half, in 3 dimensions.
    assert (found.points - points).norm(dim=-1).mean() < 0.005
    assert found.inliers.double().mean() > 0.99
    assert 1 < found.error.mean() < 3


@pytest.mark.parametrize("part", [0.1, 0.3])
@pytest.mark.parametrize("views", [8, 31])
def test_gross_outliers_are_found_and_left_out(part, views):
    cameras, points = ring(views), people(400)
    pixels, confidence = see(cameras, points)
    pixels, wrong = with_outliers(pixels, part)
    found = triangulate(pixels, confidence, cameras)
    enough = (~wrong).sum(0) >= 4
    off = (found.points - points).norm(dim=-1)[enough]
    assert enough.double().mean() > 0.9
    assert off.quantile(0.99) < 0.005 and off.median() < 1e-4
    assert (found.inliers & wrong).sum() < 0.01 * wrong.sum()


def test_unsure_views_count_less_and_unseen_ones_not_at_all():
    cameras, points = ring(5), people(20)
    pixels, confidence = see(cameras, points)
    pixels[0] += 3.0
    weights = [torch.full_like(confidence, 1.0) for _ in range(3)]
    weights[1][0], weights[2][0] = 0.3, 0.25
    off = [(triangulate(pixels, w, cameras).points - points).norm(dim=-1).mean() for w in weights]
    assert off[0] > 2 * off[1] > 0 and off[2] < 1e-6
    assert triangulate(pixels, weights[1], cameras).confidence.mean() == pytest.approx((4 + 0.3) / 5)
    assert not triangulate(pixels, weights[2], cameras).inliers[0].any()


def nothing(found):
    return not (found.points.any() or found.confidence.any() or found.inliers.any() or found.error.any())


def test_too_few_views_find_nothing():
    cameras, points = ring(4), people(6)
    pixels, confidence = see(cameras, points)
    assert nothing(triangulate(pixels, torch.zeros_like(confidence), cameras))
    assert nothing(triangulate(pixels[:1], confidence[:1], cameras[:1]))
    assert nothing(triangulate(pixels[:0], confidence[:0], []))
    confidence[1:] = 0
    assert nothing(triangulate(pixels, confidence, cameras))
    confidence[1:3] = 1
    assert nothing(triangulate(pixels, confidence, cameras, least_views=4))
    assert triangulate(pixels, confidence, cameras, least_views=3).inliers[:3].all()


def test_views_that_contradict_each_other_find_nothing():
    cameras = ring(8)
    pixels = torch.rand(8, 200, 2, generator=torch.Generator().manual_seed(4)).double() * torch.tensor((1919.0, 1079.0))
    found = triangulate(pixels, torch.ones(8, 200), cameras)
    assert (found.confidence > 0).double().mean() < 0.1


def test_a_few_of_many_views_agree_by_chance():
    """A quarter of those that see a joint must agree on it."""
    cameras, points = ring(24), people(100)
    pixels, confidence = see(cameras, points)
    elsewhere = with_outliers(pixels, 2.0)[0]
    rank = torch.rand(24, 100, 1, generator=torch.Generator().manual_seed(2)).argsort(0).argsort(0)
    for agreeing, least, most in ((5, 0.0, 0.1), (7, 0.5, 1.0)):
        mixed = torch.where(rank < agreeing, pixels, elsewhere)
        found = triangulate(mixed, confidence, cameras).confidence > 0
        assert least <= found.double().mean() <= most


def test_cameras_in_one_place_find_nothing():
    cameras, points = ring(6, spread=0.0), people(5)
    for view in range(6):
        cameras[view] = cameras[0]
    found = triangulate(*see(cameras, points), cameras)
    assert nothing(found)
    pixels, confidence = see(cameras, points)
    noise = torch.randn(pixels.shape, generator=torch.Generator().manual_seed(0)).double()
    assert nothing(triangulate(pixels + noise, confidence, cameras))


def test_points_behind_cameras_are_not_seen():
    cameras = ring(4)
    # Behind the first camera, in front of the others' mirrors and not.
    points = torch.tensor([[0.0, 0.0, -6.0]]).double()
    found = triangulate(*see(cameras, points), cameras)
    assert not found.inliers[0].any() and found.points.isfinite().all()
    behind_all = [ring(4)[0], ring(4)[0]]
    assert nothing(triangulate(*see(behind_all, points), behind_all))


def test_what_is_not_a_number_is_not_seen():
    cameras, points = ring(6), people(10)
    pixels, confidence = see(cameras, points)
    pixels[0], pixels[1, :, 0], confidence[2] = math.nan, math.inf, math.nan
    pixels[:, 3] = math.nan
    found = triangulate(pixels, confidence, cameras)
    assert all(tensor.isfinite().all() for tensor in (found.points, found.confidence, found.error))
    keep = torch.arange(10) != 3
    torch.testing.assert_close(found.points[keep], points[keep], rtol=0, atol=1e-6)
    assert not found.inliers[:3].any() and not found.inliers[:, 3].any() and not found.points[3].any()


@settings(max_examples=10, deadline=None)
@given(st.permutations(range(17)))
def test_the_order_of_the_views_does_not_matter(order):
    # More views than all of whose pairs are tried.
    cameras, points = ring(17), people(30)
    pixels, confidence = see(cameras, points)
    pixels, _ = with_outliers(pixels + torch.randn(pixels.shape, generator=torch.Generator().manual_seed(3)), 0.3)
    confidence[:, ::2] *= torch.linspace(0.1, 1.2, 17)[:, None]
    first = triangulate(pixels, confidence, cameras)
    again = triangulate(pixels[order], confidence[order], [cameras[view] for view in order])
    for name in ("points", "confidence", "error"):
        assert torch.equal(getattr(first, name), getattr(again, name))
    assert torch.equal(first.inliers[order], again.inliers)


def test_chunks_do_not_matter(monkeypatch):
    cameras, points = ring(9), people(40)
    pixels, confidence = see(cameras, points)
    pixels, _ = with_outliers(pixels, 0.2)
    whole = triangulate(pixels, confidence, cameras)
    monkeypatch.setattr(module, "CHUNK", 1)
    single = triangulate(pixels, confidence, cameras)
    torch.testing.assert_close(single.points, whole.points, rtol=0, atol=1e-9)
    assert torch.equal(single.inliers, whole.inliers)


def test_the_threshold_follows_the_image_unless_given():
    cameras, points = ring(4, ((1920, 1080), (192, 108))), people(1)
    pixels, confidence = see(cameras, points)
    # Five pixels are little in a large image, and much in a small one.
    pixels[0, :, 1] += 5
    assert triangulate(pixels, confidence, cameras).inliers[:, 0].all()
    pixels[0, :, 1] -= 5
    pixels[1, :, 1] += 5
    assert triangulate(pixels, confidence, cameras).inliers[:, 0].tolist() == [True, False, True, True]
    assert triangulate(pixels, confidence, cameras, threshold=20).inliers.all()


@pytest.mark.parametrize("views", range(2, 40))
def test_pairs_meet_every_view(views):
    pairs = module._pairs(views)
    assert len({frozenset(pair) for pair in pairs}) == len(pairs) <= module.MOST_PAIRS
    assert {view for pair in pairs for view in pair} == set(range(views))
    assert all(i != j for i, j in pairs)


def test_wrong_shapes_are_named():
    cameras = ring(3)
    with pytest.raises(ValueError, match=r"^keypoints: got shape \(2, 5, 2\), wanted \[3, ..., 2\]"):
        triangulate(torch.zeros(2, 5, 2), torch.zeros(2, 5), cameras)
    with pytest.raises(ValueError, match=r"^confidence: got shape \(3, 4\), wanted \(3, 5\)"):
        triangulate(torch.zeros(3, 5, 2), torch.zeros(3, 4), cameras)
    with pytest.raises(ValueError, match="^keypoints: got ndarray, wanted a tensor"):
        triangulate(np.zeros((3, 5, 2)), torch.zeros(3, 5), cameras)
    with pytest.raises(ValueError, match="^confidence: got NoneType, wanted a tensor"):
        triangulate(torch.zeros(3, 5, 2), None, cameras)
    with pytest.raises(ValueError, match="^least_views: got 1, wanted at least 2"):
        triangulate(torch.zeros(3, 5, 2), torch.zeros(3, 5), cameras, least_views=1)


def test_points_carry_no_gradient():
    cameras = ring(4)
    pixels, confidence = see(cameras, people(5))
    assert not triangulate(pixels.requires_grad_(), confidence, cameras).points.requires_grad


def test_a_batch_of_cameras_and_a_threshold_that_nothing_meets_are_refused():
    cameras = ring(4)
    pixels, confidence = see(cameras, people(5))
    turned = [replace(camera, R=camera.R[None]) for camera in cameras]
    for batch in (Camera.stack(cameras), [camera.expand(1) for camera in cameras], turned):
        with pytest.raises(ValueError, match="cameras: got a batch of them in one"):
            triangulate(pixels, confidence, batch)
    for threshold in (0.0, -1.0, math.nan):
        with pytest.raises(ValueError, match="threshold: got .*, wanted more than 0 pixels"):
            triangulate(pixels, confidence, cameras, threshold=threshold)


def test_a_view_beyond_all_measure_counts_for_nothing():
    """Its matrix has no inverse in float64."""
    cameras, points = ring(6), people(4)
    pixels, confidence = see(cameras, points)
    K = cameras[2].K.clone()
    K[:2, 2] = 3e38
    cameras[2] = replace(cameras[2], K=K)
    found = triangulate(pixels, confidence, cameras)
    torch.testing.assert_close(found.points, points, rtol=0, atol=1e-6)
    assert not found.inliers[2].any() and found.inliers[[0, 1, 3, 4, 5]].all()
