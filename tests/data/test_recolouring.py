import pytest
import torch

from hvs.data.recolouring import _turn_hue, draw_colours, recolour

BACKGROUND = (127, 128, 105)


def make_batch(count: int) -> dict:
    generator = torch.Generator().manual_seed(0)
    batch = {}
    for side, size in (("a", 8), ("b", 12)):
        mask = torch.zeros(count, 1, size, size)
        mask[:, :, 2:5, 1:7] = 1
        image = 0.3 + 0.2 * torch.rand(count, 3, size, size, generator=generator)
        colour = torch.tensor(BACKGROUND)[:, None, None] / 255
        batch |= {f"image_{side}": torch.lerp(colour, image, mask), f"mask_{side}": mask}
    return batch


def test_a_hue_turns_about_grey():
    maps = _turn_hue(torch.tensor([0.0, 0.7, 2 * torch.pi / 3]))
    assert torch.allclose(maps[0], torch.eye(3), atol=1e-6)
    assert torch.allclose(maps @ torch.ones(3), torch.ones(3), atol=1e-6)
    assert torch.allclose(maps @ maps.mT, torch.eye(3).expand(3, 3, 3), atol=1e-6)
    assert torch.allclose(torch.linalg.det(maps), torch.ones(3), atol=1e-6)
    # A third of a turn hands red on to green.
    assert torch.allclose(maps[2] @ torch.tensor([1.0, 0, 0]), torch.tensor([0.0, 1, 0]), atol=1e-6)


@pytest.mark.parametrize("part", [0.0, 0.5, 1.0])
def test_so_many_pairs_change_as_were_asked_for(part):
    maps = draw_colours(2000, part, seed=0, step=3)
    changed = (maps - torch.eye(3)).abs().amax((1, 2)) > 1e-3
    assert changed.float().mean().item() == pytest.approx(part, abs=0.05)


def test_they_depend_on_seed_and_step_alone():
    maps = draw_colours(8, 0.5, seed=1, step=2)
    torch.rand(5)
    assert torch.equal(maps, draw_colours(8, 0.5, seed=1, step=2))
    assert not torch.equal(maps, draw_colours(8, 0.5, seed=1, step=3))
    assert not torch.equal(maps, draw_colours(8, 0.5, seed=2, step=2))


def test_both_images_of_a_pair_change_alike_and_what_is_behind_stays():
    batch, before = make_batch(3), make_batch(3)
    maps = draw_colours(3, 1.0, seed=0, step=0)
    recolour(batch, maps, BACKGROUND)
    for side in ("a", "b"):
        image, mask = batch[f"image_{side}"], batch[f"mask_{side}"]
        behind = (mask == 0).expand_as(image)
        assert torch.equal(image[behind], before[f"image_{side}"][behind])
        wanted = (maps @ before[f"image_{side}"].flatten(2)).clamp(0, 1).unflatten(2, image.shape[2:])
        assert torch.allclose(image[~behind], wanted[~behind], atol=1e-6)
        assert (image - before[f"image_{side}"])[~behind].abs().mean() > 0.02
        assert image.min() >= 0 and image.max() <= 1


def test_who_keeps_their_colours_stays_as_they_were():
    batch, before = make_batch(2), make_batch(2)
    recolour(batch, draw_colours(2, 0.0, seed=0, step=0), BACKGROUND)
    assert all(torch.allclose(batch[name], before[name], atol=1e-7) for name in before)
