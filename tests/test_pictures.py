from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from matplotlib import font_manager
from PIL import Image, ImageFont

from hvs.geometry.skeletons import HUMAN36M, PANOPTIC
from hvs.pictures import (
    CAPTION,
    GAP,
    LatentColours,
    draw_skeleton,
    error_to_rgb,
    heat,
    latent_to_rgb,
    mosaic,
    save_picture,
    to_uint8,
)
from hvs.runtime import UserError


def test_to_uint8_rounds_and_clamps():
    image = torch.tensor([-1.0, 0.5, 2.0])[:, None, None]
    assert to_uint8(image).tolist() == [[[0, 128, 255]]]


@pytest.mark.parametrize("channels", [1, 2, 3, 16])
def test_latents_become_colours(channels):
    latent = torch.randn(2, channels, 5, 7)
    colours = latent_to_rgb(latent)
    assert colours.shape == (2, 3, 5, 7)
    assert colours.min() >= 0 and colours.max() <= 1
    # The first component varies most and fills its range.
    assert colours[:, 0].min() == pytest.approx(0, abs=1e-5) or colours[:, 0].max() == pytest.approx(1, abs=1e-5)
    assert torch.allclose(latent_to_rgb(latent), colours)


def test_equal_latents_have_equal_colours_in_all_pictures_of_a_batch():
    latent = torch.randn(2, 4, 3, 3)
    latent[1, :, 0, 0] = latent[0, :, 2, 2]
    colours = latent_to_rgb(latent)
    assert torch.allclose(colours[1, :, 0, 0], colours[0, :, 2, 2])
    assert torch.isfinite(latent_to_rgb(torch.zeros(1, 4, 3, 3))).all()


def test_the_colours_of_some_latents_serve_for_others():
    latent = torch.randn(4, 6, 5, 5)
    colours = LatentColours(latent)
    assert torch.allclose(colours(latent), latent_to_rgb(latent), atol=1e-6)
    # A part of them, in other company, has the colours it had.
    other = torch.cat((latent[1:2], 9 * latent[:1]))
    assert torch.allclose(colours(other)[0], latent_to_rgb(latent)[1], atol=1e-5)
    assert colours(other).min() >= 0 and colours(other).max() <= 1


def test_colours_do_not_depend_on_the_signs_of_the_components(monkeypatch):
    """A decomposition may choose any."""
    latent, eigh = torch.randn(2, 4, 3, 3), torch.linalg.eigh
    wanted = latent_to_rgb(latent)
    for signs in torch.tensor([[-1, -1, -1, -1], [1, -1, 1, -1]]):

        def turned(matrix, signs=signs):
            return SimpleNamespace(eigenvectors=eigh(matrix).eigenvectors * signs)

        monkeypatch.setattr(torch.linalg, "eigh", turned)
        assert torch.equal(latent_to_rgb(latent), wanted)


def test_a_skeleton_is_drawn_where_both_joints_are_valid():
    image = torch.zeros(3, 64, 64)
    keypoints = torch.full((17, 2), 10.0)
    keypoints[1] = torch.tensor([50.0, 10.0])
    valid = torch.zeros(17, dtype=torch.bool)
    assert torch.equal(draw_skeleton(image, keypoints, valid, HUMAN36M), image)
    valid[:2] = True
    drawn = draw_skeleton(image, keypoints, valid, HUMAN36M)
    assert (drawn[:, 10, 12:48] > 0).any(0).all() and drawn[:, 30:].sum() == 0


def test_parts_have_colours_of_their_own():
    keypoints = torch.rand(117, 2) * 60
    drawn = draw_skeleton(torch.zeros(3, 64, 64), keypoints, torch.ones(117, dtype=torch.bool), PANOPTIC)
    assert len({tuple(pixel) for pixel in to_uint8(drawn).reshape(-1, 3).tolist()}) >= 5


def test_parts_of_other_names_are_drawn_as_body():
    keypoints, valid = torch.rand(17, 2) * 60, torch.ones(17, dtype=torch.bool)
    wanted = draw_skeleton(torch.zeros(3, 64, 64), keypoints, valid, HUMAN36M)
    for parts in ({"legs": (0, 7), "rest": (7, 17)}, {"legs": (0, 7)}):
        other = replace(HUMAN36M, parts=parts)
        assert torch.equal(draw_skeleton(torch.zeros(3, 64, 64), keypoints, valid, other), wanted)


def test_mosaic_has_every_picture_in_its_place():
    red, blue = (torch.zeros(3, 100, 120) for _ in range(2))
    red[0], blue[2] = 1, 1
    sheet = np.array(mosaic([[red, blue], [blue[:, ::2, ::2], red]], ["left", "right"]))
    assert sheet.shape == (CAPTION + 200 + GAP, 240 + GAP, 3)
    assert sheet[CAPTION + 50, 60].tolist() == [255, 0, 0] and sheet[CAPTION + 50, 200].tolist() == [0, 0, 255]
    assert sheet[CAPTION + 150, 60].tolist() == [0, 0, 255] and sheet[CAPTION + 150, 200].tolist() == [255, 0, 0]
    assert (sheet[:CAPTION] < 128).any()


def test_pictures_of_a_mosaic_keep_their_shape():
    wide, square = torch.zeros(3, 90, 160), torch.zeros(3, 64, 64)
    sheet = np.array(mosaic([[square, wide]]))
    assert sheet.shape == (90, 320 + GAP, 3)
    black = (sheet[:, :160] == 0).all(-1)
    assert black.sum() == 90 * 90 and black[:, 35:125].all()


def test_captions_grow_with_the_pictures():
    heights = [mosaic([[torch.zeros(3, 100, width)]], ["one"]).height - 100 for width in (120, 512, 1024)]
    assert heights == [CAPTION, 48, 96]


def test_labels_stand_over_the_rows_of_a_mosaic():
    black = torch.zeros(3, 100, 120)
    sheet = np.array(mosaic([[black], [black]], ["one"], labels=["first", "second"]))
    assert sheet.shape == (3 * CAPTION + 200 + GAP, 120, 3)
    line = {"caption": 0, "first": CAPTION, "second": 2 * CAPTION + 100 + GAP}
    assert all((sheet[y : y + CAPTION] < 128).any() for y in line.values())
    assert (sheet[2 * CAPTION : 2 * CAPTION + 100] == 0).all() and (sheet[-100:] == 0).all()
    # Letters start at the left, unlike those of the captions.
    assert (sheet[line["first"] : line["first"] + CAPTION, :8] < 128).any()


@pytest.mark.parametrize("rows", [[], [[], []]], ids=str)
def test_a_mosaic_of_nothing_is_refused(rows):
    with pytest.raises(ValueError, match="^rows: got no pictures, wanted one or more$"):
        mosaic(rows)


def test_small_pictures_are_enlarged():
    assert mosaic([[torch.zeros(3, 20, 32)]]).size == (96, 60)


def test_wide_pictures_are_reduced_without_moire():
    stripes = (torch.arange(300) % 2).float().expand(3, 200, 300)
    sheet = np.array(mosaic([[stripes]], widest=100)).astype(int)
    assert sheet.shape == (67, 100, 3)
    assert abs(sheet - 127.5).max() < 20


def test_errors_become_colours_from_black_to_white():
    target = torch.full((2, 3, 1, 4), 0.4)
    output = target + torch.tensor([0.0, 0.1, -0.3, torch.nan])
    colours = error_to_rgb(output, target)
    assert colours.shape == (2, 3, 1, 4)
    brightness = colours.mean(1)[:, 0]
    assert (brightness.diff(dim=-1) > 0.05).all()
    assert (brightness[:, 0] < 0.01).all() and (brightness[:, 3] > 0.9).all()
    # What is beyond the range of pictures is as wrong as its end.
    assert torch.equal(error_to_rgb(target + 7, target), error_to_rgb(target + 0.6, target))


def test_what_is_not_finite_is_left_out_or_grey():
    keypoints = torch.full((17, 2), 10.0)
    keypoints[1] = torch.tensor([torch.inf, torch.nan])
    image = torch.zeros(3, 16, 16)
    valid = torch.zeros(17, dtype=torch.bool)
    valid[:2] = True
    assert torch.equal(draw_skeleton(image, keypoints, valid, HUMAN36M), image)
    keypoints[1] = torch.tensor([1e30, 10.0])
    assert (draw_skeleton(image, keypoints, valid, HUMAN36M)[:, 10, 10:] > 0).any(0).all()
    latent = torch.randn(1, 4, 2, 2)
    latent[0, 0, 0, 0] = torch.nan
    assert latent_to_rgb(latent).isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.int64, torch.bool], ids=str)
def test_heat_takes_values_of_any_type(dtype):
    values = torch.tensor([[0, 1]]).to(dtype)
    assert torch.equal(heat(values), heat(values.float()))


def written(text):
    """The label of a mosaic, without the picture below it."""
    return np.asarray(mosaic([[torch.ones(3, 120, 240)]], labels=[text]))[:CAPTION]


@pytest.fixture(params=["installed", "of matplotlib", "none"])
def font(request, monkeypatch):
    """Which fonts there are, whatever is installed here."""
    kind, load = request.param, ImageFont.truetype

    def truetype(font, *more, **options):
        # Pillow opens its own font, which is no file, in the same way.
        if isinstance(font, str):
            if kind == "none" or (kind == "of matplotlib") != Path(font).is_absolute():
                raise OSError("cannot open resource")
            font = font_manager.findfont("DejaVu Sans", fallback_to_default=False)
        return load(font, *more, **options)

    monkeypatch.setattr(ImageFont, "truetype", truetype)
    return kind


def test_letters_of_any_language_are_written(font):
    """Pillow's own font shows the same box for each of them."""
    if font == "none":
        assert np.array_equal(written("José Žižka"), written("Jose Zizka"))
        assert np.array_equal(written("Ω"), written("?"))
    else:
        drawn = [written(letter) for letter in "éžΩЖ"]
        assert all(not np.array_equal(one, two) for i, one in enumerate(drawn) for two in drawn[:i])


def test_plain_letters_look_the_same_whatever_fonts_there_are(font, monkeypatch):
    before = written("view 01")
    monkeypatch.undo()
    assert np.array_equal(written("view 01"), before)


def test_bytes_are_no_picture():
    with pytest.raises(ValueError, match="image: got torch.uint8, wanted a floating dtype, in 0..1"):
        to_uint8(torch.full((3, 4, 4), 200, dtype=torch.uint8))


@pytest.mark.parametrize("ending", [".xyz", "", ".psd"])
def test_a_picture_is_written_in_the_format_of_its_ending_or_not_at_all(tmp_path, ending):
    picture = mosaic([[torch.rand(3, 4, 6)]])
    save_picture(picture, tmp_path / "out.PNG")
    with pytest.raises(UserError, match=f"out{ending}: got the ending '{ending}', wanted .png"):
        save_picture(picture, tmp_path / f"out{ending}")
    assert [file.name for file in tmp_path.iterdir()] == ["out.PNG"]
    assert np.array_equal(Image.open(tmp_path / "out.PNG"), picture)


def test_heat_does_not_depend_on_the_default_dtype():
    wanted = heat(torch.rand(4, 4))
    before = torch.get_default_dtype()
    try:
        torch.set_default_dtype(torch.float64)
        assert heat(torch.rand(4, 4)).dtype == wanted.dtype
    finally:
        torch.set_default_dtype(before)
