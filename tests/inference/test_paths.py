import json
import math

import pytest
import torch

from hvs.data import DataError
from hvs.geometry import Camera
from hvs.inference.paths import farthest, follow, frame_person, look_at, orbit, read_path

UP = torch.tensor([0.0, -1.0, 0.0])
EYE = torch.eye(3).tolist()
POINTS = torch.randn(40, 3, generator=torch.Generator().manual_seed(1)) * 0.4 + torch.tensor([1.0, -1.0, 0.5])


def source(distance: float = 4.0) -> Camera:
    K = torch.tensor([[300.0, 0, 50], [0, 300, 50], [0, 0, 1]])
    return Camera.look_at(torch.tensor([1.0, -1.5, -distance]), torch.tensor([1.0, -1.0, 0.5]), UP, K, 100, 100)


@pytest.mark.parametrize("focal", [None, 24.0, 85.0, 400.0])
@pytest.mark.parametrize("distance", [1.0, 4.0, 40.0])
def test_a_ring_shows_the_whole_person_from_all_sides(focal, distance):
    ring = orbit(POINTS, source(distance), UP, 8, 64, 10.0, focal)
    pixels = ring.project(POINTS.expand(8, -1, -1))
    assert ring.K.shape == (8, 3, 3) and (ring.width, ring.height) == (64, 64)
    if distance > 1 or focal:
        assert (pixels >= -0.5).all() and (pixels <= 63.5).all()
        # And fills the picture from where most of them is seen.
        assert (pixels - 31.5).norm(dim=-1).max() > 0.75 * 32
    centre, _ = frame_person(POINTS)
    distances = (ring.position - centre).norm(dim=-1)
    assert torch.allclose(distances, distances[:1].expand(8), rtol=1e-5)
    if focal:
        assert torch.allclose(ring.K[:, 0, 0], torch.tensor(focal / 36 * 64).expand(8))
    else:
        assert distances[0].item() == pytest.approx((source(distance).position - centre).norm().item(), rel=1e-5)


def test_a_ring_starts_on_the_sources_side_and_turns_once():
    ring = orbit(POINTS, source(), UP, 4, 64)
    centre, _ = frame_person(POINTS)
    outward = ring.position - centre
    assert outward[:, 1].abs().max() < 1e-4
    toward = (source().position - centre) * torch.tensor([1.0, 0, 1])
    cosines = torch.cosine_similarity(outward, toward.expand(4, 3))
    assert torch.allclose(cosines, torch.tensor([1.0, 0, -1, 0]), atol=1e-5)


def test_up_is_up_in_the_picture():
    ring = orbit(POINTS, source(), UP, 5, 64, 30.0)
    centre, _ = frame_person(POINTS)
    pixels = ring.project(torch.stack((centre, centre + 0.1 * UP)).expand(5, 2, 3))
    assert (pixels[:, 1, 1] < pixels[:, 0, 1] - 1).all()
    assert torch.allclose(pixels[:, 0], torch.tensor(31.5).expand(5, 2), atol=1e-3)


def test_the_farthest_camera_is_that_of_all(tmp_path):
    (tmp_path / "path.json").write_text('[{"eye": [0, 0, -3]}, {"eye": [0, 0, 9]}, {"eye": [4, 0, 0]}]')
    points = torch.tensor([[[0.0, 1.0, 0.0], [0.0, -1.0, 0.0]]])
    cameras = follow(read_path(tmp_path / "path.json"), points, UP, 64)
    assert farthest(cameras, points) == pytest.approx(9)


def test_look_at_has_the_focal_length_asked_for():
    eye, target = torch.tensor([0.0, 0, -3]), torch.tensor([0.0, 0, 1])
    assert look_at(eye, target, 1.0, UP, 128, 50.0).K[0, 0].item() == pytest.approx(50 / 36 * 128)
    filled = look_at(eye, target, 1.0, UP, 128)
    # The ball's outline touches the edge.
    angle = math.atan(64 / filled.K[0, 0].item())
    assert math.sin(angle) == pytest.approx(1 / 4)


def test_a_file_of_both_kinds_of_cameras(tmp_path):
    wide = source()
    full = Camera(wide.K, wide.R, wide.t, torch.zeros(0), 100, 160)
    entries = [
        {"eye": [0, -1, -3]},
        {"eye": [0, -1, -3], "target": [1, -1, 0], "focal": 35},
        {"K": full.K.tolist(), "R": full.R.tolist(), "t": full.t.tolist(), "resolution": [160, 100]},
    ]
    file = tmp_path / "path.json"
    file.write_text(json.dumps(entries))
    cameras = follow(read_path(file), POINTS, UP, 50)
    assert cameras.K.shape == (3, 3, 3) and cameras.width == 50
    assert torch.allclose(cameras.position[:2], torch.tensor([0.0, -1, -3]).expand(2, 3), atol=1e-5)
    centre, _ = frame_person(POINTS)
    assert torch.allclose(cameras[:1].project(centre[None, None])[0, 0], torch.tensor([24.5, 24.5]), atol=1e-3)
    assert cameras.K[1, 0, 0].item() == pytest.approx(35 / 36 * 50)
    # The middle of 160 pixels, half as large.
    pixels = (full.project(POINTS) - torch.tensor([30.0, 0.0]) + 0.5) / 2 - 0.5
    assert torch.allclose(cameras[2:].project(POINTS[None])[0], pixels, atol=1e-3)


def calibrated(**change):
    camera = {"K": EYE, "R": EYE, "t": [0, 0, 1], "resolution": [9, 9]}
    return json.dumps([camera | change])


def test_a_focal_length_is_that_of_cameras_without_one(tmp_path):
    file = tmp_path / "path.json"
    file.write_text(json.dumps([{"eye": [0, -1, -3]}, {"eye": [0, -1, -3], "focal": 35}]))
    cameras = follow(read_path(file), POINTS, UP, 50, 85.0)
    assert (cameras.K[:, 0, 0] * 36 / 50).tolist() == pytest.approx([85, 35])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not a readable JSON file"),
        ("[]", "wanted a list of cameras, got an empty one"),
        ("{}", "wanted a list of cameras"),
        ("[3]", "camera 0: wanted an object of eye, target and focal, or of K, R, t and resolution"),
        ('[{"eye": [0, 0, 1]}, {"eyes": [0, 0, 1]}]', "camera 1: got 'eyes', wanted an object"),
        ('[{"eye": [0, 0, 1], "K": 3}]', "camera 0: got 'eye', wanted an object of eye"),
        (calibrated(dist_coef=[0.1, 0, 0, 0, 0]), "camera 0: got a dist_coef that is not zero"),
        (calibrated(dist_coef="none"), "dist_coef is missing or not a table of numbers"),
        ('[{"eye": [0, 0]}]', "camera 0: eye has shape [2], wanted [3]"),
        ('[{"eye": [0, 0, NaN]}]', "camera 0: eye has numbers that are not finite in float32"),
        ('[{"eye": "here"}]', "eye is missing or not a table of numbers"),
        ('[{"focal": 50}]', "eye is missing"),
        ('[{"eye": [0, 0, 1], "target": [0, 0, 1]}]', "an eye that is not at its target"),
        ('[{"eye": [0, 0, 1], "focal": -3}]', "got a focal length of -3 mm, wanted between 4 and 4000"),
        ('[{"eye": [1e30, 0, 0]}]', "wanted eye and target within 10000 metres"),
        (calibrated(resolution=[0, 9]), "got a resolution of [0.0, 9.0], wanted whole pixels, 1 to 32768"),
        (calibrated(resolution=[480.5, 270.9]), "wanted whole pixels"),
        (calibrated(resolution=[1e30, 1e30]), "wanted whole pixels"),
        (calibrated(K=[[-1, 0, 0], [0, 1, 0], [0, 0, 1]]), "wanted focal lengths above 0 in K"),
        (calibrated(K=[[1, 0, 0], [0, 1, 0], [7, 0, 0]]), "and 0, 0, 1 in its last row"),
        (calibrated(R=[[0] * 3] * 3), "R is not a rotation"),
        (calibrated(R=[[-1, 0, 0], [0, 1, 0], [0, 0, 1]]), "R is not a rotation"),
        (calibrated(t=[0, 1e300, 4]), "camera 0: t has numbers that are not finite in float32"),
        (calibrated(t=[0, -1e4, 4]), "got 10000 in t, wanted within 10000 metres"),
        (calibrated(K=[[1, 0, 0], [0.5, 1, 0], [0, 0, 1]]), "got 0.5 for the first number of the second row of K"),
        (calibrated(K=[[1, 0, 0], [False, 1, 0], [0, 0, 1]]), "K is missing or not a table of numbers"),
        ('[{"eye": [0, -1, 3], "focal": true}]', "focal is missing or not a table of numbers"),
    ],
    ids=range(27),
)
def test_broken_files_are_named(tmp_path, text, message):
    file = tmp_path / "path.json"
    file.write_text(text)
    with pytest.raises(DataError) as error:
        read_path(file)
    assert str(error.value).startswith(str(file)) and message in str(error.value)


def test_a_camera_copied_from_a_capture_without_distortion_is_read(tmp_path):
    file = tmp_path / "path.json"
    for zeros in ([], [0] * 5, [[0.0] * 5]):
        file.write_text(calibrated(dist_coef=zeros))
        assert len(read_path(file)) == 1


def test_a_camera_in_the_middle_of_the_person_is_named(tmp_path):
    file = tmp_path / "path.json"
    centre, _ = frame_person(POINTS)
    file.write_text(json.dumps([{"eye": [0, -1, -3]}, {"eye": centre.tolist()}]))
    path = read_path(file)
    with pytest.raises(DataError, match="path.json: camera 1: wanted an eye that is not at its target"):
        follow(path, POINTS, UP, 50)
