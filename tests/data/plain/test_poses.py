"""3D poses that come with a capture, and archives that mean harm."""

import io
import json
import zipfile

import numpy as np
import pytest

from hvs.data.plain.poses import read_poses
from hvs.data.stores import DataError


def arrays(frames=(5, 2, 9), joints=17):
    return {"frames": np.array(frames), "points": np.random.default_rng(0).normal(size=(len(frames), joints, 3))}


def test_npz(tmp_path):
    values = arrays()
    np.savez(tmp_path / "poses.npz", **values)
    poses = read_poses(tmp_path / "poses.npz", 17)
    assert poses.frames.tolist() == [2, 5, 9] and poses.points.dtype == np.float32
    for frame, row in zip(values["frames"], values["points"], strict=True):
        assert np.array_equal(poses.points[poses.find(frame)], row.astype(np.float32))
    assert (poses.confidence == 1).all() and poses.find(3) is None and poses.find(10) is None
    values["confidence"] = np.arange(3)[:, None] * np.ones((3, 17))
    values["points"] = np.asfortranarray(values["points"])
    np.savez_compressed(tmp_path / "poses.npz", **values)
    poses = read_poses(tmp_path / "poses.npz", 17)
    assert poses.confidence[:, 0].tolist() == [1, 0, 2]
    assert np.array_equal(poses.points[1], values["points"][0].astype(np.float32))


def test_json(tmp_path):
    rows = arrays()["points"]
    (tmp_path / "poses.json").write_text(json.dumps({"5": rows[0].tolist(), "000002": rows[1].tolist()}))
    poses = read_poses(tmp_path / "poses.json", 17)
    assert poses.frames.tolist() == [2, 5] and np.allclose(poses.points, rows[[1, 0]])
    (tmp_path / "poses.json").write_text(json.dumps({"5": [[1, 2, 3, 0.5]] * 17}))
    assert read_poses(tmp_path / "poses.json", 17).confidence.tolist() == [[0.5] * 17]


def test_no_poses_at_all(tmp_path):
    np.savez(tmp_path / "poses.npz", **{name: value[:0] for name, value in arrays().items()})
    poses = read_poses(tmp_path / "poses.npz", 17)
    assert poses.frames.tolist() == [] and poses.find(0) is None


def refused(file, message):
    with pytest.raises(DataError, match=message) as caught:
        read_poses(file, 17)
    assert "\n" not in str(caught.value) and str(caught.value).startswith(str(file))


FAULTS = {
    "joints": ({"points": np.zeros((3, 16, 3))}, r"points of shape \[3, 16, 3\], wanted \[F\] and \[F, 17, 3\]"),
    "frames": ({"frames": np.zeros(3)}, "frames are not distinct whole numbers"),
    "huge frames": ({"frames": np.array([1, 2, 2**64 - 1], np.uint64)}, "frames are not distinct whole numbers"),
    "twice": ({"frames": np.array([1, 1, 2])}, "frames are not distinct whole numbers"),
    "confidence": ({"confidence": np.zeros(3)}, r"confidence has shape \[3\], wanted \[3, 17\]"),
    "objects": ({"points": np.array([None, 1])}, "points is not a numeric array"),
    "texts": ({"frames": np.array(["1", "2", "3"])}, "frames is not a numeric array|frames.npy. is not readable"),
    "records": ({"frames": np.zeros(3, [("a", "i4")])}, "frames is not a numeric array|frames.npy. is not readable"),
}


@pytest.mark.parametrize(("change", "message"), FAULTS.values(), ids=FAULTS.keys())
def test_faulty_arrays(tmp_path, change, message):
    np.savez(tmp_path / "poses.npz", **arrays() | change)
    refused(tmp_path / "poses.npz", message)


def archive(file, **members):
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as zipped:
        for name, data in members.items():
            zipped.writestr(f"{name}.npy", data)


def npy(shape, data=b"", dtype="<f4"):
    text = f"{{'descr': {dtype!r}, 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode() + data


def test_archives_that_claim_too_much(tmp_path):
    file = tmp_path / "poses.npz"
    archive(file, frames=npy((3,), dtype="<i8", data=bytes(24)), points=npy((2**40, 17, 3), data=bytes(100)))
    refused(file, "points.npy. is not readable as arrays")
    archive(file, frames=npy((-3,), dtype="<i8"), points=npy((1, 17, 3)))
    refused(file, "poses.npz: ")
    archive(file, frames=npy((1,), dtype="<i8", data=bytes(8)), points=bytes(300 * 2**20))
    refused(file, "points.npy. is not readable as arrays")
    archive(file, points=npy((1, 17, 3), data=bytes(204)))
    refused(file, "no array 'frames'")


def test_damaged_archives_are_one_clear_error(tmp_path):
    """Cut at every twentieth byte, and bits turned over."""
    file, buffer, generator = tmp_path / "poses.npz", io.BytesIO(), np.random.default_rng(1)
    np.savez_compressed(buffer, **arrays())
    whole = buffer.getvalue()
    damaged = [whole[:end] for end in range(0, len(whole), 20)]
    for _ in range(150):
        data = bytearray(whole)
        for place in generator.integers(len(data), size=3):
            data[place] ^= 1 << int(generator.integers(8))
        damaged.append(bytes(data))
    assert len(damaged) > 200
    for data in damaged:
        file.write_bytes(data)
        try:
            poses = read_poses(file, 17)
        except DataError as error:
            assert "\n" not in str(error)
        else:
            # The checksum of the archive holds, so what was hit is no number.
            assert poses.points.shape == (3, 17, 3)


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"a": []}', '{"1": 3}', '{"1": [[1, 2, 3]]}', '{"1": [[1, 2]], "2": [[1]]}', "[" * 10**5]
)
def test_faulty_json(tmp_path, text):
    (tmp_path / "poses.json").write_text(text)
    refused(tmp_path / "poses.json", "poses.json: ")
