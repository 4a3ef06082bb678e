"""Augmentation: the same for all batches, exact moves, colours that invert, and a probability that follows."""

import pytest
import torch

from hvs.losses.augmentation import BRIGHTNESS, CONTRAST, GREY, MOVE, SATURATION, STEP, AdaptiveAugmentation


def augmentation(probability):
    module = AdaptiveAugmentation()
    module.probability.fill_(probability)
    return module


@pytest.mark.parametrize("autocast", [False, True])
def test_nothing_happens_at_probability_zero(autocast):
    picture = torch.rand(3, 3, 8, 12)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        (same,) = augmentation(0.0)(picture)
    assert torch.allclose(same, picture, atol=1e-6)


@pytest.mark.parametrize("shape", [(8, 8), (6, 10), (1, 1), (33, 17)], ids=str)
def test_real_and_made_up_pictures_change_alike(shape):
    """The map is affine, so what it does to a sum tells whether it is one and the same."""
    torch.manual_seed(0)
    real, fake = torch.rand(2, 5, 3, *shape)
    a, b, middle = augmentation(1.0)(real, fake, (real + fake) / 2)
    assert torch.allclose((a + b) / 2, middle, atol=1e-5)
    assert not torch.allclose(a, real, atol=0.1) or shape == (1, 1)


def test_moves_are_pixels_of_the_picture():
    """Without colours every value of the result is one of its picture's, and all but edges are there once."""
    torch.manual_seed(0)
    module = augmentation(0.7)
    module._colours = lambda count: (torch.eye(3).expand(count, 3, 3), torch.zeros(count, 3, 1))
    picture = torch.arange(256.0).reshape(1, 1, 16, 16).expand(20, 3, -1, -1).contiguous()
    (moved,) = module(picture)
    kinds = set()
    for result in moved[:, 0]:
        assert torch.equal(result, result.round()) and result.min() >= 0 and result.max() <= 255
        centre = result[6:10, 6:10]
        step = (round((centre[0, 1] - centre[0, 0]).item()), round((centre[1, 0] - centre[0, 0]).item()))
        kinds.add(step)
        assert sorted(map(abs, step)) == [1, 16]
    assert len(kinds) > 5


def test_every_turn_and_flip_of_a_square_comes_up():
    torch.manual_seed(1)
    module = augmentation(0.9)
    steps = set()
    places = module._moves(400, 16, 16).reshape(400, 16, 16)
    for place in places:
        steps.add((int(place[8, 8] - place[8, 7]), int(place[8, 8] - place[7, 8])))
    assert steps == {(a, b) for a in (-16, -1, 1, 16) for b in (-16, -1, 1, 16) if abs(a) != abs(b)}


def test_colours_are_a_rotation_about_grey_and_scales():
    torch.manual_seed(2)
    matrix, offset = augmentation(1.0)._colours(50)
    grey = torch.ones(3, 1)
    out = matrix @ grey
    assert torch.allclose(out, out[:, :1].expand(-1, 3, 1), atol=1e-5) and (out < 0).all()
    assert torch.allclose(offset, offset[:, :1].expand(-1, 3, 1))
    assert (torch.linalg.det(matrix).abs() > 1e-4).all()


def test_moves_reach_as_far_as_they_may():
    torch.manual_seed(4)
    height, width = 32, 64
    middle = augmentation(1.0)._moves(2000, height, width).unflatten(-1, (height, width))[:, 0, height // 2, width // 2]
    for size, found in ((height, middle // width), (width, middle % width)):
        # Half of them are flipped, and then the middle is the pixel before.
        furthest = round(MOVE * size)
        assert (found.min(), found.max()) == (size // 2 - 1 - furthest, size // 2 + furthest)


def test_colours_spread_as_far_as_they_should():
    torch.manual_seed(5)
    count = 20_000
    matrix, offset = augmentation(1.0)._colours(count)
    # The luma flip applies to all of them.
    contrast = -(matrix @ torch.full((3, 1), GREY)).sum(1)[:, 0] * GREY
    brightness = -offset[:, 0, 0] / contrast
    red = torch.tensor([2.0, -1.0, -1.0]) / 6**0.5
    cyan = torch.tensor([0.0, 1.0, -1.0]) / 2**0.5
    across, along = ((matrix @ red) @ axis / contrast for axis in (cyan, red))
    saturation, hue = torch.hypot(across, along), torch.atan2(across, along)
    for found, deviation in (
        (brightness, BRIGHTNESS),
        (contrast.log2(), CONTRAST),
        (saturation.log2(), SATURATION),
        (hue, torch.pi / 3**0.5),
    ):
        assert abs(found.mean()) < 0.05 * deviation and found.std().item() == pytest.approx(deviation, rel=0.05)


def test_gradients_flow_to_the_pictures():
    torch.manual_seed(3)
    module = augmentation(0.5).double()
    picture = torch.rand(2, 3, 4, 4, dtype=torch.float64, requires_grad=True)

    def change(picture):
        torch.manual_seed(4)
        return module(picture)[0]

    assert torch.autograd.gradcheck(change, picture)


def test_probability_follows_the_sign_of_real_logits():
    module = AdaptiveAugmentation()
    for _ in range(40):
        module.adapt(torch.tensor(1.0))
    risen = module.probability.item()
    assert 30 * STEP < risen <= 40 * STEP
    for _ in range(200):
        module.adapt(torch.tensor(0.0))
    assert module.probability == 0
    module.probability.fill_(1.0)
    for _ in range(50):
        module.adapt(torch.tensor(1.0))
    assert module.probability == 1
    assert set(module.state_dict()) == {"probability", "sign"}


def test_parts_of_a_step_move_as_far_as_a_whole_and_nan_not_at_all():
    whole, parts = AdaptiveAugmentation(), AdaptiveAugmentation()
    for _ in range(20):
        whole.adapt(torch.tensor(0.9))
        parts.adapt(torch.tensor(torch.nan), 0.25)
        for _ in range(4):
            parts.adapt(torch.tensor(0.9), 0.25)
    torch.testing.assert_close(parts.sign, whole.sign)
    # But for those that went the other way.
    assert parts.probability.item() == pytest.approx(whole.probability.item(), abs=0.01) and whole.probability > 0.01


def test_batches_of_different_shapes_are_refused():
    pictures = torch.rand(2, 3, 16, 16)
    for others in (pictures[:1], pictures[..., :8, :8]):
        with pytest.raises(ValueError, match="batches: got shapes"):
            AdaptiveAugmentation()(others, pictures)
