import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from hvs.geometry import Camera, rotation_about_axis

K = torch.tensor([[310.0, 1.5, 63.0], [0.0, 290.0, 50.5], [0.0, 0.0, 1.0]], dtype=torch.float64)
COEFFICIENTS = [-0.12, 0.08, 1.2e-3, -7e-4, 0.02, 0.01, -0.02, 0.005, 8e-4, -3e-4, 5e-4, 2e-4]


def camera(count: int = 5, height: int = 97, width: int = 128, batch: tuple[int, ...] = ()) -> Camera:
    generator = torch.Generator().manual_seed(count)
    axis = torch.nn.functional.normalize(torch.randn(*batch, 3, generator=generator, dtype=torch.float64), dim=-1)
    R = rotation_about_axis(axis, torch.rand(batch, generator=generator, dtype=torch.float64))
    t = torch.randn(*batch, 3, generator=generator, dtype=torch.float64)
    distortion = torch.tensor(COEFFICIENTS[:count], dtype=torch.float64).expand(*batch, count)
    return Camera(K.expand(*batch, 3, 3), R, t, distortion, height, width)


def world_points_in_view(cam: Camera, count: int = 40) -> torch.Tensor:
    generator = torch.Generator().manual_seed(7)
    pixels = torch.rand(count, 2, generator=generator, dtype=torch.float64) * torch.tensor([cam.width, cam.height])
    depth = 1.5 + 2 * torch.rand(count, 1, generator=generator, dtype=torch.float64)
    inside = torch.cat((pixels - K[:2, 2], torch.ones(count, 1)), -1) / torch.tensor([310.0, 290.0, 1.0])
    return cam.to_world(inside * depth)


@pytest.mark.parametrize("count", [0, 4, 5, 8, 12])
def test_project_agrees_with_opencv(count):
    cv2 = pytest.importorskip("cv2", reason="opencv is a development dependency")
    cam = camera(count)
    plain_K = K.clone()
    plain_K[0, 1] = 0  # OpenCV ignores skew
    cam = Camera(plain_K, cam.R, cam.t, cam.distortion, cam.height, cam.width)
    points = world_points_in_view(cam)
    coefficients = cam.distortion.numpy() if count else None
    wanted, _ = cv2.projectPoints(
        points.numpy(), cv2.Rodrigues(cam.R.numpy())[0], cam.t.numpy(), plain_K.numpy(), coefficients
    )
    np.testing.assert_allclose(cam.project(points).numpy(), wanted[:, 0], atol=1e-9)


@pytest.mark.parametrize("count", [4, 5, 8, 12])
def test_rays_agree_with_opencv(count):
    cv2 = pytest.importorskip("cv2", reason="opencv is a development dependency")
    plain_K = K.clone()
    plain_K[0, 1] = 0
    cam = camera(count)
    cam = Camera(plain_K, cam.R, cam.t, cam.distortion, 31, 40)
    y, x = np.mgrid[0:31, 0:40]
    pixels = np.stack((x, y), -1).reshape(-1, 1, 2).astype(np.float64)
    five_steps = (cv2.TERM_CRITERIA_COUNT, 5, 0.0)
    plane = cv2.undistortPoints(pixels, plain_K.numpy(), cam.distortion.numpy(), criteria=five_steps)
    rays = np.concatenate((plane[:, 0], np.ones((len(plane), 1))), -1)
    rays /= np.linalg.norm(rays, axis=-1, keepdims=True)
    np.testing.assert_allclose(cam.rays().reshape(-1, 3).numpy(), rays, atol=1e-9)


@pytest.mark.parametrize("count", [0, 4, 5, 8, 12])
def test_rays_pass_through_projected_points(count):
    cam = camera(count)
    rays = cam.rays()
    rows, columns = torch.tensor([0, 13, 96]), torch.tensor([127, 40, 0])
    points = cam.to_world(rays[rows, columns] * torch.tensor([[1.0], [2.0], [5.0]]))
    assert torch.allclose(cam.project(points), torch.stack((columns, rows), -1).double(), atol=0.02)
    assert torch.allclose(rays.norm(dim=-1), torch.ones(97, 128, dtype=torch.float64))


@pytest.mark.parametrize("batch", [(), (1,), (2, 3)])
def test_batch_axes_give_what_single_cameras_give(batch):
    cam = camera(8, 9, 7, batch)
    points = torch.randn(*batch, 6, 3, dtype=torch.float64)
    assert cam.rays().shape == (*batch, 9, 7, 3)
    assert cam.project(points).shape == (*batch, 6, 2)
    flat = Camera(*(v.reshape(-1, *v.shape[len(batch) :]) for v in (cam.K, cam.R, cam.t, cam.distortion)), 9, 7)
    for i, (rays, projected) in enumerate(
        zip(cam.rays().reshape(-1, 9, 7, 3), cam.project(points).reshape(-1, 6, 2), strict=True)
    ):
        assert torch.allclose(flat[i].rays(), rays)
        assert torch.allclose(flat[i].project(points.reshape(-1, 6, 3)[i]), projected)


def test_to_world_inverts_to_camera():
    cam = camera(0, batch=(3,))
    points = torch.randn(3, 11, 3, dtype=torch.float64)
    assert torch.allclose(cam.to_world(cam.to_camera(points)), points)


@pytest.mark.parametrize("count", [0, 12])
def test_everything_is_differentiable(count):
    cam = camera(count, 3, 4)
    points = world_points_in_view(cam, 3)
    tensors = [v.clone().requires_grad_() for v in (cam.K, cam.R, cam.t, cam.distortion)]
    assert torch.autograd.gradcheck(lambda *v: Camera(*v, 3, 4).project(points), tensors)
    assert torch.autograd.gradcheck(lambda K, R, t, d: Camera(K, R, t, d, 3, 4).rays(), tensors)


def test_crop_sees_the_same_pixels_and_rounds_its_offset():
    cam = camera(5)
    rays = cam.rays()
    assert torch.allclose(cam.crop(10.4, 20.6, 30, 40).rays(), rays[21:51, 10:50])
    batch = camera(5, batch=(2,))
    cropped = batch.crop(torch.tensor([3.0, -5.0]), torch.tensor([2.0, 0.0]), 8, 6).rays()
    assert torch.allclose(cropped[0], batch.rays()[0, 2:10, 3:9])
    assert torch.allclose(cropped[1][:, 5:], batch.rays()[1, :8, :1])


def test_resize_keeps_the_corners_or_scales_the_principal_point():
    cam = camera(0)
    points = world_points_in_view(cam)
    pixels = cam.project(points)
    centre = cam.resize(97 * 2, 64)
    assert (centre.height, centre.width) == (194, 64)
    scale = torch.tensor([0.5, 2.0])
    assert torch.allclose(centre.project(points), (pixels + 0.5) * scale - 0.5)
    assert torch.allclose(cam.resize(194, 64, convention="original").project(points), pixels * scale)
    with pytest.raises(ValueError, match="convention"):
        cam.resize(2, 2, convention="corner")


def test_look_at_puts_the_target_in_the_centre_and_up_is_up():
    eye, target, up = torch.tensor([3.0, -1.0, 2.0]), torch.tensor([0.1, -0.9, 0.3]), torch.tensor([0.0, -1.0, 0.0])
    cam = Camera.look_at(eye, target, up, K.float(), 97, 128)
    assert torch.allclose(cam.project(target[None])[0], K[:2, 2].float(), atol=1e-3)
    assert cam.to_camera(target[None])[0, 2] > 0
    assert cam.project((target + 0.1 * up)[None])[0, 1] < K[1, 2]
    assert torch.allclose(cam.R @ cam.R.T, torch.eye(3), atol=1e-6) and torch.det(cam.R) > 0
    # Seen from the front, something at the camera's right hand lies right in the image.
    right = torch.linalg.cross(target - eye, up)
    assert cam.project((target + 0.1 * right)[None])[0, 0] > K[0, 2]


def test_look_at_along_up_is_still_a_rotation():
    down = Camera.look_at(
        torch.tensor([0.0, -2.0, 0.0]), torch.zeros(3), torch.tensor([0.0, -1.0, 0.0]), K.float(), 5, 5
    )
    assert torch.allclose(down.R @ down.R.T, torch.eye(3), atol=1e-6) and torch.det(down.R) > 0.99
    assert down.to_camera(torch.zeros(1, 3))[0, 2] == pytest.approx(2.0)


def test_the_position_is_the_origin_of_the_cameras_frame():
    ring = Camera.orbit(torch.tensor([0.2, -1.0, 0.1]), torch.tensor([0.0, -1.0, 0.0]), 3.0, 5, K.float(), 20, 30)
    # Batch axes broadcast: one place, seen in five directions.
    for camera, batch in ((ring, (5,)), (ring[0], ()), (replace(ring, t=ring.t[0]), (5,))):
        assert camera.position.shape == (*batch, 3)
        assert camera.to_camera(camera.position[..., None, :]).abs().max() < 1e-6


def test_orbit_is_a_ring_of_the_wanted_radius():
    target, up = torch.tensor([0.2, -1.0, 0.1]), torch.tensor([0.0, -2.0, 0.0])
    ring = Camera.orbit(target, up, 3.0, 8, K.float(), 20, 30, elevation=0.3, start=torch.tensor([0.0, 5.0, -1.0]))
    eyes = ring.position
    assert ring.K.shape == (8, 3, 3)
    assert torch.allclose((eyes - target).norm(dim=-1), torch.full((8,), 3.0), atol=1e-5)
    assert torch.allclose(eyes[:, 1], target[1] - 3 * math.sin(0.3) * torch.ones(8), atol=1e-5)
    assert torch.allclose((eyes - target).sum(0)[[0, 2]], torch.zeros(2), atol=1e-5)
    assert eyes[0, 2] < target[2] and abs(eyes[0, 0] - target[0]) < 1e-5
    steps = (eyes - eyes.roll(1, 0)).norm(dim=-1)
    assert torch.allclose(steps, steps[:1].expand(8), atol=1e-5)


def test_stack_and_index_round_trip():
    singles = [camera(5) for _ in range(3)]
    stacked = Camera.stack(singles)
    assert stacked.K.shape == (3, 3, 3) and torch.equal(stacked[1].t, singles[1].t)
    with pytest.raises(ValueError, match="cameras"):
        Camera.stack([camera(5), camera(4)])


def test_to_moves_every_tensor():
    assert {v.dtype for v in vars(camera(5).to(torch.float32)).values() if isinstance(v, torch.Tensor)} == {
        torch.float32
    }


def test_pinning_takes_every_tensor(monkeypatch):
    """As a loader's `pin_memory` would; there is nothing to pin for without a GPU."""
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor + 1)
    found = camera().pin_memory()
    assert isinstance(found, Camera) and torch.equal(found.t, camera().t + 1) and torch.equal(found.K, camera().K + 1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(K=torch.zeros(2, 3)), r"K: got shape \(2, 3\)"),
        (dict(R=torch.zeros(3)), "R: got shape"),
        (dict(t=torch.zeros(3, 1)), "t: got shape"),
        (dict(distortion=torch.zeros(6)), r"distortion: got shape \(6,\)"),
        (dict(K=torch.zeros(2, 3, 3), t=torch.zeros(5, 3)), "batch axes"),
        (dict(height=0), "height, width: got 0"),
        (dict(height=np.float64(8)), "height, width: got 8.0"),
    ],
)
def test_wrong_arguments_are_named(change, message):
    good = dict(K=torch.eye(3), R=torch.eye(3), t=torch.zeros(3), distortion=torch.zeros(0), height=2, width=2)
    with pytest.raises(ValueError, match=message):
        Camera(**(good | change))


def test_geometry_survives_autocast():
    cam = camera(5).to(torch.float32)
    points = torch.randn(9, 3)
    wanted = cam.to_camera(points)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(cam.to_camera(points), wanted)
        assert cam.rays().dtype == torch.float32


@pytest.mark.parametrize("start", [None, 2.0], ids=["without a start", "a start on the axis"])
@pytest.mark.parametrize("up", [(0.0, 0.0, 1.0), (0.0, -1.0, 0.0), (-1.0, 0.0, 0.0)], ids=str)
@pytest.mark.parametrize("count", [1, 4])
def test_an_orbit_need_not_be_told_where_to_begin(count, up, start):
    up = torch.tensor(up)
    ring = Camera.orbit(torch.zeros(3), up, 3.0, count, torch.eye(3), 8, 8, start=None if start is None else start * up)
    eyes = ring.position
    torch.testing.assert_close(eyes.norm(dim=-1), torch.full((count,), 3.0))
    assert (eyes @ up).abs().max() < 1e-6


def test_cameras_are_made_of_tensors_without_memory():
    """As in a compiled program: no value decides what is computed, and none is waited for."""
    K, point = torch.empty(3, 3, device="meta"), torch.empty(3, device="meta")
    ring = Camera.orbit(point, point, 3.0, 4, K, 8, 10, start=point)
    seen = Camera.look_at(point, point, point, K, 8, 10).crop(1, 2, 6, 7).resize(12, 14)
    assert ring.rays().shape == (4, 8, 10, 3) and seen.rays().shape == (12, 14, 3)


def test_cameras_expand_to_one_batch_axis():
    one = Camera(torch.eye(3), torch.eye(3), torch.zeros(3), torch.zeros(5), 4, 6)
    for K in (one.K, one.K[None], one.K.expand(3, 3, 3)):
        many = replace(one, K=K).expand(3)
        assert (many.K.shape, many.t.shape, many.distortion.shape) == ((3, 3, 3), (3, 3), (3, 5))
        assert many[1:].R.shape == (2, 3, 3) and (many.height, many.width) == (4, 6)


@pytest.mark.parametrize("method", ["to_camera", "to_world", "project"])
@pytest.mark.parametrize("shape", [(), (3,), (4, 1), (4, 2)], ids=str)
def test_what_is_no_list_of_points_is_refused(method, shape):
    with pytest.raises(ValueError, match=r"points: got shape .*, wanted \[..., J, 3\]"):
        getattr(camera(), method)(torch.zeros(shape))
    with pytest.raises(ValueError, match="points: got ndarray, wanted a tensor"):
        getattr(camera(), method)(np.zeros((4, 3)))


@pytest.mark.parametrize("method", ["to_camera", "to_world", "project"])
def test_points_of_other_batch_axes_than_the_cameras_are_refused(method):
    cameras = camera(batch=(3,))
    wanted = r"wanted \[..., J, 3\] with batch axes that broadcast against the camera's \[3\]"
    with pytest.raises(ValueError, match=rf"points: got shape \(4, 7, 3\), {wanted}"):
        getattr(cameras, method)(torch.zeros(4, 7, 3))
    assert getattr(cameras, method)(torch.ones(4, 1, 7, 3)).shape[:3] == (4, 3, 7)


def test_only_the_tensors_that_move_points_must_fit_them():
    lenses = replace(camera(), K=camera(batch=(3,)).K)
    assert lenses.to_world(lenses.to_camera(torch.zeros(4, 7, 3))).shape == (4, 7, 3)
    with pytest.raises(ValueError, match=r"points: got shape \(4, 7, 3\)"):
        lenses.project(torch.zeros(4, 7, 3))


@pytest.mark.parametrize("index", [0, slice(0, 4), torch.tensor([2, 0, 1])], ids=str)
@pytest.mark.parametrize("name", ["R", "t", "distortion"])
def test_an_index_does_not_pick_the_coefficients_of_a_tensor_without_batch_axis(name, index):
    cameras = camera(batch=(8,))
    mixed = replace(cameras, **{name: getattr(cameras, name)[0]})
    with pytest.raises(ValueError, match=f"{name}: has no batch axis"):
        mixed[index]


@pytest.mark.parametrize("name", ["K", "R", "t", "distortion"])
@pytest.mark.parametrize("value", [None, [0.0, 0.0, 0.0], np.eye(3)], ids=["None", "list", "array"])
def test_what_is_not_a_tensor_is_refused_by_name(name, value):
    with pytest.raises(ValueError, match=f"{name}: got {type(value).__name__}, wanted a tensor"):
        replace(camera(), **{name: value})


@pytest.mark.parametrize(
    ("make", "change", "message"),
    [
        (Camera.look_at, dict(eye=[0.0, 0.0, -3.0]), r"eye: got list, wanted a tensor \[..., 3\]"),
        (Camera.look_at, dict(up=np.zeros(3)), r"up: got ndarray, wanted a tensor \[..., 3\]"),
        (Camera.look_at, dict(target=torch.zeros(2)), r"target: got shape \(2,\), wanted \[..., 3\]"),
        (Camera.look_at, dict(K=torch.eye(4)), r"K: got shape \(4, 4\), wanted \[..., 3, 3\]"),
        (Camera.orbit, dict(target=torch.zeros(2, 3)), r"target: got shape \(2, 3\), wanted \[3\]"),
        (Camera.orbit, dict(up=torch.tensor(1.0)), r"up: got shape \(\), wanted \[3\]"),
        (Camera.orbit, dict(start=(1.0, 0.0, 0.0)), r"start: got tuple, wanted a tensor \[3\]"),
        (Camera.orbit, dict(K=torch.eye(3).expand(2, 3, 3)), r"K: got shape \(2, 3, 3\), wanted \[3, 3\]"),
    ],
)
def test_what_a_camera_is_aimed_with_is_refused_by_name(make, change, message):
    first = dict(eye=torch.ones(3)) if make is Camera.look_at else dict(distance=2.0, count=3)
    given = dict(target=torch.zeros(3), up=torch.tensor([0.0, -1.0, 0.0]), K=torch.eye(3), height=8, width=8)
    with pytest.raises(ValueError, match=message):
        make(**first | given | change)


def test_a_size_that_is_not_whole_is_refused():
    with pytest.raises(ValueError, match="height, width: got 48.5, 64, wanted whole numbers"):
        camera().resize(48.5, 64)


def test_an_orbit_is_as_exact_under_autocast():
    target, up, start = torch.tensor([[0.1, 0.2, 0.3], [0.1, 0.9, 0.2], [1.0, 0.3, 2.0]])
    wanted = Camera.orbit(target, up, 3.0, 7, K.float(), 64, 64, 0.3, start)
    with torch.autocast("cpu", torch.bfloat16):
        found = Camera.orbit(target, up, 3.0, 7, K.float(), 64, 64, 0.3, start)
    assert torch.equal(found.R, wanted.R) and torch.equal(found.t, wanted.t)


def test_tensors_of_other_dtypes_make_the_same_cameras():
    K = torch.tensor([[300, 0, 127], [0, 300, 127], [0, 0, 1]])
    eye, target, up = (torch.tensor(v) for v in ([1, 2, 3], [0, 0, 0], [0, -1, 0]))
    wanted = Camera.look_at(eye.float(), target.float(), up.float(), K.float(), 256, 256)
    for kind in (torch.float64, torch.long, torch.float32):
        found = Camera.look_at(eye.to(kind), target, up.float(), K, 256, 256)
        for name in ("K", "R", "t"):
            assert torch.allclose(getattr(found, name).float(), getattr(wanted, name), atol=1e-6)
            assert getattr(found, name).dtype == torch.promote_types(kind, torch.float32)
    ring = Camera.orbit(target, up, 2.0, 4, K, 256, 256, start=eye)
    assert torch.equal(
        ring.t, Camera.orbit(target.float(), up.float(), 2.0, 4, K.float(), 256, 256, start=eye.float()).t
    )
    with pytest.raises(ValueError, match="count: got 0, wanted at least 1"):
        Camera.orbit(target, up, 2.0, 0, K, 256, 256)


def test_windows_are_rounded_and_not_cut():
    K = torch.tensor([[300, 0, 127], [0, 300, 127], [0, 0, 1]])
    for kind in (torch.long, torch.float32):
        cropped = Camera(K.to(kind), torch.eye(3), torch.zeros(3), torch.zeros(0), 256, 256).crop(1.7, -1.7, 10, 10)
        assert cropped.K[:2, 2].tolist() == [125, 129]
    # In float32 these are 1.5 and 0.5, which would be rounded to 2 and 0.
    assert camera().crop(1.4999999999, 0.5000000001, 4, 4).K[:2, 2].tolist() == [62, 49.5]


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_rays_of_a_camera_in_half_precision_are_exact(kind):
    half = replace(camera(5), width=3000).to(kind)
    assert torch.equal(half.rays(), half.to(torch.float32).rays())


def test_batch_axes_that_do_not_fit_are_named():
    single, four = camera(5), Camera.stack([camera(5)] * 4)
    assert single.batch_shape == () and four.batch_shape == (4,) and single.expand(3).batch_shape == (3,)
    with pytest.raises(ValueError, match=r"camera: got batch axes \[4\] of K, wanted \[3\], \[1\] or none"):
        four.expand(3)
    with pytest.raises(ValueError, match="cameras: got K of shapes .*, wanted one for all"):
        Camera.stack([single, single.expand(2)])
