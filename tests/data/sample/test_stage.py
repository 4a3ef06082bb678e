import numpy as np
import pytest
import torch

pytest.importorskip("warp", reason="the sample capture's pictures come from warp, which comes with anny")

from hvs.data.sample.stage import CENTRE, make_rigs, ring, to_world, windows
from hvs.geometry.skeletons import BY_NAME

SIZES = [(64, 36)] * 5


@pytest.fixture(scope="module")
def cameras():
    return ring(SIZES, np.random.default_rng(0))


def test_all_look_at_the_centre_from_around_it_upright(cameras):
    centre = torch.tensor(CENTRE).double()
    eyes = [camera.position for camera in cameras]
    for camera, eye in zip(cameras, eyes, strict=True):
        at = camera.to_camera(centre[None])[0]
        torch.testing.assert_close(at[:2], torch.zeros(2).double(), rtol=0, atol=1e-5)
        assert 3.5 < at[2] < 5
        below = camera.project(torch.stack((centre, centre - torch.tensor((0.0, 0.0, 0.5)))))
        assert below[1, 1] > below[0, 1] + 1
        assert 0.3 < eye[2] < 2.6
    angles = sorted(float(torch.atan2(eye[1], eye[0])) for eye in eyes)
    gaps = np.diff([*angles, angles[0] + 2 * np.pi])
    assert gaps.min() > 0.6 * 2 * np.pi / 5


def test_numbers_are_floats_that_readers_get_exactly_and_lenses_distort(cameras):
    for camera in cameras:
        for name in ("K", "R", "t", "distortion"):
            value = getattr(camera, name)
            assert value.dtype == torch.float64
            assert torch.equal(value, value.float().double())
        assert camera.distortion.shape == (5,)
    assert torch.stack([camera.distortion[0].abs() for camera in cameras]).max() > 0.03
    assert torch.stack([camera.distortion for camera in cameras]).abs().max() < 0.15


def test_rays_go_through_their_pixels(cameras):
    ((group, rig),) = make_rigs(cameras)
    assert group == [0, 1, 2, 3, 4]
    y, x = torch.meshgrid(torch.arange(36), torch.arange(64), indexing="ij")
    pixels = torch.stack((x, y), -1).reshape(-1, 2).double()
    for index, camera in enumerate(cameras):
        points = torch.from_numpy(rig.eyes.numpy()[index] + 3 * rig.rays.numpy()[index]).reshape(-1, 3).double()
        torch.testing.assert_close(camera.project(points), pixels, rtol=0, atol=0.05)


def test_sizes_are_grouped():
    sizes = [(20, 21), (20, 20), (20, 20), (20, 21)]
    rigs = make_rigs(ring(sizes, np.random.default_rng(1)))
    assert sorted(index for group, _ in rigs for index in group) == [0, 1, 2, 3]
    for group, rig in rigs:
        assert {sizes[index][::-1] for index in group} == {rig.rays.shape[1:]}
        assert rig.backdrop.shape == rig.rays.shape


def test_windows_hold_every_point_and_end_at_the_frame(cameras):
    generator = torch.Generator().manual_seed(0)
    inside = torch.tensor(CENTRE) + 0.2 * torch.rand(3, 50, 3, generator=generator)
    left, top, right, bottom = windows(cameras[0], inside).unbind(1)
    x, y = cameras[0].project(inside.double()).unbind(-1)
    assert (x.amin(1) > left).all() and (x.amax(1) < right - 1).all()
    assert (y.amin(1) > top).all() and (y.amax(1) < bottom - 1).all()
    beyond = windows(cameras[0], torch.tensor(CENTRE) + torch.tensor([[[-5.0, 0, 0], [5, 0, 5], [0, 0, -5]]]))
    assert (beyond >= 0).all() and (beyond[:, 2] <= 64).all() and (beyond[:, 3] <= 36).all()


def test_another_world_is_seen_the_same(cameras):
    axes = torch.tensor(((1.0, 0, 0), (0, 0, -1), (0, 1, 0))).double()
    points = torch.tensor([[0.1, -0.2, 0.9], [0.4, 0.3, 1.4]]).double()
    turned = to_world(cameras[1], axes)
    torch.testing.assert_close(turned.project(points @ axes.mT), cameras[1].project(points))
    assert (turned.R @ turned.R.mT - torch.eye(3)).abs().max() < 1e-6


def test_the_studio_is_bright_and_never_a_masked_background(cameras):
    _, rig = make_rigs(cameras)[0]
    backdrop = rig.backdrop.numpy()
    for skeleton in BY_NAME.values():
        assert not (backdrop == skeleton.background).all(-1).any()
    assert backdrop.mean() > 130
    assert len(np.unique(backdrop.reshape(-1, 3), axis=0)) > 20
