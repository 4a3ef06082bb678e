import pytest

from hvs.data.plain.folders import files, frame_number, numbered, subfolders
from hvs.data.stores import DataError


@pytest.mark.parametrize(
    ("stem", "frame"),
    [("000012", 12), ("cam2_000000000007_keypoints", 7), ("hd_00_03", 3), ("frame-5", 5), ("12٣", 12), ("a1.5b", 5)],
)
def test_the_last_number_is_the_frame(stem, frame):
    assert frame_number(stem, "file") == frame


@pytest.mark.parametrize("stem", ["", "frame", "٣", "1" * 16])
def test_names_without_a_usable_number(stem):
    with pytest.raises(DataError, match="^file: no frame number in the name"):
        frame_number(stem, "file")


def test_nothing_but_other_endings(tmp_path):
    """All files of a view would be ignored without a word."""
    assert numbered(tmp_path, (".jpg", ".png")) == {}
    (tmp_path / "2.bmp").touch()
    with pytest.raises(DataError, match=r": got 2.bmp, wanted names that end in .jpg or .png$"):
        numbered(tmp_path, (".jpg", ".png"))


def test_listing(tmp_path):
    for name in ("2.jpg", "10.PNG", "1.txt", ".3.jpg", "b.json"):
        (tmp_path / name).touch()
    (tmp_path / "view").mkdir()
    (tmp_path / ".git").mkdir()
    assert numbered(tmp_path, (".jpg", ".png")) == {10: "10.PNG", 2: "2.jpg"}
    assert subfolders(tmp_path) == ("view",) and files(tmp_path, ".json") == ("b",)
    for read in (lambda folder: numbered(folder, (".jpg",)), subfolders, lambda folder: files(folder, ".json")):
        with pytest.raises(DataError, match="none: no such folder"):
            read(tmp_path / "none")
        with pytest.raises(DataError, match="2.jpg: Not a directory"):
            read(tmp_path / "2.jpg")
