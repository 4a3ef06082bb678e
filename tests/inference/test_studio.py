import os
from pathlib import Path

import numpy as np
import pytest
import torch

from hvs import Camera, HumanViewSynthesis, skeletons
from hvs.checkpoint import save_model
from hvs.data import collate
from hvs.inference import paths
from hvs.inference.footage import choose_frames, find_sequence
from hvs.inference.settings import Drawing
from hvs.inference.studio import Studio, newest_checkpoint
from hvs.presets import PRESETS
from hvs.runtime import UserError

NAMES = skeletons.PANOPTIC.joints
UP = torch.tensor([0.0, -1.0, 0.0])


@pytest.fixture(scope="module")
def checkpoint(quick, tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    save_model(path, HumanViewSynthesis(PRESETS["tiny"].model))
    return path


@pytest.fixture
def studio(checkpoint):
    return Studio(Drawing(checkpoint=checkpoint, device="cpu"))


@pytest.fixture(scope="module")
def people() -> torch.Tensor:
    """Different people in different poses, [64, J, 3]."""
    with np.load(Path(__file__).parents[2] / "bench/poses.npz") as file:
        return torch.from_numpy(file["points"])


def joint(points: torch.Tensor, name: str) -> torch.Tensor:
    return points[..., NAMES.index(name), :]


def forward(points: torch.Tensor) -> torch.Tensor:
    """Where people look, by their shoulders."""
    return torch.nn.functional.normalize(
        torch.linalg.cross(joint(points, "LShoulder") - joint(points, "RShoulder"), UP.expand(len(points), 3)), dim=-1
    )


def test_the_people_look_where_their_noses_are(people):
    ears = (joint(people, "LEar") + joint(people, "REar")) / 2
    ahead = ((joint(people, "Nose") - ears) * forward(people)).sum(-1)
    assert (ahead > 0.02).all()


@pytest.mark.parametrize("side", ["L", "R"], ids=["left", "right"])
def test_a_raised_hand_keeps_its_side(studio, people, side):
    limbs = studio.model.skeleton.edges
    first, last = skeletons.PANOPTIC.parts["left_hand" if side == "L" else "right_hand"]
    # A finger alone is thinner than a pixel, and its neighbours hide it.
    hand = [i for i, (_, end) in enumerate(limbs) if first <= end < last]
    assert len(hand) == 20
    appearance = torch.zeros(1, len(limbs), studio.model.settings.appearance_features)
    appearance[:, hand] = 1
    chest = joint(people, "Sternum")
    raised = joint(people, f"{side}Wrist")[:, 1] < joint(people, "Nose")[:, 1]
    assert raised.sum() >= 3
    eyes = chest + 5 * forward(people)
    for points, eye, target in zip(people[raised], eyes[raised], chest[raised], strict=True):
        camera = Camera.stack([paths.look_at(eye, target, 1.4, UP, 32)])
        latent, _ = studio.draw(points[None], appearance, camera)
        column, row = camera.project(joint(points, f"{side}Middle1Knuckles")[None, None])[0, 0]
        middle, _ = camera.project(target[None, None])[0, 0]
        # A hand is thinner than a pixel from so far away: the pixels around its place.
        shares = torch.nn.functional.max_pool2d(latent[:, 0], 3, 1, 1)[0, row.round().int()]
        assert shares[column.round().int()] > 0.5
        # Mirrored, it would be here.
        assert shares[(2 * middle - column).round().int()] < 0.05
        # From the front the left hand is on the right of the picture.
        if (joint(points, f"{side}Wrist") - target) @ (joint(points, f"{side}Shoulder") - target) > 0.03:
            assert (column > middle) == (side == "L")


def test_lifted_poses_stand_around_their_true_roots(studio, capture):
    sequence = find_sequence(capture.root, studio.model.skeleton)
    footage = choose_frames(sequence, studio.model.settings)
    (batch,) = footage.batches(8, studio.device)
    points = studio.lift(batch)
    root = studio.model.skeleton.root
    camera = batch["camera_a"]
    lifted = studio.model.lift(batch["keypoints_a"], batch["confidence_a"], batch["resolution_a"])
    relative = camera.to_camera(points) - camera.to_camera(batch["points"])[:, root, None]
    assert torch.allclose(relative, lifted, atol=1e-5)


@pytest.fixture
def batch(studio, capture):
    sequence = find_sequence(capture.root, studio.model.skeleton)
    return next(choose_frames(sequence, studio.model.settings).batches(8, studio.device))


def test_a_persons_appearance_is_the_mean_of_their_images(checkpoint, batch):
    studio = Studio(Drawing(checkpoint=checkpoint, device="cpu", refine_steps=0))
    found = studio.encode_batch(batch)
    with torch.no_grad():
        wanted = studio.model.encode(batch["image_a"]).mean(0, keepdim=True)
    assert len(batch["image_a"]) > 1
    assert found.shape == wanted.shape and torch.allclose(found, wanted, atol=1e-6)


def test_refined_it_draws_more_like_the_images(checkpoint, studio, batch):
    errors = []
    for steps in (0, 5):
        studio = Studio(Drawing(checkpoint=checkpoint, device="cpu", refine_steps=steps))
        _, image = studio.draw(studio.lift(batch), studio.encode_batch(batch), batch["camera_a"])
        errors.append((image - batch["image_a"]).square().mean())
    assert errors[1] < 0.8 * errors[0]


def test_compiled_it_draws_the_same_with_any_number_of_frames(checkpoint, monkeypatch):
    monkeypatch.setattr(torch, "compile", _as_a_graph(torch.compile))
    plain = Studio(Drawing(checkpoint=checkpoint, device="cpu"))
    compiled = Studio(Drawing(checkpoint=checkpoint, device="cpu", compile=True, batch_size=3))
    points = torch.randn(3, len(NAMES), 3, generator=torch.Generator().manual_seed(1)) * 0.3
    appearance = torch.randn(1, len(plain.model.skeleton.edges), 16, generator=torch.Generator().manual_seed(2))
    camera = paths.look_at(torch.tensor([0.0, 0.0, -3.0]), torch.zeros(3), 1.0, UP, 32)
    for count in (3, 2):
        cameras = Camera.stack([camera] * count)
        for one, two in zip(
            plain.draw(points[:count], appearance, cameras), compiled.draw(points[:count], appearance, cameras),
            strict=True,
        ):  # fmt: skip
            assert one.shape == two.shape and len(two) == count
            assert torch.allclose(one, two, atol=1e-4)


def _as_a_graph(original):
    # Without a compiler behind it: what is captured is what can go wrong here, and it takes no minute.
    return lambda function, **options: original(function, backend="aot_eager", dynamic=options["dynamic"])


def test_frames_come_as_bytes_one_by_one(studio):
    images = torch.rand(5, 3, 4, 6)
    frames = list(studio.fetch(images.split(2)))
    assert len(frames) == 5 and frames[0].shape == (4, 6, 3) and frames[0].dtype == np.uint8
    wanted = (images * 255).round().byte().movedim(1, -1).numpy()
    assert np.array_equal(np.stack(frames), wanted)


def test_the_newest_model_is_taken(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"runs/\*/model.safetensors: no trained model yet"):
        newest_checkpoint()
    for age, name in ((5, "b"), (1, "a"), (3, "c")):
        path = tmp_path / "runs" / name / "model.safetensors"
        path.parent.mkdir(parents=True)
        path.touch()
        os.utime(path, (1e9 - age, 1e9 - age))
    assert newest_checkpoint() == Path("runs/a/model.safetensors")


def test_the_capture_is_the_one_given_or_the_one_trained_on(studio, tmp_path):
    assert studio.root(tmp_path) == tmp_path
    with pytest.raises(UserError, match="does not say which capture it was trained on; give --root"):
        studio.root(None)


def test_a_capture_that_was_moved_is_told(studio, tmp_path):
    studio.checkpoint = tmp_path / "model.safetensors"
    save_model(studio.checkpoint, studio.model, {"root": ["before"]})
    with pytest.raises(UserError, match="does not say which capture it was trained on; give --root"):
        studio.root(None)
    save_model(studio.checkpoint, studio.model, {"root": str(tmp_path / "before")})
    with pytest.raises(UserError, match="was trained on .*/before, which is no folder here; give --root"):
        studio.root(None)
    (tmp_path / "before").mkdir()
    assert studio.root(None) == tmp_path / "before"


def test_collated_pairs_are_what_it_takes(studio, capture):
    # One frame alone, as the tests of photos and viewers have it.
    sequence = find_sequence(capture.root, studio.model.skeleton)
    item = choose_frames(sequence, studio.model.settings, interval=(2, 2))._load(2)
    assert studio.lift(collate([item])).shape == (1, len(NAMES), 3)
