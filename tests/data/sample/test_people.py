import io

import numpy as np
import pytest
import torch
from PIL import Image


@pytest.fixture(scope="module")
def cameras(model):
    from hvs.data.sample.stage import ring

    return ring([(240, 135)] * 4, np.random.default_rng(0))


@pytest.fixture(scope="module")
def shots(person, cameras):
    from hvs.data.sample.people import film
    from hvs.data.sample.stage import make_rigs

    return [
        [tuple(np.asarray(Image.open(io.BytesIO(picture))) for picture in view) for view in frame]
        for frame in film(person, cameras, make_rigs(cameras))
    ]


def test_stands_on_the_floor_in_every_frame(person):
    torch.testing.assert_close(person.vertices[..., 2].amin(1), torch.zeros(8), rtol=0, atol=1e-5)
    assert (person.vertices[..., 2].amax(1) > 1.0).all()


def test_pictures_have_the_cameras_size_and_masks_are_black_or_white(shots):
    assert len(shots) == 8 and len(shots[0]) == 4
    for image, mask in shots[0]:
        assert image.shape == mask.shape == (135, 240, 3)
        assert (np.abs(mask.astype(int) - 255 * (mask >= 128)) < 40).all()


def test_masks_cover_the_projected_surface(person, cameras, shots):
    for frame, view in ((0, 0), (3, 2), (7, 3)):
        mask = shots[frame][view][1][..., 0] >= 128
        pixels = cameras[view].project(person.vertices[frame].double()).round().long()
        hit = np.zeros_like(mask)
        hit[pixels[:, 1], pixels[:, 0]] = True
        # Vertices lie on the person, give or take the pixel at the edge.
        near = np.zeros_like(mask)
        for dy in (-1, 0, 1):
            for dx in (-1, 0, 1):
                near |= np.roll(mask, (dy, dx), (0, 1))
        assert near[hit].all()
        assert hit.sum() > 0.7 * mask.sum()


@pytest.mark.parametrize("layout", ["panoptic", "human36m"])
def test_joints_lie_within_the_mask(person, cameras, shots, layout):
    inside = []
    for frame, views in enumerate(shots):
        for camera, (_, mask) in zip(cameras, views, strict=True):
            x, y = camera.project(person.joints[layout][frame].double()).round().long().unbind(-1)
            inside.append(mask[y, x, 0] >= 128)
    assert np.mean(inside) > 0.93


def test_the_face_is_skin_where_the_camera_sees_it(person, cameras, shots):
    seen = 0
    for frame, views in enumerate(shots):
        nose, ears = person.joints["panoptic"][frame, 0], person.joints["panoptic"][frame, 3:5].mean(0)
        for camera, (image, _) in zip(cameras, views, strict=True):
            eye = camera.position.float()
            if torch.cosine_similarity(nose - ears, eye - nose, dim=0) > 0.8:
                x, y = camera.project(nose[None].double())[0].round().long().tolist()
                red, green, blue = image[y, x].astype(int)
                assert red > green > blue
                seen += 1
    assert seen


def test_people_differ_and_are_repeatable(person):
    from hvs.data.sample.people import make_person

    again, other, elsewhere = make_person(0, 0, 8), make_person(0, 1, 8), make_person(1, 0, 8)
    assert torch.equal(again.vertices, person.vertices) and again.outfit == person.outfit
    for another in (other, elsewhere):
        assert another.outfit != person.outfit
        assert (another.joints["panoptic"] - person.joints["panoptic"]).abs().max() > 0.1
