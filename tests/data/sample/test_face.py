import numpy as np
import pytest


@pytest.fixture(scope="module")
def painted(model):
    from hvs.data.sample.clothing import _limbs
    from hvs.data.sample.face import paint_face

    points, limbs = model.rest.vertices[0].numpy(), _limbs(model)[model.main_bone.numpy()]

    def paint(beard):
        colour = np.full((len(points), 3), 200, dtype=np.float32)
        looks = dict(skin=(200, 200, 200), hair=(20, 20, 20), iris=(0, 0, 255), beard=beard)
        paint_face(colour, model, points, limbs, **looks)
        return colour

    return paint


def mark(model, index):
    from hvs.data.sample.keypoints import FACE

    return model.vertex(FACE[index])


def test_brows_and_lips_lie_on_their_landmarks(model, painted):
    colour = painted(beard=False)
    for index in range(17, 27):
        assert colour[mark(model, index)].mean() < 60, index
    for index in (62, 66):
        red, green, _ = colour[mark(model, index)]
        assert green < 0.8 * red, index
    assert (np.abs(colour[mark(model, 30)] - 200) < 10).all()


def test_a_beard_covers_the_chin_and_not_the_nose(model, painted):
    assert painted(beard=True)[mark(model, 8)].mean() < 120 < painted(beard=False)[mark(model, 8)].mean()
    assert painted(beard=True)[mark(model, 30)].mean() > 180


def test_each_eye_is_white_around_an_iris_around_a_pupil(model, painted):
    from hvs.data.sample.face import PUPIL, SCLERA
    from hvs.data.sample.keypoints import PUPILS

    colour = painted(beard=False)
    for side, pupil in zip(("R", "L"), PUPILS, strict=True):
        ball = colour[(model.main_bone == model.bone(f"eye.{side}")).numpy()]
        seen = {tuple(map(int, row)) for row in ball}
        assert seen == {SCLERA, (0, 0, 255), PUPIL}
        assert tuple(colour[model.vertex(pupil)]) == PUPIL


def test_hair_grows_over_the_crown_and_the_nape_but_not_the_face(model):
    from hvs.data.sample.face import above_hairline
    from hvs.data.sample.keypoints import CROWN

    height = above_hairline(model.rest.vertices[0].numpy(), fall=0.0)
    assert height[model.vertex(CROWN)] > 0.03
    assert all(height[mark(model, index)] < 0 for index in range(68))
    longer = above_hairline(model.rest.vertices[0].numpy(), fall=0.1)
    assert (longer >= height).all() and (longer > height).any()
