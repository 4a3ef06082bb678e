"""Object arrays: what people's files hold comes through, whichever numpy wrote it. Hostile ones: test_hostile.py."""

import io
import pickle
import zipfile

import numpy as np
import pytest

from hvs.data.npz import read_object_npz
from hvs.data.stores import DataError


def poses(seed):
    return [np.random.default_rng([seed, i]).normal(size=(5 + i, 17, 2)).astype("f4") for i in range(4)]


POSES = {"S1": {"Walking 1": poses(0), "Eating": poses(1)}, "S9": {"Photo": poses(2)}}
METADATA = {
    "layout_name": "h36m",
    "num_joints": 17,
    "keypoints_symmetry": [[4, 5, 6], [1, 2, 3]],
    "no": None,
    "ok": True,
}


def same(a, b):
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    return np.array_equal(a, b) and getattr(a, "dtype", None) == getattr(b, "dtype", None)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed], ids=["stored", "compressed"])
def test_the_published_layout(tmp_path, save):
    save(tmp_path / "a.npz", positions_2d=POSES, metadata=METADATA)
    found = read_object_npz(tmp_path / "a.npz")
    assert set(found) == {"positions_2d", "metadata"}
    assert same(POSES, found["positions_2d"]) and found["metadata"] == METADATA


@pytest.mark.parametrize("protocol", [2, 3, 4])
@pytest.mark.parametrize("module", [b"numpy.core", b"numpy._core"])
def test_files_of_every_numpy(tmp_path, protocol, module):
    data = pickle.dumps(np.array(POSES, dtype=object), protocol)
    if protocol < 4:
        data = data.replace(b"numpy._core", b"numpy.core").replace(b"numpy.core", module)
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|O", "fortran_order": False, "shape": ()})
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("positions_2d.npy", header.getvalue() + data)
    assert same(POSES, read_object_npz(tmp_path / "a.npz")["positions_2d"])


def test_arrays_and_numbers_of_every_kind(tmp_path):
    array = np.arange(6.0).reshape(2, 3)
    values = {
        "doubles": array,
        "big-endian": array.astype(">f4"),
        "columns": np.asfortranarray(array),
        "bytes": array.astype(np.uint8),
        "truth": array > 2,
        "empty": np.zeros((0, 17, 2)),
        "scalar": np.array(2.5),
    }
    np.savez(tmp_path / "a.npz", **values, inside=dict(values, number=np.float32(0.5), count=np.int64(-3), text="ä"))
    found = read_object_npz(tmp_path / "a.npz")
    inside = found.pop("inside")
    assert (inside.pop("number"), inside.pop("count"), inside.pop("text")) == (0.5, -3, "ä")
    assert same(values, found) and same(values, inside)


def test_an_array_named_twice_is_read_twice(tmp_path):
    array = np.ones(3)
    np.savez(tmp_path / "a.npz", a={"x": [array, array], "y": (array,)})
    found = read_object_npz(tmp_path / "a.npz")["a"]
    assert all(np.array_equal(item, array) for item in (*found["x"], *found["y"]))


def test_arrays_of_objects(tmp_path):
    ragged = np.empty(2, dtype=object)
    ragged[:] = [np.ones(2), np.ones(3)]
    np.savez(tmp_path / "a.npz", a=ragged)
    assert same([np.ones(2), np.ones(3)], read_object_npz(tmp_path / "a.npz")["a"])


def test_faults_name_file_and_entry(tmp_path):
    with pytest.raises(DataError, match=r"^.*none\.npz: no such file$"):
        read_object_npz(tmp_path / "none.npz")
    np.savez(tmp_path / "a.npz", good=np.ones(3), bad=np.array("text"))
    with pytest.raises(DataError, match=r"a\.npz: entry 'bad\.npy' is not readable as arrays \(it has an array"):
        read_object_npz(tmp_path / "a.npz")
    np.savez(tmp_path / "a.npz", good=np.ones(3))
    with zipfile.ZipFile(tmp_path / "a.npz", "a") as archive:
        archive.writestr("good", archive.read("good.npy"))
    with pytest.raises(DataError, match=r"a\.npz: entry 'good' is not readable as arrays \(it is there twice\)"):
        read_object_npz(tmp_path / "a.npz")
    np.savez(tmp_path / "a.npz", a={"when": np.datetime64(0, "s")})
    with pytest.raises(DataError, match="that is not of numbers"):
        read_object_npz(tmp_path / "a.npz")
