import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hvs.data import DataError
from hvs.data.preparation import human36m_raw as raw
from hvs.geometry import Camera


@settings(deadline=None)
@given(st.lists(st.floats(-3, 3), min_size=3, max_size=3), st.integers(1, 11), st.integers(0, 3))
def test_cameras_survive_the_vector(angles, subject, index):
    vector = torch.zeros(raw.VECTOR, dtype=torch.float64)
    start = 6 * (11 * index + subject - 1)
    vector[start : start + 6] = torch.tensor([*angles, 1500.0, -2000.0, 1600.0], dtype=torch.float64)
    lens = [1145.0, 1143.0, 512.5, 515.5, -0.2, 0.24, -0.002, -0.0009, -0.0016]
    vector[264 + 9 * index : 273 + 9 * index] = torch.tensor(lens, dtype=torch.float64)
    camera = raw.unpack_camera(vector, subject, index, 1000, 1002)
    assert (camera.width, camera.height) == (1000, 1002)
    # Mind the order: k3 comes before p1 and p2 in the file, and last in OpenCV.
    assert camera.distortion.tolist() == pytest.approx([-0.2, 0.24, -0.0009, -0.0016, -0.002])
    assert camera.K.tolist() == [[1145, 0, 512.5], [0, 1143, 515.5], [0, 0, 1]]
    centre = camera.position
    torch.testing.assert_close(centre, torch.tensor((1.5, -2.0, 1.6)).double())
    a, b, c = angles
    x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    y = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
    z = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    np.testing.assert_allclose(camera.R.numpy(), x @ y @ z, atol=1e-12)
    extrinsics, intrinsics = raw.pack_camera(camera)
    vector[start : start + 6] = torch.tensor(extrinsics, dtype=torch.float64)
    again = raw.unpack_camera(vector, subject, index, 1000, 1002)
    torch.testing.assert_close(again.R, camera.R, rtol=0, atol=1e-9)
    torch.testing.assert_close(again.t, camera.t, rtol=0, atol=1e-9)
    assert intrinsics == pytest.approx(lens)


def test_a_camera_that_is_not_there_is_refused():
    with pytest.raises(ValueError, match="focal lengths 0 and 0"):
        raw.unpack_camera(torch.zeros(300).double(), 1, 0, 1000, 1000)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not a readable XML file"),
        ("<root>", "not a readable XML file"),
        ("<root/>", "w0 has 0 numbers, wanted 300 finite ones"),
        ("<root><w0>[1 2 x]</w0></root>", "w0 is not a list of numbers"),
        ("<root><w0>[1 2 3]</w0></root>", "w0 has 3 numbers, wanted 300"),
        (f"<root><w0>[{'nan ' * 300}]</w0></root>", "w0 has 300 numbers, wanted 300 finite ones"),
        ('<!DOCTYPE a [<!ENTITY b "c">]><root><w0>&b;</w0></root>', "it declares entities"),
        ("<a>" * 50_000, "not a readable XML file"),
    ],
)
def test_broken_metadata_is_named(text, message, tmp_path):
    (tmp_path / "metadata.xml").write_text(text)
    with pytest.raises(DataError, match=f"metadata.xml: .*{message}"):
        raw.read_camera_vector(tmp_path / "metadata.xml")


@pytest.mark.parametrize("separator", [" ", ", ", ";\n"])
def test_the_vector_is_found_wherever_it_stands(separator, tmp_path):
    numbers = separator.join(map(str, range(300)))
    (tmp_path / "metadata.xml").write_text(f"<m><a/><cameras><w0> [{numbers}] </w0></cameras></m>")
    assert raw.read_camera_vector(tmp_path / "metadata.xml").tolist() == list(range(300))


def test_missing_files_are_named(tmp_path):
    with pytest.raises(DataError, match="metadata.xml: cannot be read"):
        raw.read_camera_vector(tmp_path / "metadata.xml")
    with pytest.raises(DataError, match="a.cdf: no such file of poses"):
        raw.read_positions(tmp_path / "a.cdf")


def write_cdf(file, pose, name="Pose"):
    cdflib = raw.load_cdflib()
    spec = dict(Variable=name, Data_Type=cdflib.cdfwrite.CDF.CDF_DOUBLE, Num_Elements=1, Rec_Vary=True)
    cdf = cdflib.cdfwrite.CDF(file, delete=True)
    cdf.write_var({**spec, "Dim_Sizes": list(pose.shape[1:])}, var_data=pose)
    cdf.close()


def test_positions_are_17_joints_in_metres(tmp_path):
    pose = np.arange(5 * 96, dtype=float).reshape(1, 5, 96)
    write_cdf(tmp_path / "a.cdf", pose)
    found = raw.read_positions(tmp_path / "a.cdf")
    assert found.shape == (5, 17, 3) and found.dtype == torch.float64
    np.testing.assert_allclose(found[2, 4], pose[0, 2, 18:21] / 1000)
    np.testing.assert_allclose(found[4, 16], pose[0, 4, 81:84] / 1000)


@pytest.mark.parametrize("shape", [(1, 5, 95), (2, 5, 96), (1, 96, 5)])
def test_positions_of_another_shape_are_named(shape, tmp_path):
    write_cdf(tmp_path / "a.cdf", np.zeros(shape))
    with pytest.raises(DataError, match=r"a.cdf: Pose has shape .*, wanted \[1, frames, 96\]"):
        raw.read_positions(tmp_path / "a.cdf")


def test_broken_positions_are_named(tmp_path):
    file = tmp_path / "a.cdf"
    write_cdf(file, np.full((1, 5, 96), np.nan))
    with pytest.raises(DataError, match="a.cdf: Pose has numbers that are not finite"):
        raw.read_positions(file)
    write_cdf(file, np.zeros((1, 5, 96)), name="Other")
    with pytest.raises(DataError, match="a.cdf: not a readable CDF file of poses"):
        raw.read_positions(file)
    write_cdf(file, np.random.default_rng(0).random((1, 5, 96)))
    data = file.read_bytes()
    generator = np.random.default_rng(1)
    for length in (0, 1, 8, 100, 400, len(data) // 2, len(data) - 300):
        file.write_bytes(data[:length])
        with pytest.raises(DataError, match="a.cdf: ") as caught:
            raw.read_positions(file)
        assert "\n" not in str(caught.value)
    for _ in range(30):
        broken = bytearray(data)
        for place in generator.integers(0, 600, 20):
            broken[place] = generator.integers(256)
        file.write_bytes(broken)
        try:
            assert raw.read_positions(file).shape[1:] == (17, 3)
        except DataError as error:
            assert str(error).startswith(str(file)) and "\n" not in str(error)


def save(file, positions):
    np.savez_compressed(file, positions_2d=np.array(positions, dtype=object))
    return file


def test_detections_go_by_the_splits_names(tmp_path):
    arrays = [np.full((4, 17, 2), view, np.float32) for view in range(4)]
    file = save(tmp_path / "d.npz", {"S1": {"TakingPhoto 1": arrays, "WalkDog": arrays}})
    found = raw.read_detections(file)
    assert set(found) == {"S1"} and set(found["S1"]) == {"Photo_1", "WalkDog"}
    assert (raw.detections(found["S1"]["Photo_1"], 2, "d") == 2).all()
    for wrong, message in (
        (arrays[:2], "d: wanted one array of pixels for each of 4 views"),
        (7, "d: wanted one array"),
        ([0, 0, np.zeros((4, 16, 2)), 0], r"d: view 58860488 has shape \[4, 16, 2\]"),
        ([0, 0, np.full((4, 17, 2), np.inf), 0], "d: view 58860488 has pixels that are not finite"),
        ([0, 0, "text", 0], "d: wanted one array"),
        ([0, 0, [[["1", "2"]] * 17], 0], "d: wanted one array"),
        ([0, 0, [[[10**400, 2]] * 17], 0], "d: wanted one array"),
        ([0, 0, np.full((4, 17, 2), 1e39), 0], "d: view 58860488 has pixels that are not finite"),
    ):
        with pytest.raises(DataError, match=message):
            raw.detections(wrong, 2, "d")


@pytest.mark.parametrize("positions", [{}, {"S1": [1]}, [1]])
def test_files_without_detections_are_named(positions, tmp_path):
    file = tmp_path / "d.npz"
    np.savez(file, other=np.zeros(3)) if positions == {} else save(file, positions)
    with pytest.raises(DataError, match="d.npz: positions_2d is missing or not a table"):
        raw.read_detections(file)


def test_actions_are_paired_by_name(tmp_path):
    videos, poses = tmp_path / "Videos", tmp_path / "MyPoseFeatures" / "D3_Positions"
    for folder in (videos, poses):
        folder.mkdir(parents=True)
    for name in ("WalkingDog 1.54138969", "WalkingDog 1.55011271", "_ALL.54138969", "Eating.99999999", "Eating"):
        (videos / f"{name}.mp4").touch()
    (videos / "Sitting 2.60457274.mp4").touch()
    for name in ("WalkingDog 1", "TakingPhoto", "_ALL 1"):
        (poses / f"{name}.cdf").touch()
    found = {action.name: action for action in raw.find_actions(tmp_path)}
    assert list(found) == ["Photo", "Sitting_2", "WalkDog_1"]
    assert set(found["WalkDog_1"].videos) == {"54138969", "55011271"} and not found["Photo"].videos
    assert found["Sitting_2"].poses == poses / "Sitting 2.cdf"


def test_packing_keeps_a_camera_that_looks_straight_up():
    R = raw.unpack_camera(torch.tensor([0.3, np.pi / 2, 0.4, 0, 0, 0] * 44 + [1.0] * 36).double(), 1, 0, 9, 9).R
    camera = Camera(torch.eye(3).double(), R, torch.zeros(3).double(), torch.zeros(5).double(), 9, 9)
    extrinsics, intrinsics = raw.pack_camera(camera)
    vector = torch.tensor(extrinsics * 44 + intrinsics * 4, dtype=torch.float64)
    torch.testing.assert_close(raw.unpack_camera(vector, 1, 0, 9, 9).R, R, rtol=0, atol=1e-9)
