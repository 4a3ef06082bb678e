"""Image files: kinds that are converted, those that are refused, and damage."""

import io

import numpy as np
import pytest
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


def test_size_of_the_first_and_of_none(save, tmp_path):
    pictures = save(Image.fromarray(COLOURS), "3.png")
    assert pictures.size("a") == (6, 4)
    (tmp_path / "b").mkdir()
    with pytest.raises(DataError, match="b: no pictures"):
        pictures.size("b")


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
