"""COLMAP's text models as its documentation shows them, and cameras against OpenCV's projection."""

import cv2
import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from hvs.data.plain.colmap import read_colmap
from hvs.data.stores import DataError
from hvs.geometry import Camera

# The examples of https://colmap.github.io/format.html.
CAMERAS = """# Camera list with one line of data per camera:
#   CAMERA_ID, MODEL, WIDTH, HEIGHT, PARAMS[]
# Number of cameras: 3
1 SIMPLE_PINHOLE 3072 2304 2559.81 1536 1152
2 PINHOLE 3072 2304 2560.56 2560.56 1536 1152
3 SIMPLE_RADIAL 3072 2304 2559.69 1536 1152 -0.0218531
"""
IMAGES = """# Image list with two lines of data per image:
#   IMAGE_ID, QW, QX, QY, QZ, TX, TY, TZ, CAMERA_ID, NAME
#   POINTS2D[] as (X, Y, POINT3D_ID)
# Number of images: 2, mean observations per image: 2
1 0.851773 0.0165051 0.503764 -0.142941 -0.737434 1.02973 3.74354 1 P1180141.JPG
2362.39 248.498 58396 1784.7 268.254 59027 1784.7 268.254 -1
2 0.851773 0.0165051 0.503764 -0.142941 -0.737434 1.02973 3.74354 3 left cam/P1180142.JPG
1190.83 663.957 23056 1258.77 640.354 59070
"""


@pytest.fixture
def read(tmp_path):
    def read(cameras=CAMERAS, images=IMAGES):
        (tmp_path / "cameras.txt").write_text(cameras)
        (tmp_path / "images.txt").write_text(images)
        return read_colmap(tmp_path / "cameras.txt", tmp_path / "images.txt")

    return read


def test_the_documented_example(read):
    entries = read()
    assert set(entries) == {"P1180141", "left cam"}
    first, second = entries.values()
    # The middle of 3072 columns is between 1535 and 1536, counted from 0 at the first one's centre.
    assert first["K"] == [[2559.81, 0, 1535.5], [0, 2559.81, 1151.5], [0, 0, 1]]
    assert first["dist_coef"] == [] and first["resolution"] == [3072, 2304]
    assert second["K"][0][0] == 2559.69 and second["dist_coef"] == [-0.0218531, 0, 0, 0]
    assert first["t"] == [-0.737434, 1.02973, 3.74354]
    w, x, y, z = 0.851773, 0.0165051, 0.503764, -0.142941
    np.testing.assert_allclose(first["R"], Rotation.from_quat((x, y, z, w)).as_matrix(), atol=1e-12)


MODELS = {
    "SIMPLE_PINHOLE": ("500 320 240", [500, 500], []),
    "PINHOLE": ("500 510 320 240", [500, 510], []),
    "SIMPLE_RADIAL": ("500 320 240 -0.1", [500, 500], [-0.1]),
    "RADIAL": ("500 320 240 -0.1 0.02", [500, 500], [-0.1, 0.02]),
    "OPENCV": ("500 510 320 240 -0.1 0.02 0.001 -0.002", [500, 510], [-0.1, 0.02, 0.001, -0.002]),
    "FULL_OPENCV": (
        "500 510 320 240 -0.1 0.02 0.001 -0.002 0.003 0.01 0.02 0.03",
        [500, 510],
        [-0.1, 0.02, 0.001, -0.002, 0.003, 0.01, 0.02, 0.03],
    ),
}


@pytest.mark.parametrize(("model", "parameters", "focal", "lens"), [(k, *v) for k, v in MODELS.items()], ids=MODELS)
def test_projects_as_opencv_does_half_a_pixel_aside(read, model, parameters, focal, lens):
    """COLMAP's models are OpenCV's formulas, with pixels counted from the image's corner."""
    (entry,) = read(f"1 {model} 640 480 {parameters}", "1 0.9 0.1 -0.2 0.3 0.1 0.2 3 1 a/1.jpg\n\n").values()
    tensors = (torch.tensor(entry[name], dtype=torch.float64) for name in ("K", "R", "t", "dist_coef"))
    camera = Camera(*tensors, 480, 640)
    points = np.random.default_rng(0).uniform(-1, 1, (20, 3))
    pose = Rotation.from_quat((0.1, -0.2, 0.3, 0.9)).as_rotvec(), np.array((0.1, 0.2, 3.0))
    K = np.array([[focal[0], 0, 320], [0, focal[1], 240], [0, 0, 1]], dtype=np.float64)
    coefficients = np.array([*lens, *[0.0] * (8 - len(lens))])
    wanted = cv2.projectPoints(points, *pose, K, coefficients)[0][:, 0] - 0.5
    np.testing.assert_allclose(camera.project(torch.from_numpy(points)), wanted, atol=1e-6)


def test_images_without_features_and_windows_lines(read):
    images = "\r\n".join(line for line in IMAGES.splitlines() if not line[:4].isdigit())
    assert set(read(images=images.replace(".JPG", ".JPG\r\n"))) == {"P1180141", "left cam"}
    assert set(read(images=IMAGES.rstrip("\n").rpartition("\n")[0])) == {"P1180141", "left cam"}


def test_several_images_of_a_fixed_camera(read):
    again = IMAGES.splitlines()[6].replace("2 0.85", "3 0.85").replace("42.JPG", "43.JPG")
    assert read(images=IMAGES + again) == read()
    with pytest.raises(DataError, match="images.txt: line 9: view left cam had another pose before"):
        read(images=IMAGES + again.replace("3.74354", "3.74"))


CAMERA_FAULTS = {
    "fisheye": (
        "1 OPENCV_FISHEYE 640 480 500 500 320 240 0 0 0 0",
        "line 1: camera model OPENCV_FISHEYE, wanted one of",
    ),
    "short": ("1 PINHOLE", "line 1: not a camera"),
    "parameters": ("1 PINHOLE 640 480 500 320 240", "line 1: 3 parameters, wanted the 4 of PINHOLE"),
    "words": ("1 PINHOLE 640 480 f f 320 240", "line 1: a parameter is not a number"),
    "twice": (2 * "1 PINHOLE 640 480 500 500 320 240\n", "cameras.txt: camera 1 is there twice"),
    "binary": ("\0\xff" * 50, "line 1: not a camera"),
    "missing": ("# none", "camera 1 is not in cameras.txt"),
}


@pytest.mark.parametrize(("text", "message"), CAMERA_FAULTS.values(), ids=CAMERA_FAULTS.keys())
def test_faulty_cameras(read, text, message):
    with pytest.raises(DataError, match=message) as caught:
        read(cameras=text)
    assert "\n" not in str(caught.value)


IMAGE_FAULTS = {
    "short": ("1 1 0 0 0 0 0 0 1", "line 1: not an image"),
    "words": ("1 w x y z 0 0 0 1 a.jpg", "line 1: not an image"),
    "no rotation": ("1 0 0 0 0 0 0 0 1 a.jpg", "line 1: view a: the quaternion .* is not a rotation"),
    "NaN": ("1 nan 0 0 0 0 0 0 1 a.jpg", "is not a rotation"),
    "features left out": (
        "1 1 0 0 0 0 0 0 1 a.jpg\n2 1 0 0 0 0 0 0 1 b.jpg",
        "line 2: 10 words, wanted an image's features",
    ),
    "camera": ("1 1 0 0 0 0 0 0 9 a.jpg", "line 1: camera 9 is not in cameras.txt"),
}


@pytest.mark.parametrize(("text", "message"), IMAGE_FAULTS.values(), ids=IMAGE_FAULTS.keys())
def test_faulty_images(read, text, message):
    with pytest.raises(DataError, match=f"images.txt: .*{message}|{message}") as caught:
        read(images=text)
    assert "\n" not in str(caught.value)


def test_no_images_file(tmp_path):
    (tmp_path / "cameras.txt").write_text(CAMERAS)
    with pytest.raises(DataError, match="images.txt: cannot be read"):
        read_colmap(tmp_path / "cameras.txt", tmp_path / "images.txt")
