import pytest
import torch
from torch.nn import functional as F

from hvs.geometry import Camera
from hvs.inference.canvas import place, to_crop


def make_camera(width=60, height=40):
    K = torch.tensor([[70.0, 0, 31.0], [0, 68.0, 19.0], [0, 0, 1]])
    return Camera(K, torch.eye(3), torch.zeros(3), torch.zeros(5), height, width)


@pytest.mark.parametrize("resize", ["centre", "original"])
def test_keypoints_land_where_the_crops_camera_sees_them(resize):
    full = make_camera()
    crop = Camera.stack([full.crop(left, 3, 20, 20).resize(64, 64, resize) for left in (5, 11)])
    points = torch.tensor([[0.1, 0.05, 2.0], [-0.2, 0.1, 3.0]])
    assert torch.allclose(to_crop(full.project(points), full, crop), crop.project(points), atol=1e-4)


def test_a_crop_of_the_same_scale_comes_back_to_the_pixel():
    picture = torch.rand(1, 3, 40, 60)
    full = make_camera()
    crop = Camera.stack([full.crop(7, 4, 24, 24)])
    colour = torch.tensor([0.2, 0.4, 0.6])
    canvas = place(picture[:, :, 4:28, 7:31], crop, full, colour)
    wanted = colour[:, None, None].expand(1, 3, 40, 60).clone()
    wanted[:, :, 4:28, 7:31] = picture[:, :, 4:28, 7:31]
    assert torch.allclose(canvas, wanted, atol=1e-5)


@pytest.mark.parametrize("side", [12, 48, 100], ids=["enlarged", "reduced", "reduced by no whole number"])
def test_what_stands_still_stays_in_place_as_the_crop_moves(side):
    full = make_camera()
    y, x = torch.meshgrid(torch.arange(40.0), torch.arange(60.0), indexing="ij")
    blob = torch.exp(-((x - 30) ** 2 + (y - 18) ** 2) / 150).expand(1, 3, -1, -1)
    canvases = []
    for left in (14, 20):
        crop = Camera.stack([full.crop(left, 4, 24, 24).resize(side, side)])
        image = F.interpolate(blob[:, :, 4:28, left : left + 24], (side, side), mode="bilinear", antialias=True)
        canvases.append(place(image, crop, full, torch.zeros(3)))
    shared = slice(22, 36)
    one, two = (canvas[..., 5:27, shared] for canvas in canvases)
    assert (one - two).abs().max() < 0.02
    assert (one - blob[..., 5:27, shared]).abs().max() < 0.04


def test_a_batch_has_a_place_for_each():
    full = make_camera()
    crop = Camera.stack([full.crop(left, 0, 8, 8) for left in (0, 30)])
    canvas = place(torch.ones(2, 3, 8, 8), crop, full, torch.zeros(3))
    assert canvas.shape == (2, 3, 40, 60)
    assert canvas[0, 0, 4, 4] == 1 and canvas[0, 0, 4, 34] == 0 and canvas[1, 0, 4, 34] == 1
