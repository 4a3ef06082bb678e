import numpy as np
import pytest
import torch
from PIL import Image

from hvs.data import DataError, find_sequences
from hvs.data.ffmpeg import write_frames
from hvs.data.layouts import MASKS
from hvs.data.preparation import prepare_human36m, prepare_panoptic
from hvs.data.preparation.databases import Clip
from hvs.data.preparation.masks import GivenMasks, Segmentation, Silhouette, choose_source
from hvs.geometry import Camera
from tests.captures import broken_profile


def dark(image):
    """A segmentation for tests."""
    assert image.dtype == torch.float32 and image.shape[0] == 3 and image.min() >= 0 and image.max() <= 1
    return image.mean(0, keepdim=True) < 0.5


def wrong_shape(image):
    return image


def failing(image):
    raise RuntimeError("no\nweights")


@pytest.fixture
def camera():
    return Camera(torch.eye(3), torch.eye(3), torch.zeros(3), torch.zeros(5), 20, 30)


def given(folder, clip, camera):
    return dict(GivenMasks(folder).frames(clip, "recording", "07", camera))


def test_pictures_are_found_by_their_number(tmp_path, camera):
    folder = tmp_path / "recording" / "07"
    folder.mkdir(parents=True)
    mask = np.zeros((20, 30), np.uint8)
    mask[5:9] = 1
    Image.fromarray(255 * mask).save(folder / "frame_00000010.png")
    Image.fromarray(255 * mask).convert("RGB").save(folder / "11.jpg", quality=95)
    # Many tools write 0 and 1, or one bit.
    Image.fromarray(mask).save(folder / "00012.png")
    Image.fromarray(mask.astype(bool)).save(folder / "view07_13.PNG")
    (folder / "notes 14.txt").write_text("")
    found = given(tmp_path, Clip(tmp_path, "s", "panoptic", 10, 5), camera)
    assert found.pop(4) == "no mask"
    assert list(found) == [0, 1, 2, 3]
    for made in found.values():
        assert made.dtype == np.uint8 and np.array_equal(made, 255 * mask)


def test_two_pictures_of_a_frame_are_refused(tmp_path, camera):
    folder = tmp_path / "recording" / "07"
    folder.mkdir(parents=True)
    # As macOS leaves them behind.
    for name in ("10.png", "._10.png", "mask_0010.jpg"):
        Image.new("L", (30, 20)).save(folder / name)
    with pytest.raises(DataError, match="07: two files of frame 10, 10.png and mask_0010.jpg"):
        given(tmp_path, Clip(tmp_path, "s", "panoptic", 10, 1), camera)


def test_colours_of_a_palette_are_no_mask(tmp_path, camera):
    """Which of them is the person, nobody can tell; a mask of none would be taken for nobody."""
    folder = tmp_path / "recording" / "07"
    folder.mkdir(parents=True)
    picture = Image.fromarray(np.eye(20, 30, dtype=np.uint8), "P")
    picture.putpalette([0, 0, 0, 128, 0, 0])
    picture.save(folder / "00010.png")
    with pytest.raises(DataError, match="00010.png: no value of the mask is above 38, wanted 0 and 255, or 0 and 1"):
        given(tmp_path, Clip(tmp_path, "s", "panoptic", 10, 1), camera)
    # A shadow among masks is nobody.
    Image.fromarray(np.full((20, 30), 255, np.uint8)).save(folder / "00011.png")
    found = given(tmp_path, Clip(tmp_path, "s", "panoptic", 10, 2), camera)
    assert found[0] == "empty mask" and found[1].all()


def test_masks_may_be_a_video(tmp_path, camera):
    masks = [np.full((20, 30, 3), 255 * (i % 2), np.uint8) for i in range(8)]
    write_frames(tmp_path / "recording" / "07.mp4", masks, "50")
    found = given(tmp_path, Clip(tmp_path, "s", "panoptic", 3, 4), camera)
    assert list(found) == [0, 1, 2, 3] and [mask.all() for mask in found.values()] == [1, 0, 1, 0]
    with pytest.raises(DataError, match="07.mp4: has 8 frames, but its view has at least 9"):
        given(tmp_path, Clip(tmp_path, "s", "panoptic", 3, 6), camera)


def test_noise_of_a_lossy_mask_is_nobody(tmp_path, camera):
    """What a person who has left leaves behind."""
    folder = tmp_path / "recording" / "07"
    folder.mkdir(parents=True)
    for frame, value in enumerate((255, 1)):
        Image.new("L", (30, 20), value).save(folder / f"{frame}.jpg", quality=100)
        assert np.asarray(Image.open(folder / f"{frame}.jpg")).max() == value
    found = given(tmp_path, Clip(tmp_path, "s", "panoptic", 0, 2), camera)
    assert found[0].all() and not found[1].any()


def test_broken_and_missing_masks_are_named(tmp_path, camera):
    clip, folder = Clip(tmp_path, "s", "panoptic", 0, 1), tmp_path / "recording" / "07"
    with pytest.raises(DataError, match="07: no masks of this view"):
        given(tmp_path, clip, camera)
    folder.mkdir(parents=True)
    for broken in (b"\x89PNG", broken_profile()):
        (folder / "0.png").write_bytes(broken)
        with pytest.raises(DataError, match="0.png: not a readable PNG or JPEG"):
            given(tmp_path, clip, camera)
    Image.new("L", (20, 30)).save(folder / "0.png")
    with pytest.raises(DataError, match="0.png: is 20x30, its view 30x20"):
        given(tmp_path, clip, camera)


def test_frames_without_a_mask_are_dropped_and_counted(raw_copy, tmp_path):
    raw = raw_copy("panoptic-raw")
    folder = raw / "masks/subject1_pose1/01"
    (folder / "00000002.png").unlink()
    Image.new("L", (128, 72)).save(folder / "00000004.png")
    summary = prepare_panoptic(raw, tmp_path / "out", masks=raw / "masks", workers=1)
    clip = Clip(tmp_path / "out", "subject1_pose1/Subsequences/0", "panoptic", 0, 6)
    assert clip.store(MASKS, "01").frames == [0, 1, 3, 5]
    assert "1 masks: empty mask" in summary and "1 masks: no mask" in summary
    assert "      3       6   6      18  18     16" in summary


def test_a_segmentation_of_the_users_makes_masks(raw_copy, tmp_path):
    raw = raw_copy("panoptic-raw")
    summary = prepare_panoptic(raw, tmp_path / "out", segment=f"{__name__}:dark", workers=1)
    assert f"masks: segmentation: {__name__}:dark" in summary
    clip = Clip(tmp_path / "out", "subject1_pose1/Subsequences/0", "panoptic", 0, 6)
    assert clip.store(MASKS, "00").frames


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("wrong_shape", r"returned a mask of shape \[3, 72, 128\], wanted \[72, 128\]"),
        ("failing", "RuntimeError: no weights"),
    ],
)
def test_a_segmentation_that_fails_is_named(name, message, raw_copy, tmp_path):
    with pytest.raises(DataError, match=f"Images/00.lmdb: frame 0: {__name__}:{name}.*{message}"):
        prepare_panoptic(raw_copy("panoptic-raw"), tmp_path / "out", segment=f"{__name__}:{name}", workers=1)


@pytest.mark.parametrize("dataset", ["panoptic", "human36m"])
def test_the_outline_of_the_limbs_is_about_the_person(dataset, raw_copy, sample, tmp_path):
    raw, out = raw_copy(f"{dataset}-raw"), tmp_path / "out"
    {"panoptic": prepare_panoptic, "human36m": prepare_human36m}[dataset](raw, out, workers=1)
    wanted = find_sequences(sample(dataset), "known")[0]
    name = "subject1_pose1/Subsequences/0" if dataset == "panoptic" else "S1/Sequences/Walking"
    clip = Clip(out, name, dataset, 0, 6)
    for view in wanted.views:
        for frame, mask in Silhouette().frames(clip, "", view, wanted.camera(view).to(torch.float64)):
            a, b = mask > 0, np.asarray(wanted.mask(view, frame)) > 0
            assert (a & b).sum() / (a | b).sum() > 0.5


def test_the_source_is_chosen_before_any_work(tmp_path):
    assert isinstance(choose_source(None, None), Silhouette)
    assert isinstance(choose_source(tmp_path, None), GivenMasks)
    assert choose_source(None, f"{__name__}:dark") == Segmentation(f"{__name__}:dark")
    for masks, segment, message in (
        (tmp_path, "a:b", "^masks, segment: got both"),
        (tmp_path / "no", None, "no: no such folder of masks"),
        (None, "nothing", "^segment: got 'nothing', wanted module:function"),
        (None, "no_such_module:f", r"^segment: cannot import no_such_module:f \(ModuleNotFoundError"),
        (None, "math:no_such", r"^segment: cannot import math:no_such \(AttributeError"),
        (None, "math:pi", "^segment: math:pi is a float, wanted a function"),
    ):
        with pytest.raises(DataError, match=message):
            choose_source(masks, segment)
