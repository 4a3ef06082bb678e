import json
import re
from functools import partial

import imageio.v2 as imageio
import numpy as np
import pytest
import torch
from PIL import Image

from hvs import HumanViewSynthesis
from hvs.checkpoint import save_model
from hvs.inference import paths
from hvs.inference.body import to_human36m
from hvs.inference.canvas import to_crop
from hvs.inference.photo import RING_FOCAL, Photo, read_portrait
from hvs.inference.placing import UP
from hvs.inference.snapshot import EXIF_FOCAL_35MM, EXIF_TABLE
from hvs.models import ModelSettings
from hvs.presets import PRESETS
from hvs.runtime import UserError
from tests.inference.figures import FlatLifter, body_25, body_135, figure, whole_body, write

WIDTH, HEIGHT = 320, 240
HUMAN36M = ModelSettings(**{**PRESETS["tiny"].model.__dict__, "skeleton": "human36m"})


def take_picture(folder, width=WIDTH, height=HEIGHT):
    """Red rises with x, green with y."""
    y, x = np.mgrid[:height, :width]
    pixels = np.stack((255 * x / width, 255 * y / height, np.full_like(x, 99)), -1).astype(np.uint8)
    Image.fromarray(pixels).save(folder / "me.png")
    return folder / "me.png"


@pytest.fixture
def picture(tmp_path):
    write(tmp_path / "me.json", body_135(figure()))
    return take_picture(tmp_path)


@pytest.fixture(scope="module")
def tiny():
    torch.manual_seed(0)
    return HumanViewSynthesis(PRESETS["tiny"].model).eval()


@pytest.fixture
def model(tiny, monkeypatch):
    monkeypatch.setattr(
        HumanViewSynthesis, "lift", lambda self, *given: FlatLifter(root=self.skeleton.root).lift(*given)
    )
    return tiny


def joint(model, points, name):
    return points[..., model.skeleton.joints.index(name), :]


def seen_from(portrait, side):
    """The pose in the pictures of an orbit's first camera, a quarter further, ..."""
    ring = paths.orbit(portrait.points, portrait.camera, torch.tensor(UP), 4, 64)
    return ring[side : side + 1].project(portrait.points)


FORMATS = {"BODY_135": body_135, "BODY_25": body_25, "COCO-WholeBody": whole_body}


@pytest.mark.parametrize("content", FORMATS.values(), ids=FORMATS)
def test_a_raised_left_hand_stays_left(picture, model, content):
    """The person faces the camera, so their left is on the picture's right."""
    write(picture.with_suffix(".json"), content(figure()))
    portrait = read_portrait(Photo(image=picture), model)
    for side, sign in ((0, 1), (2, -1)):
        pixels = seen_from(portrait, side)
        left, right, nose = (joint(model, pixels, name)[0] for name in ("LWrist", "RWrist", "Nose"))
        assert left[1] < nose[1] < right[1]
        assert sign * (left[0] - nose[0]) > 3 and sign * (nose[0] - right[0]) > 3
    if content is not body_25:
        thumb = joint(model, seen_from(portrait, 0), "LThumb4FingerTip")[0]
        assert (thumb - joint(model, seen_from(portrait, 0), "LWrist")[0]).norm() < 8


def test_the_pose_is_where_the_picture_shows_it(picture, model):
    portrait = read_portrait(Photo(image=picture), model)
    body = slice(0, 17)
    pixels = portrait.full.project(portrait.points)
    assert torch.allclose(pixels[0, body], portrait.keypoints[0, body], atol=1.0)
    assert torch.allclose(pixels[0, body], torch.tensor(figure()[body, :2]).float(), atol=1.0)


def test_the_turn_is_as_near_as_the_person_needs_not_as_the_photographer_stood(picture, model):
    sizes = []
    for focal in (20.0, 200.0):
        portrait = read_portrait(Photo(image=picture, focal=focal, height=1.7), model)
        ring = paths.orbit(portrait.points, portrait.camera, torch.tensor(UP), 1, 64, 0.0, RING_FOCAL)
        away = ring.to_camera(portrait.points)[0, :17, 2].mean().item()
        assert 2.0 < away < 4.5
        sizes.append(away)
    assert sizes[0] == pytest.approx(sizes[1], rel=0.05)


@pytest.mark.parametrize("focal", [20.0, 35.0, 100.0])
def test_who_is_as_large_with_a_longer_lens_is_farther_away(picture, model, focal):
    near = read_portrait(Photo(image=picture, focal=35.0), model)
    far = read_portrait(Photo(image=picture, focal=focal), model)
    depths = [joint(model, portrait.points, "Sternum")[0, 2].item() for portrait in (near, far)]
    assert depths[1] / depths[0] == pytest.approx(focal / 35, rel=0.1)
    assert far.full.K[0, 0].item() == pytest.approx(focal / 36 * WIDTH)


def test_who_is_far_away_is_drawn_from_nearby_with_a_shorter_lens(picture, model):
    """The rasteriser shows nobody at 300 m, so there would be nothing to refine an appearance by."""
    portrait = read_portrait(Photo(image=picture, focal=3000.0, height=1.7), model)
    assert re.search(r"1\.70 m tall, 2\d\d\.\d m away, focal length 3000 mm", portrait.told)
    sternum = joint(model, portrait.points, "Sternum")
    assert 14 < sternum[0, 2] < 16
    body = slice(5, 17)
    for camera, keypoints in (
        (portrait.full, portrait.keypoints),
        (portrait.camera, to_crop(portrait.keypoints, portrait.full, portrait.camera)),
    ):
        assert torch.allclose(camera.project(portrait.points)[0, body], keypoints[0, body], atol=1.0)


def test_a_known_height_sets_the_depth(picture, model):
    # The figure is 1.7 m tall at 100 pixels per metre.
    portrait = read_portrait(Photo(image=picture, height=1.7), model)
    focal = portrait.full.K[0, 0].item()
    assert joint(model, portrait.points, "Sternum")[0, 2].item() == pytest.approx(focal / 100, rel=0.05)
    taller = read_portrait(Photo(image=picture, height=1.87), model)
    assert torch.allclose(taller.points, 1.1 * portrait.points, rtol=1e-4)
    assert "1.87 m tall" in taller.told


def test_exif_knows_the_focal_length(picture, model):
    exif = Image.Exif()
    # Pillow writes none at all with nothing beside the table.
    exif[0x0112] = 1
    exif.get_ifd(EXIF_TABLE)[EXIF_FOCAL_35MM] = 70
    Image.open(picture).convert("RGB").save(picture, exif=exif)
    assert "focal length 70 mm" in read_portrait(Photo(image=picture), model).told
    assert "focal length 50 mm" in read_portrait(Photo(image=picture, focal=50.0), model).told
    # No lens has that.
    exif.get_ifd(EXIF_TABLE)[EXIF_FOCAL_35MM] = 65535
    Image.open(picture).convert("RGB").save(picture, exif=exif)
    assert "focal length 35 mm" in read_portrait(Photo(image=picture), model).told


def test_the_crop_shows_the_person_on_the_models_background(picture, model):
    portrait = read_portrait(Photo(image=picture), model)
    image, side = portrait.image[0], model.settings.input_resolution
    assert image.shape == (3, side, side)
    background = torch.tensor(model.skeleton.background) / 255
    assert torch.allclose(image[:, 0, 0], background) and torch.allclose(image[:, -1, -1], background)
    # The chest has the colour that the picture has there.
    chest = portrait.camera.project(joint(model, portrait.points, "Sternum")[:, None])[0, 0].round().int()
    x, y = figure()[5:7, :2].mean(0)
    wanted = torch.tensor([x / WIDTH, y / HEIGHT, 99 / 255]).float()
    assert torch.allclose(image[:, chest[1] + 1, chest[0]], wanted, atol=0.05)
    # A capture's crop is 1080 of 1920 pixels wide, and the lifter's frame 4.4 m.
    low, high = portrait.camera.project(portrait.points)[0, :17].aminmax(dim=0)
    assert 0.6 * side < (high - low)[1] < 0.95 * side


def test_a_close_up_is_surrounded_by_background(tmp_path, model):
    body = figure(400.0, (160.0, 760.0))
    picture = take_picture(tmp_path)
    keypoints = write(tmp_path / "me.json", body_135(body))
    portrait = read_portrait(Photo(image=picture, keypoints=keypoints), model)
    assert not joint(model, portrait.seen[..., None], "LAnkle").any()
    background = torch.tensor(model.skeleton.background)[:, None, None] / 255
    foreign = (portrait.image[0] - background).abs().amax(0) > 1e-3
    rows, columns = torch.where(foreign)
    side = model.settings.input_resolution
    assert foreign.any() and rows.min() > 0 and rows.max() < side - 1 and columns.max() - columns.min() < side / 2
    assert portrait.points.isfinite().all()


def test_a_large_picture_gives_the_same_crop_as_a_small_one(tmp_path, model):
    images = []
    for factor in (1, 6):
        folder = tmp_path / str(factor)
        folder.mkdir()
        picture = take_picture(folder, factor * WIDTH, factor * HEIGHT)
        write(folder / "me.json", body_135(figure(100.0 * factor, (160.0 * factor, 225.0 * factor))))
        images.append(read_portrait(Photo(image=picture), model))
    assert (images[0].image - images[1].image).abs().mean() < 0.02
    assert torch.allclose(images[0].points, images[1].points, atol=0.02)


def test_a_mask_and_transparency_take_the_place_of_the_drawn_one(picture, model):
    drawn = read_portrait(Photo(image=picture), model)
    assert "mask drawn from the keypoints" in drawn.told
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[100:200, 140:180] = 255
    Image.fromarray(mask).save(picture.with_name("mask.png"))
    given = read_portrait(Photo(image=picture, mask=picture.with_name("mask.png")), model)
    assert "mask" not in given.told and not torch.equal(given.image, drawn.image)
    cut = Image.open(picture).convert("RGB")
    cut.putalpha(Image.fromarray(mask))
    cut.save(picture)
    transparent = read_portrait(Photo(image=picture), model)
    assert "mask" not in transparent.told and torch.equal(transparent.image, given.image)


@pytest.mark.parametrize("factor", [1, 3], ids=["small", "reduced"])
def test_what_is_outside_the_mask_does_not_blend_into_the_person(tmp_path, model, factor, monkeypatch):
    """A red person on nothing: under transparent pixels there may be any colour."""
    monkeypatch.setattr("hvs.inference.photo.REDUCED", 1)
    keypoints = write(tmp_path / "me.json", body_135(figure(100.0 * factor, (160.0 * factor, 225.0 * factor))))
    y, x = np.mgrid[: HEIGHT * factor, : WIDTH * factor] / factor
    alpha = (abs(x - 160) + abs(y - 120) / 2 < 50).astype(np.uint8)
    images = []
    for hidden in ((0, 255, 0), (0, 0, 255)):
        colours = np.where(alpha[..., None], (200, 0, 0), hidden).astype(np.uint8)
        Image.fromarray(np.dstack((colours, 255 * alpha))).save(tmp_path / "me.png")
        images.append(read_portrait(Photo(image=tmp_path / "me.png", keypoints=keypoints), model).image[0])
    assert torch.equal(*images)
    background = torch.tensor(model.skeleton.background)[:, None, None] / 255
    person = (images[0] - background).abs().amax(0) > 1e-3
    wanted = torch.tensor([200 / 255, 0, 0])[:, None].expand(-1, int(person.sum()))
    assert person.any() and torch.allclose(images[0][:, person], wanted, atol=2 / 255)


@pytest.mark.parametrize("content", [*FORMATS.values(), "rows"], ids=[*FORMATS, "17 rows"])
def test_a_human36m_model_takes_them_all(picture, model, content):
    model = HumanViewSynthesis(HUMAN36M).eval()
    body = figure()
    written = to_human36m(body).tolist() if content == "rows" else content(body)
    write(picture.with_suffix(".json"), written)
    portrait = read_portrait(Photo(image=picture), model)
    pixels = seen_from(portrait, 0)
    left, right, head = (joint(model, pixels, name)[0] for name in ("LWrist", "RWrist", "Head"))
    assert left[0] > head[0] > right[0] and left[1] < head[1] < right[1]
    assert portrait.seen.all()


def test_17_rows_are_not_enough_for_a_panoptic_model(picture, model):
    write(picture.with_suffix(".json"), to_human36m(figure()).tolist())
    with pytest.raises(UserError, match="17 joints of Human3.6M"):
        read_portrait(Photo(image=picture), model)


def test_a_model_with_joints_of_its_own_is_refused(picture):
    own = {**PRESETS["tiny"].model.__dict__, "joints": ("Sternum", "b", "c"), "limbs": ((0, 1, 0.1), (1, 2, 0.1))}
    with pytest.raises(UserError, match="joints of its own"):
        read_portrait(Photo(image=picture), HumanViewSynthesis(ModelSettings(**own)))


# The command.


@pytest.fixture(scope="module")
def checkpoint(tiny, tmp_path_factory):
    file = tmp_path_factory.mktemp("run") / "model.safetensors"
    save_model(file, tiny)
    return file


@pytest.fixture
def command(infer_command, checkpoint, model):
    return partial(infer_command, "photo", "--checkpoint", checkpoint)


@pytest.mark.parametrize("panels", [False, True], ids=["plain", "panels"])
def test_the_command_makes_a_video_and_a_sheet(command, picture, tmp_path, panels):
    arguments = ["--panels"] if panels else []
    code, printed = command(
        picture, "--frames", 5, "--batch-size", 2, "--fps", 12, "--out", tmp_path / "out", *arguments
    )
    assert code == 0 and "photo.mp4" in printed and "mask drawn from the keypoints" in printed
    with imageio.get_reader(tmp_path / "out" / "photo.mp4") as video:
        frames = [np.asarray(frame) for frame in video]
        assert video.get_meta_data()["fps"] == 12
    assert len(frames) == 5 and all(size % 2 == 0 for size in frames[0].shape[:2])
    assert any(np.abs(frames[0].astype(int) - frame).mean() > 0.5 for frame in frames[1:])
    assert (tmp_path / "out" / "photo.png").exists()


BAD_KEYPOINTS = {
    "no such file": (None, "keypoints: no me.json next to the picture"),
    "empty file": ("", "me.json: not a readable JSON file"),
    "empty object": ({}, "me.json: no keypoints, not keypoints in a known format"),
    "empty list": ([], "me.json: nobody for me.png"),
    "no people": ({"people": []}, "me.json: nobody for me.png"),
    "26 joints": ({"people": [{"pose_keypoints_2d": [1.0] * 78}]}, "me.json: 26 joints in pose_keypoints_2d"),
    "134 joints": ([{"keypoints": [[1.0, 1.0]] * 134, "keypoint_scores": [1.0] * 134}], "me.json: 134 joints"),
    "17 rows": ([[1.0, 2.0, 1.0]] * 17, "17 joints of Human3.6M, but the model's skeleton is panoptic"),
    "nobody sure": (
        body_135(figure() * (1, 1, 0.2)),
        "no joint inside the picture of 320x240 has a confidence above 0.25",
    ),
    "elsewhere": (body_135(figure() + (1000, 0, 0)), "no joint inside the picture of 320x240"),
    "not numbers": (body_135(figure() * np.nan), "no joint inside the picture"),
    "face alone": (body_135(figure() * (np.arange(135) < 5)[:, None]), "no shoulder or no limb of the body was seen"),
    "one shoulder": (body_135(figure() * (np.arange(135) == 5)[:, None]), "no shoulder or no limb"),
    "two joints": (body_135(figure() * np.isin(range(135), (5, 6))[:, None]), "too few joints to tell where"),
    "one place": (body_135(figure(0.0, (9.0, 9.0)) * (np.arange(135) < 17)[:, None]), "no shoulder or no limb"),
}


@pytest.mark.parametrize(("content", "message"), BAD_KEYPOINTS.values(), ids=BAD_KEYPOINTS)
def test_bad_keypoints_end_with_one_line(command, picture, tmp_path, content, message):
    file = picture.with_suffix(".json")
    file.unlink()
    if content is not None:
        file.write_text(content if isinstance(content, str) else json.dumps(content))
    check_refused(command(picture, "--out", tmp_path / "out"), message, tmp_path / "out")


def check_refused(result, message, folder):
    code, error = result
    assert code == 2 and error.startswith("error: ") and message in error and error.count("\n") == 1, error
    assert not folder.is_dir() or not list(folder.iterdir())


BAD_ARGUMENTS = {
    "folder": (["."], "image: got ., wanted the file of a picture"),
    "no picture": (["no.png"], "no.png: cannot be read"),
    "text": (["me.json"], "me.json: not a readable picture"),
    "no mask": (["me.png", "--mask", "no.png"], "no.png: cannot be read"),
    "small mask": (["me.png", "--mask", "small.png"], "small.png is 5x5, its image 320x240"),
    "black mask": (["me.png", "--mask", "black.png"], "black.png: nothing is white"),
    "mask elsewhere": (["me.png", "--mask", "corner.png"], "corner.png: the mask has nothing where the keypoints are"),
    "focal": (["me.png", "--focal", "0"], "focal: got 0.0, wanted between 4 and 4000 mm"),
    "centimetres": (["me.png", "--height", "175"], "height: got 175.0, wanted between 0.3 and 3 metres"),
    "no number": (["me.png", "--height", "nan"], "height: got nan, wanted between"),
    "frames": (["me.png", "--frames", "0"], "frames: got 0, wanted 1 or more"),
    "elevation": (["me.png", "--elevation", "90"], "elevation: got 90.0, wanted between -90 and 90 degrees"),
    "out": (["me.png", "--out", "me.json"], "me.json: not a folder that can be written to"),
    "checkpoint": (["me.png", "--checkpoint", "no.safetensors"], "no.safetensors: no such file"),
}


@pytest.mark.parametrize(("arguments", "message"), BAD_ARGUMENTS.values(), ids=BAD_ARGUMENTS)
def test_bad_arguments_end_with_one_line(command, picture, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    Image.new("L", (5, 5), 255).save("small.png")
    Image.new("L", (WIDTH, HEIGHT)).save("black.png")
    corner = Image.new("L", (WIDTH, HEIGHT))
    corner.putpixel((0, 0), 255)
    corner.save("corner.png")
    out = [] if "--out" in arguments else ["--out", "out"]
    check_refused(command(*arguments, *out), message, tmp_path / "out")
    assert not (tmp_path / "photo.mp4").exists()


@pytest.mark.parametrize(
    ("name", "option", "kind"),
    [
        ("photo.png", None, "mp4"),
        ("photo.png", "--mask", "mp4"),
        ("photo.png", "--keypoints", "mp4"),
        ("photo.webp", None, "webp"),
        ("photo/000000.png", None, "png"),
    ],
    ids=str,
)
def test_what_is_read_is_not_replaced(command, picture, tmp_path, name, option, kind):
    own = tmp_path / name
    own.parent.mkdir(exist_ok=True)
    content = picture.read_bytes()
    own.write_bytes(content)
    given = [picture, option, own] if option else [own, "--keypoints", picture.with_suffix(".json")]
    code, error = command(*given, "--out", tmp_path, "--format", kind)
    assert code == 2 and f"would replace {own}, which is read" in error and error.count("\n") == 1
    assert own.read_bytes() == content
