import errno
import os

import numpy as np
import pytest

from hvs.data import files
from hvs.data.files import as_numbers, inner_name, naming, read_bounded, read_json
from hvs.data.stores import DataError


def test_no_more_than_the_bound_is_read(tmp_path):
    (tmp_path / "a").write_bytes(b"12345")
    assert read_bounded(tmp_path / "a", 5) == b"12345"
    with pytest.raises(DataError, match="a: larger than 4 bytes"):
        read_bounded(tmp_path / "a", 4)


def test_a_sparse_giant_is_refused(tmp_path):
    with open(tmp_path / "a.json", "wb") as file:
        file.truncate(2**40)
    with pytest.raises(DataError, match="a.json: larger than"):
        read_json(tmp_path / "a.json", 2**20)


def test_only_regular_files_are_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for name, message in (("pipe", "not a regular file"), (".", "not a regular file"), ("none", "cannot be read")):
        with pytest.raises(DataError, match=message):
            read_bounded(tmp_path / name)
    (tmp_path / "here").write_text("3")
    (tmp_path / "link").symlink_to("here")
    assert read_json(tmp_path / "link") == 3


@pytest.mark.parametrize(
    "text", ["", "{", "nul", "[" * 10**6, '{"a": ' * 10**5, "9" * 10**5, "\ud800".encode("utf-8", "surrogatepass")]
)
def test_broken_json_is_one_clear_error(tmp_path, text):
    (tmp_path / "a.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DataError, match="a.json: not a readable JSON file") as caught:
        read_json(tmp_path / "a.json")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


def test_json_of_too_many_values(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "MAX_VALUES", 100)
    (tmp_path / "a.json").write_text("[" + "0, " * 98 + "0]")
    assert len(read_json(tmp_path / "a.json")) == 99
    (tmp_path / "a.json").write_text("[" + "[], " * 60 + "0]")
    with pytest.raises(DataError, match="121 values, wanted at most 100"):
        read_json(tmp_path / "a.json")


def test_json_that_says_something_twice_is_refused(tmp_path):
    (tmp_path / "a.json").write_text('{"views": {"00": 1, "01": 2, "00": 3}}')
    with pytest.raises(DataError, match="a.json: not a readable JSON file .the name '00' is there twice"):
        read_json(tmp_path / "a.json")


def deep(levels):
    return [deep(levels - 1)] if levels else 1.0


@pytest.mark.parametrize("value", [3, 0.5, [1, 2.5], [[1, 2], [3, 4]], [], [[], []], [2**70], deep(50)])
def test_tables_of_numbers(value):
    found = as_numbers(value)
    assert found.dtype == np.float64 and found.tolist() == value


def test_null_is_not_a_number():
    assert np.isnan(as_numbers([1, None])).tolist() == [False, True]


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        "1",
        [1, False],
        ["1", 2],
        [[1, 2], ["3", 4]],
        [[1, 2], [3]],
        [[1], 2],
        {},
        [{}],
        [10**400],
        deep(900),
    ],
)
def test_nothing_else_passes_for_numbers(value):
    with pytest.raises(ValueError, match="number|integer"):
        as_numbers(value)


def test_errors_that_name_no_file_get_its_name(tmp_path):
    for error in (OSError(errno.ENOSPC, "No space left on device"), OSError("No space left on device")):
        with pytest.raises(OSError, match=f"No space left on device: '{tmp_path}'$"), naming(tmp_path):
            raise error
    with pytest.raises(FileNotFoundError, match="nowhere'$"), naming(tmp_path):
        (tmp_path / "nowhere").read_bytes()


def test_names_stay_inside():
    for name in ("00", "left cam", "ann.1", "日本"):
        assert inner_name(name, "file") == name
    assert inner_name("S1/Sequences/Walking 1", "file", folders=True) == "S1/Sequences/Walking 1"


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "../a", "a/../../b", "/etc", "a/", "a//b", "a/./b", "a\0b", "x" * 300, "é" * 200, "\ud800"]
    + [3, None, ["a"]],
)
def test_names_that_lead_elsewhere_are_refused(name):
    for folders in (False, True):
        with pytest.raises(DataError, match="^file: got the name ") as caught:
            inner_name(name, "file", folders)
        assert len(str(caught.value)) < 200
    with pytest.raises(DataError, match="wanted a name without a path"):
        inner_name("a/b", "file")
