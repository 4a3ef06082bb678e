"""JPEG and PNG to tensors: colours, sizes, masks, and every way to be broken."""

import io
from itertools import product

import numpy as np
import pytest
import torch
from PIL import Image

from hvs.data import decoding
from hvs.data.decoding import Picture
from hvs.data.stores import DataError
from tests.captures import broken_profile

WHERE = "Images/00.lmdb: frame 7"


def encode(pixels, kind="JPEG", mode=None, **options):
    image = Image.fromarray(np.asarray(pixels, dtype=np.uint8))
    file = io.BytesIO()
    (image.convert(mode) if mode else image).save(file, kind, **options)
    return file.getvalue()


def ramp(width, height):
    """Red is x, green is y."""
    y, x = np.mgrid[:height, :width]
    return np.stack((x, y, 0 * x), -1)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("reduction", [1, 2, 4, 8])
@pytest.mark.parametrize("size", [(201, 150), (64, 8), (1, 1), (7, 3)], ids=str)
def test_pixels_are_means_in_their_places(kind, reduction, size):
    width, height = size
    picture = Picture(encode(ramp(*size), kind, quality=98, subsampling=0), WHERE)
    assert (picture.width, picture.height) == size
    pixels = picture.rgb(reduction)
    assert pixels.dtype == torch.uint8
    assert pixels.shape == (3, -(-height // reduction), -(-width // reduction))
    # Blocks at the edge that are not whole are made up by each decoder as it likes.
    h, w = height // reduction, width // reduction
    centre = torch.arange(max(w, h)) * reduction + (reduction - 1) / 2
    assert (pixels[0, :h, :w] - centre[:w]).abs().max() <= 3 if h and w else True
    assert (pixels[1, :h, :w] - centre[:h, None]).abs().max() <= 3 if h and w else True


@pytest.mark.parametrize(
    ("kind", "mode"),
    [*product(["JPEG"], ["L", "RGB", "CMYK"]), *product(["PNG"], ["L", "RGB", "RGBA", "P", "1", "LA"])],
)
def test_every_kind_of_colour_comes_out_as_rgb_and_as_mask(kind, mode):
    pixels = np.zeros((20, 30, 3))
    pixels[:, 16:] = 255
    picture = Picture(encode(pixels, kind, mode), WHERE)
    assert picture.rgb().shape == (3, 20, 30)
    assert picture.rgb()[:, :, :14].max() < 8 and picture.rgb()[:, :, 18:].min() > 247
    mask = picture.mask()
    assert mask.dtype == torch.bool and mask.shape == (1, 20, 30)
    assert not mask[:, :, :14].any() and mask[:, :, 18:].all()


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("channels", [(), (3,)])
def test_mask_is_cut_at_128_without_dithering(kind, channels):
    for value, wanted in ((0, False), (100, False), (127, False), (128, True), (150, True), (255, True)):
        mask = Picture(encode(np.full((16, 16, *channels), value), kind), WHERE).mask()
        assert mask.unique().tolist() == [wanted]


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_broken_pictures_are_one_line_with_their_frame(kind):
    data = encode(np.random.default_rng(0).integers(0, 255, (90, 120, 3)), kind)
    broken = {"profile": broken_profile(), "empty": b"", "text": b"no picture", "gif": b"GIF89a" + bytes(60)}
    broken |= {f"cut at {n}": data[:n] for n in (1, 2, 10, 100, 300, len(data) // 2, 9 * len(data) // 10)}
    for name, content in broken.items():
        for read in (Picture.rgb, Picture.mask):
            with pytest.raises(DataError, match=f"^{WHERE}: (not a readable JPEG|a damaged picture)") as caught:
                read(Picture(content, WHERE))
            assert "\n" not in str(caught.value), name


def test_grey_of_more_than_8_bits_is_refused():
    """It would be cut at 255."""
    file = io.BytesIO()
    Image.fromarray(np.full((20, 30), 1000, np.uint16)).save(file, "PNG")
    with pytest.raises(DataError, match=f"^{WHERE}: a grey picture of more than 8 bits, wanted 8 bits per channel$"):
        Picture(file.getvalue(), WHERE)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_pictures_that_claim_to_be_giants_are_refused_before_they_are_decoded(kind):
    data = encode(ramp(40, 30), kind)
    size = (30).to_bytes(2, "big") + (40).to_bytes(2, "big")
    if kind == "JPEG":
        data = data.replace(size, (65500).to_bytes(2, "big") * 2)
    else:
        import zlib

        head = b"IHDR" + (65500).to_bytes(4, "big") * 2 + data[24:29]
        data = data[:12] + head + zlib.crc32(head).to_bytes(4, "big") + data[33:]
    with pytest.raises(DataError, match="65500x65500 pixels|not a readable JPEG or PNG"):
        Picture(data, WHERE)


def test_a_jpeg_of_very_many_scans_is_refused():
    """A hundred kilobytes could keep a decoder busy for minutes."""
    data = encode(ramp(40, 30), progressive=True)
    scan = data[data.rindex(b"\xff\xda") : -2]
    assert Picture(data, WHERE).rgb().shape == (3, 30, 40)
    with pytest.raises(DataError, match=f"^{WHERE}: a JPEG of [0-9]+ scans, wanted at most 64$"):
        Picture(data[:-2] + 100 * scan + data[-2:], WHERE)


def test_limit_of_pixels_is_that_of_the_header(monkeypatch):
    monkeypatch.setattr(decoding, "MAX_PIXELS", 40 * 30)
    assert Picture(encode(ramp(40, 30)), WHERE).rgb().shape == (3, 30, 40)
    with pytest.raises(DataError, match=r"Images/00.lmdb: frame 7: 41x30 pixels, wanted at most 1200"):
        Picture(encode(ramp(41, 30)), WHERE)
