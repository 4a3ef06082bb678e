import pytest
import torch

from hvs.data.recolouring import BRIGHTNESS, GRID, HEAD, LEGS, UPPER, draw_colours, recolour, which_part
from hvs.geometry import Camera
from hvs.geometry.skeletons import HUMAN36M, PANOPTIC, customise

UP = torch.tensor([0.0, -1.0, 0.0])


def standing(skeleton) -> torch.Tensor:
    """Somebody upright at the origin, 1.7 m tall, y down: heights by the names of the joints."""
    heights = {"ankle": 0.1, "foot": 0.1, "knee": 0.5, "hip": 0.9, "wrist": 0.8, "elbow": 1.1, "spine": 1.15}
    heights |= {"shoulder": 1.4, "sternum": 1.4, "thorax": 1.4, "nose": 1.6, "eye": 1.6, "ear": 1.6, "head": 1.7}
    points = torch.zeros(len(skeleton.joints), 3)
    first, last = skeleton.parts["body"]
    for i, name in enumerate(skeleton.joints[first:last]):
        height = next(value for word, value in heights.items() if word in name.lower())
        side = 0.15 if name.startswith("L") else -0.15 if name.startswith("R") else 0.0
        points[i] = torch.tensor([2 * side if "wrist" in name.lower() or "elbow" in name.lower() else side, -height, 0])
    points[last:] = torch.tensor([0.0, -1.6, 0.0])
    return points


def camera(size: int, count: int) -> Camera:
    K = torch.tensor([[1.4 * size, 0, (size - 1) / 2], [0, 1.4 * size, (size - 1) / 2], [0, 0, 1]])
    one = Camera.look_at(torch.tensor([0.0, -0.9, -3.0]), torch.tensor([0.0, -0.9, 0.0]), UP, K, size, size)
    return Camera.stack([one] * count)


def make_batch(count: int) -> dict:
    generator = torch.Generator().manual_seed(0)
    points = standing(PANOPTIC).expand(count, -1, -1)
    batch = dict(points=points, valid=torch.ones(points.shape[:2], dtype=torch.bool))
    colour = torch.tensor(PANOPTIC.background)[:, None, None] / 255
    for side, size in (("a", 32), ("b", 48)):
        mask = torch.zeros(count, 1, size, size)
        mask[..., size // 8 : -size // 8, size // 3 : -size // 3] = 1
        image = 0.3 + 0.2 * torch.rand(count, 3, size, size, generator=generator)
        batch |= {f"image_{side}": torch.lerp(colour, image, mask), f"mask_{side}": mask}
        batch[f"camera_{side}"] = camera(size, count)
    return batch


def test_a_hue_turns_about_grey():
    maps = draw_colours(500, 1.0, seed=0, step=3)
    grey = maps @ torch.ones(3)
    brightness = grey.mean(-1)
    assert torch.allclose(grey, brightness[..., None].expand_as(grey), atol=1e-6)
    assert brightness.log2().abs().max().item() == pytest.approx(BRIGHTNESS, abs=0.01)
    turns = maps / brightness[..., None, None]
    assert torch.allclose(turns @ turns.mT, torch.eye(3).expand_as(turns), atol=1e-5)
    assert torch.allclose(torch.linalg.det(turns), torch.ones(500, 3), atol=1e-5)
    # Over all angles alike, nothing but the axis remains.
    assert turns.mean((0, 1)) == pytest.approx(torch.full((3, 3), 1 / 3).numpy(), abs=0.05)


@pytest.mark.parametrize("part", [0.0, 0.5, 1.0])
def test_so_many_pairs_change_as_were_asked_for(part):
    maps = draw_colours(2000, part, seed=0, step=3)
    changed = (maps - torch.eye(3)).abs().amax((-1, -2)) > 1e-3
    assert maps.shape == (2000, 3, 3, 3)
    assert changed.float().mean().item() == pytest.approx(part, abs=0.05)
    # The parts of a person change together, but not alike.
    assert (changed == changed[:, :1]).float().mean() > 0.99
    if part:
        assert (maps[:, 0] - maps[:, 1])[changed[:, 0]].abs().amax((-1, -2)).median() > 0.1


def test_they_depend_on_seed_and_step_alone():
    maps = draw_colours(8, 0.5, seed=1, step=2)
    torch.rand(5)
    assert torch.equal(maps, draw_colours(8, 0.5, seed=1, step=2))
    assert not torch.equal(maps, draw_colours(8, 0.5, seed=1, step=3))
    assert not torch.equal(maps, draw_colours(8, 0.5, seed=2, step=2))


@pytest.mark.parametrize("size", [32, 64, 200])
@pytest.mark.parametrize("skeleton", [PANOPTIC, HUMAN36M], ids=lambda s: s.name)
def test_parts_are_told_by_the_nearest_limb(skeleton, size):
    points = standing(skeleton)[None]
    seen = camera(size, 1)
    parts = which_part(points, torch.ones(points.shape[:2], dtype=torch.bool), seen, skeleton)[0]
    side = min(size, GRID)
    assert parts.shape == (side, side)
    # Of the trunk, which begins between the hips, no part is a leg.
    for x, height, wanted in (
        (0.15, 0.3, LEGS),
        (0.15, 0.6, LEGS),
        (0, 1.05, UPPER),
        (0.15, 1.25, UPPER),
        (0, 1.65, HEAD),
    ):
        column, row = (seen.project(torch.tensor([[[x, -height, 0.0]]]))[0, 0] + 0.5) * side / size
        assert parts[int(row), int(column)] == wanted, height


@pytest.mark.parametrize("unknown", [torch.nan, 0.0])
def test_unknown_joints_tell_nothing(unknown):
    points = standing(PANOPTIC)[None].clone()
    valid = torch.ones(points.shape[:2], dtype=torch.bool)
    knees = [i for i, name in enumerate(PANOPTIC.joints) if "Knee" in name or "Ankle" in name]
    points[:, knees] = unknown
    valid[:, knees] = False
    parts = which_part(points, valid, camera(32, 1), PANOPTIC)[0]
    # The pelvis is what is left of the legs; where the shins were, the hands are the nearest.
    assert (parts[16, 14:18] == LEGS).all() and (parts[28] == UPPER).all()
    assert which_part(points, torch.zeros_like(valid), camera(32, 1), PANOPTIC).shape == (1, 32, 32)


def test_both_images_of_a_pair_change_alike_and_what_is_behind_stays():
    batch, before = make_batch(3), make_batch(3)
    maps = draw_colours(3, 1.0, seed=0, step=0)
    recolour(batch, maps, PANOPTIC)
    for side in ("a", "b"):
        image, mask = batch[f"image_{side}"], batch[f"mask_{side}"]
        behind = (mask == 0).expand_as(image)
        assert torch.equal(image[behind], before[f"image_{side}"][behind])
        # At the height of the shins, and of the chest.
        for height, part in ((0.3, LEGS), (1.25, UPPER)):
            at = torch.tensor([[[0.15, -height, 0.0]]]).expand(3, 1, 3)
            x, y = batch[f"camera_{side}"].project(at)[0, 0].round().int().tolist()
            wanted = (maps[:, part] @ before[f"image_{side}"][:, :, y, x, None])[..., 0].clamp(0, 1)
            assert torch.allclose(image[:, :, y, x], wanted, atol=1e-6)
        assert image.min() >= 0 and image.max() <= 1


def test_who_keeps_their_colours_stays_as_they_were():
    batch, before = make_batch(2), make_batch(2)
    recolour(batch, draw_colours(2, 0.0, seed=0, step=0), PANOPTIC)
    assert all(torch.allclose(batch[name], before[name], atol=1e-7) for name in before if name.startswith("image"))


def test_without_limbs_in_the_body_the_others_tell_the_parts():
    """Those of hands, or of a face."""
    first, last = PANOPTIC.parts["face"]
    eye = next(i for i in range(first, last) if "Eye" in PANOPTIC.joints[i])
    batch = make_batch(2)
    for joint, wanted in ((PANOPTIC.parts["left_hand"][0], UPPER), (eye, HEAD)):
        skeleton = customise(PANOPTIC, limbs=[(joint, joint + 1, 0.01)])
        parts = which_part(batch["points"], batch["valid"], batch["camera_a"], skeleton)
        assert parts.unique().tolist() == [wanted]
