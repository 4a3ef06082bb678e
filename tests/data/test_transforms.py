"""The crop box, and pixels that stay where the camera says they are."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hvs.data.decoding import Picture
from hvs.data.transforms import (
    LEAST_JOINTS,
    Box,
    align,
    composite,
    crop_box,
    crop_camera,
    crop_image,
    crop_mask,
    reduction_for,
)
from hvs.geometry import Camera


def ramp(width, height):
    """An image whose red is x and whose green is y."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack((x, y, 0 * x), -1).numpy()


def everywhere(*pixels):
    keypoints = torch.tensor(pixels, dtype=torch.float32)
    return keypoints, torch.ones(len(keypoints), dtype=torch.bool)


def test_fixed_box_is_centred_on_the_person():
    assert crop_box(*everywhere((800, 300), (1000, 900)), 1920, 1080, side=1080) == Box(360, 0, 1080)


def test_fixed_box_is_shifted_inside():
    assert crop_box(*everywhere((5, 5), (50, 60)), 1920, 1080, side=1080) == Box(0, 0, 1080)
    assert crop_box(*everywhere((1900, 5), (1910, 60)), 1920, 1080, side=1080) == Box(840, 0, 1080)


def test_fixed_box_is_no_larger_than_the_image():
    assert crop_box(*everywhere((48, 20)), 96, 64, side=1080) == Box(16, 0, 64)


def test_box_follows_the_person():
    # The larger extent is 400: 1.25 times that, around (400, 600).
    assert crop_box(*everywhere((300, 400), (400, 500), (500, 800)), 1000, 1002) == Box(150, 350, 500)


def test_box_of_a_large_person_is_the_image():
    assert crop_box(*everywhere((10, 10), (500, 500), (990, 990)), 1000, 1002) == Box(0, 0, 1000)


def test_keypoints_outside_or_invalid():
    keypoints, valid = everywhere((10, 10), (15, 20), (20, 30), (-500, 10), (9000, 9000))
    # One that lies outside stretches the box only to the border.
    assert crop_box(keypoints[:4], valid[:4], 200, 100) == Box(0, 8, 25)
    assert crop_box(keypoints, torch.tensor([True, True, True, False, False]), 200, 100) == Box(2, 8, 25)
    for side in (None, 50):
        assert crop_box(keypoints[3:], valid[3:], 200, 100, side) is None
        assert crop_box(keypoints, ~valid, 200, 100, side) is None


def test_a_box_follows_nobody_of_whom_nearly_nothing_is_seen():
    keypoints, valid = everywhere((10, 10), (15, 20), (-500, 10), (9000, 9000))
    assert crop_box(keypoints, valid, 200, 100) is None
    assert crop_box(*everywhere((10, 10), (12, 11), (13, 13)), 200, 100) is None
    assert crop_box(*everywhere((10, 10), (12, 11), (13, 14)), 200, 100) is not None
    # A box of a given size shows the same however little is seen.
    assert crop_box(keypoints[:1], valid[:1], 200, 100, side=50) == Box(0, 0, 50)


@given(
    pixels=st.lists(st.tuples(st.floats(-300, 600, width=32), st.floats(-300, 600, width=32)), min_size=1, max_size=9),
    width=st.integers(1, 300),
    height=st.integers(1, 300),
    side=st.none() | st.integers(1, 500),
)
def test_box_is_inside_the_image(pixels, width, height, side):
    keypoints, valid = everywhere(*pixels)
    box = crop_box(keypoints, valid, width, height, side)
    inside = sum(0 <= x <= width - 1 and 0 <= y <= height - 1 for x, y in keypoints.tolist())
    if side is None:
        assert box is None or inside >= LEAST_JOINTS
    else:
        assert (box is not None) == (inside > 0)
    if box:
        assert box.side >= 1 and 0 <= box.left <= width - box.side and 0 <= box.top <= height - box.side


@pytest.mark.parametrize(
    ("side", "resolution", "wanted"),
    [(1080, 512, 2), (1080, 256, 4), (1080, 64, 8), (511, 256, 1), (512, 256, 2), (100, 512, 1), (1, 1, 1), (16, 1, 8)],
)
def test_reduction_keeps_enough_pixels(side, resolution, wanted):
    assert reduction_for(Box(0, 0, side), resolution) == wanted


@given(left=st.integers(0, 500), top=st.integers(0, 500), side=st.integers(1, 600), resolution=st.integers(1, 600))
def test_aligned_windows_lie_in_the_one_asked_for_or_a_little_beside(left, top, side, resolution):
    box = Box(left, top, side)
    reduction = reduction_for(box, resolution)
    aligned = align(box, reduction)
    assert reduction_for(aligned, resolution) == reduction
    assert all(value % reduction == 0 and 0 <= old - value < reduction for old, value in zip(box, aligned, strict=True))


@pytest.mark.parametrize("resolution", [8, 16, 31, 64, 128])
def test_camera_follows_the_pixels(write_jpeg, resolution):
    """What the full frame shows at (x, y) has red x and green y: so it has where the crop's camera sees it."""
    K = torch.tensor([[300.0, 0, 120.0], [0, 280, 70], [0, 0, 1]])
    camera = Camera(K, torch.eye(3), torch.zeros(3), torch.tensor([0.1, -0.05, 0.01, 0.0, 0.0]), 150, 250)
    point = torch.tensor([[0.05, -0.02, 1.0]])
    box = align(Box(93, 21, 67), reduction_for(Box(93, 21, 67), resolution))
    pixels = 255 * crop_image(Picture(write_jpeg(ramp(250, 150)), "x"), box, resolution)
    x, y = crop_camera(camera, box, resolution, "centre").project(point)[0]
    grid = torch.stack((x, y)) * 2 / (resolution - 1) - 1
    seen = torch.nn.functional.grid_sample(pixels[None], grid[None, None, None], align_corners=True).flatten()
    assert torch.allclose(seen[:2], camera.project(point)[0], atol=1.0)


def test_a_reduced_picture_is_the_mean_of_the_whole_one(write_jpeg):
    """Decoding at a part of the size and shrinking the whole picture give the same, but for rounding to bytes twice."""
    noise = torch.nn.functional.interpolate(torch.rand(1, 3, 40, 40), 320, mode="bicubic")[0].clamp(0, 1)
    picture = Picture(write_jpeg((255 * noise).movedim(0, -1).numpy()), "x")
    whole = picture.rgb().float()[None]
    for resolution, reduction in ((160, 2), (80, 4), (40, 8)):
        box = Box(0, 0, 320)
        assert reduction_for(box, resolution) == reduction
        wanted = torch.nn.functional.avg_pool2d(whole, reduction)[0]
        assert (255 * crop_image(picture, box, resolution) - wanted).abs().mean() < 1.0


def test_camera_conventions_differ_by_what_the_resize_says():
    camera = Camera(torch.eye(3), torch.eye(3), torch.zeros(3), torch.zeros(5), 100, 100)
    box = Box(20, 10, 50)
    original, centre = (crop_camera(camera, box, 25, convention) for convention in ("original", "centre"))
    assert torch.equal(original.K[:2, 2], torch.tensor([-10.0, -5.0]))
    assert torch.equal(centre.K[:2, 2], torch.tensor([-10.25, -5.25]))
    assert (centre.height, centre.width) == (25, 25)


def test_image_is_resized_with_all_its_pixels(write_jpeg):
    stripes = torch.zeros(64, 64, 3, dtype=torch.uint8)
    stripes[:, ::2] = 200
    pixels = crop_image(Picture(write_jpeg(stripes.numpy()), "x"), Box(0, 0, 64), 16)
    assert (pixels - 100 / 255).abs().max() < 0.05


def test_mask_is_resized_without_new_values(write_jpeg):
    pixels = torch.zeros(60, 60, dtype=torch.uint8)
    pixels[20:40, 10:31] = 255
    mask = crop_mask(Picture(write_jpeg(pixels.numpy()), "x"), Box(5, 5, 50), 33)
    assert mask.shape == (1, 33, 33) and set(mask.unique().tolist()) == {0.0, 1.0}
    assert mask.mean() == pytest.approx(20 * 21 / 50**2, abs=0.02)


def test_composite():
    image = torch.rand(2, 3, 4, 5)
    mask = (torch.rand(2, 1, 4, 5) > 0.5).float()
    result = composite(image, mask, (126, 130, 108))
    assert torch.equal(result[:, 1][mask[:, 0] == 1], image[:, 1][mask[:, 0] == 1])
    assert (result[:, 2][mask[:, 0] == 0] - 108 / 255).abs().max() < 1e-7
