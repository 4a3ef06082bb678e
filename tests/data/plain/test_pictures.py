"""Image files: kinds that are converted, those that are refused, and damage."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from hvs.data.decoding import Picture
from hvs.data.plain.pictures import Pictures
from hvs.data.stores import DataError


@pytest.fixture
def save(tmp_path):
    (tmp_path / "a").mkdir()

    def save(picture, name="1.png", **options):
        picture.save(tmp_path / "a" / name, **options)
        return Pictures(tmp_path)

    return save


COLOURS = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3) * 3


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P", "1", "LA"])
def test_every_kind_of_8_bits_becomes_rgb(save, mode):
    picture = Image.fromarray(COLOURS).convert(mode)
    found = Picture(*save(picture).read("a", 1)).rgb()
    assert np.array_equal(found.movedim(0, -1), np.asarray(picture.convert("RGB")))


@pytest.mark.parametrize("mode", ["L", "1", "RGB", "P", "RGBA"])
def test_masks_of_any_kind(save, mode):
    wanted = np.zeros((4, 6), np.uint8)
    wanted[1:3, 2:5] = 255
    found = Picture(*save(Image.fromarray(wanted).convert(mode)).read("a", 1)).mask()
    assert np.array_equal(found[0], wanted > 0)


@pytest.mark.parametrize("name", ["1.jpg", "1.png"])
def test_pictures_that_are_to_be_turned_are_refused(save, name):
    exif = Image.Exif()
    exif[0x0112] = 1
    assert save(Image.fromarray(COLOURS), name, exif=exif).files("a") == {1: name}
    exif[0x0112] = 6
    with pytest.raises(DataError, match=f"{name}: EXIF orientation 6, wanted pixels stored upright"):
        save(Image.fromarray(COLOURS), name, exif=exif).files("a")


def test_a_later_picture_that_is_to_be_turned_is_refused_when_it_is_read(save):
    save(Image.fromarray(COLOURS), "1.jpg")
    exif = Image.Exif()
    exif[0x0112] = 6
    pictures = save(Image.fromarray(COLOURS), "2.jpg", exif=exif)
    assert pictures.files("a") == {1: "1.jpg", 2: "2.jpg"} and pictures.read("a", 1)[1].endswith("a/1.jpg")
    with pytest.raises(DataError, match="2.jpg: EXIF orientation 6, wanted pixels stored upright"):
        pictures.read("a", 2)


@pytest.mark.parametrize("values", [(255,), (0, 37, 255), (0, 0, 0), ("damaged", 255), ()])
def test_masks_with_something_white_or_none(tmp_path, values):
    """Before somebody comes in there may be a shadow."""
    assert list(masks(tmp_path, values).files("a")) == list(range(len(values)))


@pytest.mark.parametrize(("values", "name", "value"), [((1, 1), "0.png", 1), ((0, "damaged", 38, 1), "2.png", 38)])
def test_masks_without_anything_white(tmp_path, values, name, value):
    with pytest.raises(DataError, match=f"a/{name}: no value of the mask is above {value}, wanted 0 and 255"):
        masks(tmp_path, values).files("a")


def test_not_all_of_many_masks_are_decoded(tmp_path, monkeypatch):
    looked_at = []
    monkeypatch.setattr(Picture, "grey", lambda self: looked_at.append(self.where) or torch.zeros(1))
    assert len(masks(tmp_path, [0] * 250).files("a")) == 250
    assert looked_at == [str(tmp_path / f"a/{frame}.png") for frame in range(0, 250, 3)]


def test_no_path_is_made_for_every_file(tmp_path, monkeypatch):
    """There may be hundreds of thousands."""
    pictures, made = masks(tmp_path, ["damaged"] * 300), []
    join = Path.__truediv__
    monkeypatch.setattr(Path, "__truediv__", lambda path, name: made.append(name) or join(path, name))
    assert len(pictures.files("a")) == 300
    assert 0 < len([name for name in made if name.endswith(".png")]) <= 100


def masks(folder, values):
    (folder / "a").mkdir()
    for frame, value in enumerate(values):
        file = folder / f"a/{frame}.png"
        if value == "damaged":
            file.write_bytes(b"")
        else:
            mask = np.zeros((4, 6), np.uint8)
            mask[1:3, 2:5] = value
            Image.fromarray(mask).save(file)
    return Pictures(folder, masks=True)


def test_damaged_files_are_one_clear_error(tmp_path):
    """PNG and JPEG, cut at every length, and bits turned over."""
    (tmp_path / "a").mkdir()
    generator = np.random.default_rng(0)
    for name in ("1.png", "1.jpg"):
        file = io.BytesIO()
        Image.fromarray(COLOURS).save(file, {"1.png": "PNG", "1.jpg": "JPEG"}[name])
        whole = file.getvalue()
        damaged = [whole[:end] for end in range(0, len(whole), max(1, len(whole) // 120))]
        for _ in range(200):
            data = bytearray(whole)
            for place in generator.integers(len(data), size=3):
                data[place] ^= 1 << int(generator.integers(8))
            damaged.append(bytes(data))
        assert len(damaged) > 200
        path = tmp_path / "a" / name
        for data in damaged:
            path.write_bytes(data)
            try:
                Picture(*Pictures(tmp_path).read("a", 1)).rgb()
            except DataError as error:
                assert str(error).startswith(str(path)) and "\n" not in str(error)
        path.unlink()
