import numpy as np
import pytest


@pytest.fixture(scope="module")
def outfits(model):
    from hvs.data.sample.clothing import make_outfit

    return [make_outfit(index, index % 2 == 1, np.random.default_rng(index)) for index in range(6)]


def test_neighbours_differ_in_everything_that_shows(outfits):
    for one, next_one in zip(outfits[:-1], outfits[1:], strict=True):
        for name in ("skin", "hair", "shirt", "trousers", "shoes", "pattern"):
            assert getattr(one, name) != getattr(next_one, name), name


def test_texture_is_linear_light_with_every_part_painted(model, outfits):
    from hvs.data.sample.clothing import paint
    from hvs.data.sample.raycast import GAMMA

    outfit = outfits[0]
    texture = paint(model, outfit, 256)
    assert texture.shape == (256, 256, 3) and texture.dtype == np.float32
    assert texture.min() >= 0 and texture.max() <= 1
    colours = 255 * texture.reshape(-1, 3) ** (1 / GAMMA)
    for part in ("skin", "hair", "shirt", "accent", "trousers", "shoes"):
        near = np.abs(colours - getattr(outfit, part)).max(1) < 12
        assert near.mean() > 0.002, part


def test_patterns_all_show_both_colours_but_the_plain_one(model, outfits):
    from dataclasses import replace

    from hvs.data.sample.clothing import PATTERNS, _shirt

    points = np.random.default_rng(0).uniform(-0.3, 0.3, (2000, 3))
    for pattern in PATTERNS:
        outfit = replace(outfits[0], pattern=pattern)
        share = (_shirt(points, outfit) == outfit.accent).all(1).mean()
        assert share == 0 if pattern == "plain" else 0.1 < share < 0.9, pattern


def test_cloth_covers_the_trunk_and_leaves_face_and_hands(model, outfits):
    from hvs.data.sample.clothing import _cover, _limbs

    points, limbs = model.rest.vertices[0].numpy(), _limbs(model)[model.main_bone.numpy()]
    for outfit in outfits:
        cover = _cover(points, limbs, outfit)
        layers = np.stack(list(cover.values())).sum(0)
        assert layers.max() == 1, "parts overlap"
        assert (layers[limbs == "hand"] == 0).all()
        waist = (limbs != "arm") & (limbs != "hand") & (np.abs(points[:, 2]) < 0.3)
        assert (layers[waist] == 1).all()
        face = (limbs == "head") & (points[:, 1] < -0.12) & (points[:, 2] < 0.68)
        assert (layers[face] == 0).all()


def test_thickness_is_a_few_millimetres_on_what_is_covered(model, outfits):
    from hvs.data.sample.clothing import thickness

    off = thickness(model, outfits[1])
    assert off.shape == (model.rest.vertices.shape[1], 1) and off.dtype == np.float32
    assert off.min() == 0 and 0.01 < off.max() < 0.03


def test_painting_is_repeatable(model, outfits):
    from hvs.data.sample.clothing import paint

    assert np.array_equal(paint(model, outfits[3], 256), paint(model, outfits[3], 256))
