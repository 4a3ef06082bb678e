import numpy as np
import pytest
import torch

pytest.importorskip("warp", reason="the sample capture's pictures come from warp, which comes with anny")

from hvs.data.sample.raycast import GAMMA, Rig, Surface, photograph, unwrap

SIZE = 21
BACKDROP = (40, 80, 120)


def rig(eyes=((0.0, -4.0, 0.0),), size=SIZE, field=1.0):
    """Cameras that look along y, `field` metres wide at the origin."""
    at = (np.arange(size) - (size - 1) / 2) / size * field
    x, z = np.meshgrid(at, -at)
    rays = np.stack((x, np.full_like(x, 4.0), z), -1)
    rays /= np.linalg.norm(rays, axis=-1, keepdims=True)
    count = len(eyes)
    backdrop = np.broadcast_to(np.uint8(BACKDROP), (count, size, size, 3)).copy()
    return Rig(np.float32(eyes), np.float32(np.broadcast_to(rays, (count, size, size, 3))), backdrop)


def square(half=0.25, y=0.0, texture=None):
    """A square across the view, that faces the cameras; texture row 0 is at its bottom."""
    corners = torch.tensor([[-half, y, -half], [half, y, -half], [half, y, half], [-half, y, half]])
    faces = np.int32([[0, 1, 2], [0, 2, 3]])
    places = np.float32([[[0, 0], [1, 0], [1, 1]], [[0, 0], [1, 1], [0, 1]]])
    texture = np.full((4, 4, 3), 0.5, dtype=np.float32) if texture is None else texture
    normals = torch.tensor((0.0, -1.0, 0.0)).repeat(4, 1)
    return corners, normals, Surface(faces, places, texture)


def whole(count=1, size=SIZE):
    return np.int32([[0, 0, size, size]] * count)


def test_the_mask_is_what_the_square_covers():
    vertices, normals, surface = square(half=5.4 / SIZE)
    image, mask = photograph(vertices, normals, whole(), surface, rig())
    expected = np.zeros((SIZE, SIZE), dtype=bool)
    # Pixels are 1/21 m wide; the square reaches 5.4 of them from the centre.
    expected[5:16, 5:16] = True
    assert mask.shape == (1, SIZE, SIZE) and mask.dtype == bool
    assert np.array_equal(mask[0], expected)
    assert (image[0, ~expected] == BACKDROP).mean() > 0.8
    assert image[0, 0, 0].tolist() == list(BACKDROP)


def test_pixels_on_the_edge_are_mixed_by_coverage():
    vertices, normals, surface = square(half=6.1 / SIZE)
    image, mask = photograph(vertices, normals, whole(), surface, rig())
    inside, edge = image[0, 10, 10].astype(float), image[0, 10, 4].astype(float)
    share = (edge - BACKDROP) / (inside - BACKDROP)
    np.testing.assert_allclose(share, 0.5, atol=0.02)
    assert mask[0, 10, 4]


def test_texture_shows_upright_and_unmirrored():
    texture = np.zeros((2, 2, 3), dtype=np.float32)
    # Bottom left red, bottom right green, top left blue.
    texture[0, 0, 0], texture[0, 1, 1], texture[1, 0, 2] = 0.8, 0.8, 0.8
    vertices, normals, surface = square(half=0.4, texture=texture)
    image, _ = photograph(vertices, normals, whole(), surface, rig())
    assert int(image[0, 16, 4].argmax()) == 0
    assert int(image[0, 16, 16].argmax()) == 1
    assert int(image[0, 4, 4].argmax()) == 2
    assert image[0, 4, 16].max() < 60


def test_brightness_follows_the_texture_and_the_light():
    pixels = []
    for value, normal in ((0.2, (0.0, -1.0, 0.0)), (0.4, (0.0, -1.0, 0.0)), (0.4, (-0.4, -0.5, 0.7))):
        vertices, _, surface = square(texture=np.full((2, 2, 3), value, dtype=np.float32))
        normals = torch.tensor(normal).repeat(4, 1)
        image, _ = photograph(vertices, normals / normals.norm(dim=1, keepdim=True), whole(), surface, rig())
        pixels.append((image[0, 10, 10] / 255) ** GAMMA)
    np.testing.assert_allclose(pixels[1] / pixels[0], 2, rtol=0.03)
    assert (pixels[2] > 1.2 * pixels[1]).all()


def test_the_nearer_surface_hides_the_farther():
    near, normals, _ = square(half=0.2, y=-0.5)
    far, _, _ = square(half=0.4)
    texture = np.zeros((4, 4, 3), dtype=np.float32)
    texture[:, :2, 0], texture[:, 2:, 1] = 0.8, 0.8
    faces = np.int32([[0, 1, 2], [0, 2, 3], [4, 5, 6], [4, 6, 7]])
    places = np.concatenate((np.full((2, 3, 2), 0.2), np.full((2, 3, 2), 0.8))).astype(np.float32)
    image, _ = photograph(torch.cat((near, far)), normals.repeat(2, 1), whole(), Surface(faces, places, texture), rig())
    assert int(image[0, 10, 10].argmax()) == 0
    assert int(image[0, 10, 3].argmax()) == 1


def test_windows_only_save_work():
    vertices, normals, surface = square()
    wanted, mask = photograph(vertices, normals, whole(2), surface, rig(((0, -4, 0), (0.1, -4, 0.05))))
    tight = np.int32([[3, 3, 18, 18], [1, 3, 16, 20]])
    got, got_mask = photograph(vertices, normals, tight, surface, rig(((0, -4, 0), (0.1, -4, 0.05))))
    assert np.array_equal(got, wanted) and np.array_equal(got_mask, mask)
    assert not np.array_equal(wanted[0], wanted[1])


def test_nobody_in_view_leaves_the_backdrop():
    vertices, normals, surface = square(half=0.1)
    image, mask = photograph(vertices + torch.tensor((3.0, 0, 0)), normals, whole(), surface, rig())
    assert (image == BACKDROP).all() and not mask.any()
    image, mask = photograph(vertices, normals, np.zeros((1, 4), dtype=np.int32), surface, rig())
    assert (image == BACKDROP).all() and not mask.any()


def test_unwrap_finds_the_point_under_each_texel_and_the_nearest_beyond_the_seam():
    triangle = np.float32([[[0.0, 0.0], [0.5, 0.0], [0.0, 0.5]]])
    faces, weights = unwrap(triangle, 8)
    assert faces.shape == (8, 8) and (faces == 0).all()
    places = weights @ triangle[0]
    y, x = (np.mgrid[:8, :8] + 0.5) / 8
    inside = x + y < 0.5
    np.testing.assert_allclose(places[inside], np.stack((x, y), -1)[inside], atol=1e-5)
    np.testing.assert_allclose(weights.sum(-1), 1, atol=1e-5)
    np.testing.assert_allclose(places[7, 7], (0.25, 0.25), atol=1e-3)
    assert weights.min() > -1e-5
