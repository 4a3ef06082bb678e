import numpy as np
import pytest
from PIL import Image, ImageOps

from hvs.data import DataError
from hvs.inference.snapshot import EXIF_FOCAL_35MM, EXIF_TABLE, read_mask, read_snapshot
from tests.captures import broken_profile

ORIENTATION = 0x0112


def colours(width=6, height=4):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def save(file, pixels, mode=None, **options):
    Image.fromarray(pixels, mode).save(file, **options)
    return file


@pytest.mark.parametrize("ending", ["png", "bmp", "tiff", "ppm"])
def test_any_format_is_read(tmp_path, ending):
    snapshot = read_snapshot(save(tmp_path / f"a.{ending}", colours()))
    assert np.array_equal(snapshot.pixels, colours())
    assert snapshot.opaque is None and snapshot.focal is None


@pytest.mark.parametrize("orientation", range(10))
def test_all_orientations_are_pillows(tmp_path, orientation):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    file = save(tmp_path / "a.png", colours(), exif=exif)
    with Image.open(file) as picture:
        wanted = np.asarray(ImageOps.exif_transpose(picture))
    assert np.array_equal(read_snapshot(file).pixels, wanted)
    grey = save(tmp_path / "m.png", np.tril(np.full((4, 6), 255, np.uint8)), exif=exif)
    mask = read_mask(grey, *wanted.shape[1::-1])
    assert np.array_equal(mask, read_snapshot(grey).pixels[..., 0] > 0)


def test_a_broken_exif_table_is_none(tmp_path):
    file = save(tmp_path / "a.png", colours(), exif=b"Exif\0\0MMp*nonsense")
    assert np.array_equal(read_snapshot(file).pixels, colours())


@pytest.mark.parametrize(("orientation", "turns"), [(1, 0), (3, 2), (6, 3), (8, 1)])
def test_a_picture_is_turned_as_its_exif_says(tmp_path, orientation, turns):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    exif.get_ifd(EXIF_TABLE)[EXIF_FOCAL_35MM] = 26
    snapshot = read_snapshot(save(tmp_path / "a.png", colours(), exif=exif))
    assert np.array_equal(snapshot.pixels, np.rot90(colours(), turns))
    assert snapshot.focal == 26.0


def test_a_focal_length_of_zero_is_unknown(tmp_path):
    exif = Image.Exif()
    exif[ORIENTATION] = 1
    exif.get_ifd(EXIF_TABLE)[EXIF_FOCAL_35MM] = 0
    assert read_snapshot(save(tmp_path / "a.png", colours(), exif=exif)).focal is None


def test_grey_and_sixteen_bits_become_colours(tmp_path):
    grey = colours()[..., 0]
    wanted = np.repeat(grey[..., None], 3, -1)
    assert np.array_equal(read_snapshot(save(tmp_path / "8.png", grey)).pixels, wanted)
    assert np.array_equal(read_snapshot(save(tmp_path / "16.png", grey.astype(np.uint16) * 257)).pixels, wanted)
    assert np.array_equal(read_snapshot(save(tmp_path / "16.tiff", grey.astype(np.uint16) * 257)).pixels, wanted)
    assert read_snapshot(save(tmp_path / "1.png", grey > 99)).pixels.max() == 255


def test_palettes_and_print_colours_are_read(tmp_path):
    picture = Image.fromarray(colours())
    picture.quantize(256).save(tmp_path / "p.png")
    assert np.array_equal(read_snapshot(tmp_path / "p.png").pixels, colours())
    picture.convert("CMYK").save(tmp_path / "c.tiff")
    assert np.abs(read_snapshot(tmp_path / "c.tiff").pixels.astype(int) - colours()).max() < 3


def test_transparency_tells_what_is_there(tmp_path):
    alpha = np.zeros((4, 6), np.uint8)
    alpha[1:3, 2:5] = 200
    cut = save(tmp_path / "a.png", np.dstack((colours(), alpha)))
    assert np.array_equal(read_snapshot(cut).opaque, alpha > 0)
    solid = save(tmp_path / "b.png", np.dstack((colours(), np.full_like(alpha, 255))))
    assert read_snapshot(solid).opaque is None
    picture = Image.fromarray(np.dstack((colours(), alpha))).quantize(8)
    picture.save(tmp_path / "p.png")
    assert np.array_equal(read_snapshot(tmp_path / "p.png").opaque, alpha > 0)


def test_masks_are_white_where_the_person_is(tmp_path):
    mask = np.zeros((4, 6), np.uint8)
    mask[2:, 3:] = 128
    assert np.array_equal(read_mask(save(tmp_path / "m.png", mask), 6, 4), mask > 0)


def test_what_is_transparent_is_none_of_a_mask(tmp_path):
    """As programs cut people out: white all over, and opaque where they are."""
    alpha = np.zeros((4, 6), np.uint8)
    alpha[1:, :2] = 255
    pixels = np.dstack((np.full((4, 6, 3), 255, np.uint8), alpha))
    assert np.array_equal(read_mask(save(tmp_path / "m.png", pixels), 6, 4), alpha > 0)


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.full((6, 4), 255, np.uint8), "is 4x6, its image 6x4"),
        (np.ones((4, 6), np.uint8), "nothing is white, wanted 128 or more of 255"),
        (np.zeros((4, 6), np.uint8), "nothing is white"),
    ],
)
def test_other_masks_are_refused(tmp_path, mask, message):
    file = save(tmp_path / "m.png", mask)
    with pytest.raises(DataError, match=message) as caught:
        read_mask(file, 6, 4)
    assert str(file) in str(caught.value)


def cut_short(file):
    data = save(file, colours(64, 64)).read_bytes()
    file.write_bytes(data[: len(data) // 2])


def of_fractions(file):
    Image.fromarray(colours()[..., 0].astype(np.float32)).save(file, "tiff")


def of_32_bits(file):
    Image.fromarray(colours()[..., 0].astype(np.int32) * 2**20).save(file, "tiff")


def huge(file):
    # Only the header says so.
    data = bytearray(save(file, colours(), format="bmp").read_bytes())
    data[18:26] = (12_000).to_bytes(4, "little") * 2
    file.write_bytes(data)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda file: None, r"cannot be read \(No such file or directory\)"),
        (lambda file: file.mkdir(), "not a regular file"),
        (lambda file: file.write_bytes(b""), r"not a readable picture \(of no known kind, 0 bytes\)$"),
        (lambda file: file.write_text("hello"), r"not a readable picture \(of no known kind, 5 bytes\)$"),
        (cut_short, "not a readable picture"),
        (lambda file: file.write_bytes(broken_profile()), r"not a readable picture \(index out of range\)$"),
        (of_fractions, "a picture of floating-point numbers, wanted 8 or 16 bits"),
        (of_32_bits, "wanted 8 or 16 bits"),
        (lambda file: save(file, np.zeros((4, 6, 4), np.uint8)), "transparent everywhere"),
        (huge, "12000x12000 pixels, wanted at most"),
    ],
    ids=["missing", "folder", "empty", "text", "cut", "profile", "fractions", "32 bits", "nothing", "huge"],
)
def test_what_is_no_picture_is_refused_in_one_line(tmp_path, spoil, message):
    file = tmp_path / "a.png"
    spoil(file)
    with pytest.raises(DataError, match=message) as caught:
        read_snapshot(file)
    assert str(file) in str(caught.value) and "\n" not in str(caught.value)
