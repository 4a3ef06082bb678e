import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from hvs import Camera, HumanViewSynthesis
from hvs.checkpoint import save_model
from hvs.inference import paths
from hvs.inference.film import SHEET_FRAMES, Shot, check_film, film, write_film
from hvs.inference.settings import Drawing
from hvs.inference.studio import Studio
from hvs.presets import PRESETS
from hvs.runtime import UserError

UP = torch.tensor([0.0, -1.0, 0.0])


@pytest.fixture
def settings(tmp_path):
    torch.manual_seed(0)
    save_model(tmp_path / "model.safetensors", HumanViewSynthesis(PRESETS["tiny"].model))
    return Drawing(checkpoint=tmp_path / "model.safetensors", out=tmp_path / "out", device="cpu", format="png")


@pytest.fixture
def studio(settings):
    return Studio(settings)


@pytest.fixture
def appearance(studio):
    return torch.randn(1, len(studio.model.skeleton.edges), studio.model.settings.appearance_features)


def shot(count: int, **more) -> Shot:
    points = 0.3 * torch.randn(count, 117, 3, generator=torch.Generator().manual_seed(count))
    camera = paths.look_at(torch.tensor([0.0, 0.0, -3.0]), torch.zeros(3), 1.0, UP, 32)
    return Shot(points, Camera.stack([camera] * count), **more)


def test_there_is_a_frame_for_every_pose(studio, appearance):
    frames = list(film(studio, [shot(3), shot(1)], appearance))
    assert len(frames) == 4 and all(frame.shape == (256, 256, 3) for frame in frames)
    assert not np.array_equal(frames[0], frames[1])


def test_panels_stand_around_what_is_drawn(studio, appearance):
    red, blue = torch.zeros(2, 3, 96, 96).unbind()
    red[0], blue[2] = 1, 1
    one = shot(2, before={"input": red[None]}, after={"target": blue.expand(2, -1, -1, -1)})
    first, second = film(studio, [one], appearance, panels=True)
    assert first.shape == (18 + 96, 5 * 100 - 4, 3)
    for frame in (first, second):
        assert frame[60, 48].tolist() == [255, 0, 0] and frame[60, 448].tolist() == [0, 0, 255]
    assert not np.array_equal(first[18:, 100:396], second[18:, 100:396])


def test_colours_of_the_latent_are_the_same_in_all_batches(studio, appearance):
    both, alone = shot(2), shot(2)
    together = list(film(studio, [both], appearance, panels=True))
    halves = [Shot(alone.points[i : i + 1], alone.camera[i : i + 1]) for i in range(2)]
    first = list(film(studio, [halves[0], halves[0]], appearance, panels=True))
    assert np.array_equal(first[0], first[1]) and len(together) == 2


def test_crops_are_shown_in_the_full_frame(studio, appearance):
    drawn = shot(1)
    full = Camera(drawn.camera.K[0], drawn.camera.R[0], drawn.camera.t[0], drawn.camera.distortion[0], 40, 60)
    crop = Camera.stack([full.crop(20, 4, 32, 32)])
    (frame,) = film(studio, [Shot(drawn.points, crop)], appearance, full=full)
    (alone,) = film(studio, [Shot(drawn.points, crop)], appearance)
    # Seven times enlarged, to 280 pixels in height.
    assert frame.shape == (280, 420, 3) and alone.shape == (256, 256, 3)
    colour = np.array(studio.model.skeleton.background)
    assert np.abs(frame[:, :100].astype(int) - colour).max() <= 1
    assert np.abs(frame[50:200, 160:340].astype(int) - colour).max() > 5


@pytest.mark.parametrize("count", [1, 5, 12, 13, 47, 48, 200])
def test_the_sheet_shows_frames_from_all_over(studio, settings, count):
    frames = (np.full((4, 6, 3), i, np.uint8) for i in range(count))
    folder, sheet = write_film(studio, frames, "some", settings)
    assert len(list(folder.iterdir())) == count
    with Image.open(sheet) as picture:
        shown = np.asarray(picture)[0, ::6, 0].tolist()
    assert len(shown) == min(count, SHEET_FRAMES) and shown[0] == 0
    gaps = np.diff([*shown, count])
    assert gaps.min() >= max(1, 0.5 * count / len(shown)) and gaps.max() <= 2 * max(1, count / len(shown)) + 1


@pytest.mark.parametrize(
    ("size", "shown"), [((720, 1280), (1280, 720)), ((1080, 1920), (1280, 720)), ((512, 512), (1536, 512))]
)
def test_the_sheet_of_large_frames_can_be_seen_at_a_glance(studio, settings, size, shown):
    frames = (np.full((*size, 3), i, np.uint8) for i in range(3))
    _, sheet = write_film(studio, frames, "some", settings)
    with Image.open(sheet) as picture:
        assert picture.size == shown


@pytest.mark.parametrize("kind", ["mp4", "png"])
def test_what_is_in_the_way_is_told_before_the_work(studio, settings, kind):
    settings = replace(settings, format=kind)
    check_film(studio, "turn", settings)
    for name in ("turn.png", "turn" if kind == "png" else "turn.mp4"):
        (studio.folder / name / "something").mkdir(parents=True)
        with pytest.raises(UserError, match=f"{name}: is .*in the way"):
            check_film(studio, "turn", settings)
        shutil.rmtree(studio.folder / name)
    given = studio.folder / ("turn/000001.png" if kind == "png" else "turn.mp4")
    given.parent.mkdir(exist_ok=True)
    given.touch()
    with pytest.raises(UserError, match="would replace"):
        check_film(studio, "turn", settings, [given])
