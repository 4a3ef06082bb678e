"""Calibrations as OpenCV writes them, and YAML that means harm."""

import cv2
import numpy as np
import pytest
import torch

from hvs.data.plain.opencv import read_yaml, read_yamls
from hvs.data.stores import DataError
from hvs.geometry import Camera

K = np.array([[510.5, 0, 320.25], [0, 505, 239.75], [0, 0, 1]])
VECTOR, T = np.array((0.3, -0.2, 0.5)), np.array((0.1, 0.2, 3.0))
R = cv2.Rodrigues(VECTOR)[0]
# As OpenCV's calibration tutorial prints it, shortened.
BY_HAND = """%YAML:1.0
---
calibration_time: "Tue 15 Nov 2011 14:02:24"
nframes: 20
image_width: 640
image_height: 480
camera_matrix: !!opencv-matrix
   rows: 3
   cols: 3
   dt: d
   data: [ 6.5746697944293521e+002, 0., 3.1950000000000000e+002, 0.,
       6.5746697944293521e+002, 2.3950000000000000e+002, 0., 0., 1. ]
distortion_coefficients: !!opencv-matrix
   rows: 5
   cols: 1
   dt: d
   data: [ -4.1802327176423804e-001, 5.0715244063187526e-001, 0., 0.,
       -5.7843597214487474e-001 ]
rvec: [ 0.3, -0.2, 0.5 ]
tvec: !!opencv-matrix
   rows: 3
   cols: 1
   dt: d
   data: [ 1., 2., 3. ]
"""


def camera(entry):
    tensors = [torch.tensor(entry[name], dtype=torch.float64) for name in ("K", "R", "t", "dist_coef")]
    return Camera(tensors[0].reshape(3, 3), tensors[1].reshape(3, 3), *tensors[2:], 480, 640)


def write(file, **values):
    storage = cv2.FileStorage(str(file), cv2.FILE_STORAGE_WRITE)
    for name, value in values.items():
        storage.write(name, value)
    storage.release()


def test_the_file_of_the_tutorial(tmp_path):
    (tmp_path / "05.yml").write_text(BY_HAND)
    entry = read_yamls(tmp_path, ("05",), (".yaml", ".yml"))["05"]
    assert entry["K"] == [657.46697944293521, 0, 319.5, 0, 657.46697944293521, 239.5, 0, 0, 1]
    assert entry["dist_coef"] == [-0.41802327176423804, 0.50715244063187526, 0, 0, -0.57843597214487474]
    assert entry["resolution"] == [640, 480] and entry["t"] == [1, 2, 3]
    np.testing.assert_allclose(np.reshape(entry["R"], (3, 3)), R, atol=1e-12)


@pytest.mark.parametrize("count", [4, 5, 8, 12])
@pytest.mark.parametrize("vector", [False, True])
def test_projects_as_opencv_does(tmp_path, count, vector):
    lens = np.array([-0.1, 0.02, 1e-3, -2e-3, 0.01, 0.02, 0.03, -0.01, 1e-3, 2e-3, -1e-3, 5e-4][:count])
    write(
        tmp_path / "a.yaml",
        image_width=640,
        image_height=480,
        camera_matrix=K,
        distortion_coefficients=lens[None],
        R=VECTOR if vector else R,
        T=T[:, None],
    )
    found = camera(read_yamls(tmp_path, ("a",), (".yaml",))["a"])
    points = np.random.default_rng(0).uniform(-1, 1, (20, 3))
    wanted = cv2.projectPoints(points, VECTOR, T, K, lens)[0][:, 0]
    np.testing.assert_allclose(found.project(torch.from_numpy(points)), wanted, atol=1e-6)


def test_one_file_with_a_name_per_view(tmp_path):
    """As EasyMocap keeps them: a vector R and a matrix Rot."""
    names = {"K": K, "dist": np.zeros((1, 5)), "R": VECTOR[:, None], "Rot": R, "T": T[:, None]}
    ones = {f"{name}_01": value for name, value in names.items()}
    write(tmp_path / "cameras.yml", **ones, **{f"{name}_11": 2 * value for name, value in names.items()})
    entries = read_yaml(tmp_path / "cameras.yml", ("01", "11", "21"))
    assert set(entries) == {"01", "11"}
    np.testing.assert_allclose(np.reshape(entries["01"]["R"], (3, 3)), R)
    assert entries["11"]["t"] == (2 * T).tolist() and "resolution" not in entries["01"]


def test_a_table_per_view(tmp_path):
    text = (
        "01:\n  K: [[500, 0, 32], [0, 500, 24], [0, 0, 1]]\n  R: [0, 0, 0]\n  t: [0, 0, 1e3]\n  resolution: [64, 48]\n"
    )
    (tmp_path / "cameras.yaml").write_text(text)
    entry = read_yaml(tmp_path / "cameras.yaml", ("01",))["01"]
    assert entry["R"] == np.eye(3).flatten().tolist()
    assert entry["K"][0] == 500 and entry["t"][2] == 1000 and entry["resolution"] == [64, 48]


def test_float_matrices_and_both_versions_of_the_header(tmp_path):
    write(tmp_path / "a.yaml", camera_matrix=K.astype(np.float32), R=R, T=T)
    entry = read_yamls(tmp_path, ("a",), (".yaml",))["a"]
    np.testing.assert_allclose(np.reshape(entry["K"], (3, 3)), K, rtol=1e-6)
    text = (tmp_path / "a.yaml").read_text()
    (tmp_path / "b.yaml").write_text("%YAML 1.2\n" + text.partition("\n")[2])
    assert read_yamls(tmp_path, ("b",), (".yaml",))["b"] == entry


def test_two_files_joined(tmp_path):
    """EasyMocap's intri.yml and extri.yml."""
    write(tmp_path / "intri.yml", names=np.zeros(1), K_01=K, dist_01=np.zeros((1, 5)), K_02=2 * K)
    write(tmp_path / "extri.yml", names=np.zeros(1), R_01=VECTOR[:, None], Rot_01=R, T_01=T[:, None])
    joined = "".join((tmp_path / f"{name}.yml").read_text() for name in ("intri", "extri"))
    assert joined.count("%YAML") == joined.count("---\n") == 2
    (tmp_path / "cameras.yaml").write_text(joined)
    entries = read_yaml(tmp_path / "cameras.yaml", ("01", "02"))
    np.testing.assert_allclose(np.reshape(entries["01"]["R"], (3, 3)), R)
    assert entries["01"]["t"] == T.tolist() and entries["02"] == {"K": (2 * K).flatten().tolist()}


HOSTILE = {
    "empty": "",
    "a list": "[1, 2]",
    "a tab": "a:\n\t- b",
    "broken": "a: [1, 2",
    "two documents": "a: 1\n--- # the other\nb: 2\n",
    "a reference": "a: &x [1, 2]\nb: *x\n",
    "laughs": "a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\n",
    "deep": "[" * 100_000,
    "deep tables": "{a: " * 5000,
    "a list for a name": "? [1, 2]\n: 3\n",
    "a name twice": "a: {K: [1, 2], K: [1, 3]}\n",
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_yaml_is_one_clear_error(tmp_path, text):
    (tmp_path / "cameras.yaml").write_text(text)
    with pytest.raises(DataError, match="cameras.yaml: ") as caught:
        read_yaml(tmp_path / "cameras.yaml", ("a",))
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


@pytest.mark.parametrize("tag", ["!!python/object/apply:os.system", "!!python/name:os.system", "!!python/module:this"])
def test_tags_are_only_skipped(tmp_path, tag):
    (tmp_path / "a.yaml").write_text(f"K: {tag} [touch {tmp_path / 'here'}]\n")
    with pytest.raises(DataError, match="view a: K: not a matrix of numbers"):
        read_yamls(tmp_path, ("a",), (".yaml",))
    assert not (tmp_path / "here").exists()


ENTRIES = {
    "K: [[1, 2], .nan]": "K: not a matrix of numbers",
    "K: [1, .5, nan]": "K: holds a number that is not finite",
    "K: {rows: 3, cols: 3, data: [1, 2]}": "K: 3 rows and 3 columns hold 2 numbers",
    "K: {rows: x, cols: 3, data: [1, 2]}": "K: not a matrix of numbers",
    "K: {rows: 1e9, cols: [1], data: [1, 2]}": "K: not a matrix of numbers",
    "K: {rows: 3}": "K: not a matrix of numbers",
    "K:": "K: not a matrix of numbers",
    f"K: [{'9' * 5000}]": "K: holds a number that is not finite",
}


@pytest.mark.parametrize(("text", "message"), ENTRIES.items(), ids=range(len(ENTRIES)))
def test_faulty_entries_name_view_and_value(tmp_path, text, message):
    (tmp_path / "a.yaml").write_text(text + "\n")
    with pytest.raises(DataError, match=f"a.yaml: view a: {message}") as caught:
        read_yamls(tmp_path, ("a",), (".yaml",))
    assert "\n" not in str(caught.value)


def test_two_files_and_a_large_one(tmp_path):
    for ending in (".yaml", ".yml"):
        (tmp_path / f"a{ending}").write_text("K: 1\n")
    with pytest.raises(DataError, match="two files of view a, a.yaml and a.yml"):
        read_yamls(tmp_path, ("a",), (".yaml", ".yml"))
    (tmp_path / "b.yaml").write_text("a: 1\n" * 2**18)
    with pytest.raises(DataError, match="b.yaml: larger than 262144 bytes"):
        read_yamls(tmp_path, ("b",), (".yaml",))


@pytest.mark.parametrize("line", ["fisheye_model: 1", "distortion_model: equidistant", "camera_model: omni"])
def test_fisheyes_are_refused(tmp_path, line):
    """Their four coefficients would be taken for radial and tangential ones."""
    file = tmp_path / "00.yaml"
    file.write_text(f"K: [1, 0, 0, 0, 1, 0, 0, 0, 1]\nD: [0.1, 0.02, -0.01, 0.003]\n{line}\n")
    name = line.partition(":")[0]
    with pytest.raises(DataError, match=f"00.yaml: view 00: {name} .* is another lens"):
        read_yamls(tmp_path, ("00",), (".yaml",))
    file.write_text(file.read_text().replace(line, "fisheye_model: 0\ndistortion_model: plumb_bob"))
    assert read_yamls(tmp_path, ("00",), (".yaml",))["00"]["dist_coef"] == [0.1, 0.02, -0.01, 0.003]


@pytest.mark.parametrize(
    "line",
    ["model: OmniVision OV9281", "camera_model: FOV 120 USB", "fisheye_model: 0.", "fisheye_model: null",
     "distortion_type: none", "P1: [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0]", "distortion_model: rational_polynomial"],
)  # fmt: skip
def test_what_is_not_of_the_lens_is_no_fault(tmp_path, line):
    (tmp_path / "00.yaml").write_text(f"K: [1, 0, 0, 0, 1, 0, 0, 0, 1]\n{line}\n")
    assert list(read_yamls(tmp_path, ("00",), (".yaml",))["00"]) == ["K"]


def test_coefficients_of_an_unknown_name_are_not_forgotten(tmp_path):
    (tmp_path / "00.yaml").write_text("K: [1, 0, 0, 0, 1, 0, 0, 0, 1]\nk1: 0.1\nk2: 0.2\n")
    wanted = "00.yaml: view 00: k1 is not a known name, wanted dist_coef or distortion_coeff"
    with pytest.raises(DataError, match=wanted):
        read_yamls(tmp_path, ("00",), (".yaml",))
