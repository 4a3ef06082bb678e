from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image

from hvs.data import find_sequences
from hvs.data.stores import pack_label, write_store
from hvs.geometry.skeletons import HUMAN36M, PANOPTIC
from hvs.inference.poses import Poses, camera_in_front, choose_frame, choose_poses, close_up, draw_pose, limb_colours
from hvs.inference.shapes import PAPER
from hvs.pictures import GAP, PART_COLOURS
from hvs.runtime import UserError
from tests.data.plain.conftest import PlainCapture

CPU = torch.device("cpu")
# A person who stands upright in a world with z up, faces -y, and raises the left hand: of Human3.6M's joints.
STANDING = torch.tensor(
    [
        (0.0, 0, 1), (-0.1, 0, 1), (-0.1, 0, 0.5), (-0.1, 0, 0), (0.1, 0, 1), (0.1, 0, 0.5), (0.1, 0, 0), (0, 0, 1.2),
        (0, 0, 1.45), (0, 0, 1.6), (0, 0, 1.75), (0.2, 0, 1.4), (0.3, 0, 1.6), (0.3, 0, 1.8), (-0.2, 0, 1.4),
        (-0.25, 0, 1.15), (-0.25, 0, 0.9),
    ]
)  # fmt: skip


@pytest.fixture
def command(infer_command, capture):
    return partial(infer_command, "poses", "--root", capture.root)


def test_random_poses_of_all_people(command, tmp_path):
    code, printed = command("--count", "6", "--size", "96")
    assert code == 0 and printed.count("frame") == 6 and "ann" in printed and "bob" in printed
    with Image.open(tmp_path / "runs/shapes/poses.png") as picture:
        assert picture.size == (4 * 96 + 3 * GAP, 2 * 96 + GAP)
    assert [path.name for path in (tmp_path / "runs/shapes").iterdir()] == ["poses.png"]


def test_chosen_frames_by_a_camera_of_the_capture_have_its_images_above(command, tmp_path, capture):
    code, printed = command("--frames", "5", "2", "--view", "01", "--size", "96", "--out", "poses.png")
    assert code == 0 and "frame 5" in printed.splitlines()[0] and "frame 2" in printed.splitlines()[1]
    with Image.open(tmp_path / "poses.png") as picture:
        assert picture.size == (2 * 96 + GAP, 2 * 96 + GAP)
        image, limbs = np.split(np.asarray(picture)[:, :96], [96])
    background = capture.layout.skeleton.background
    assert np.abs(image[0, 0] - np.array(background)).max() <= 1
    assert (np.abs(limbs[-1, 0] / 255 - PAPER) < 0.02).all()


def test_no_more_poses_than_there_are(command):
    code, printed = command("--count", "50", "--sequence", "bob/Subsequences/0", "--size", "16")
    assert code == 0 and printed.count("frame") == 8 and "ann" not in printed


def test_the_same_seed_chooses_the_same_poses(capture):
    def chosen(seed: int) -> list[tuple[str, int]]:
        found = choose_poses(Poses(root=capture.root, count=4, seed=seed))
        return [(seen.sequence.name, seen.frame) for seen in found]

    assert chosen(0) == chosen(0) == sorted(chosen(0)) and len({tuple(chosen(seed)) for seed in range(4)}) > 1


def chosen_of_bob(capture, **settings):
    return [seen.frame for seen in choose_poses(Poses(root=capture.root, sequence=capture.names[1], **settings))]


def test_random_frames_are_those_that_the_view_has_and_sees_somebody_in(capture):
    name = capture.names[1]

    def outside(view, frame):
        label = capture.keypoint_label(view, frame)
        return torch.full_like(label, -1e4) if frame in (2, 3) else label

    # Of images, frames 0 to 5; nobody is seen in two of them, and of one more nothing is known.
    capture.write_view(name, 1, range(6), outside)
    unknown = capture.with_confidence(torch.zeros_like(capture.world[4]))
    unknown[:, -1] = 0
    labels = [unknown if frame == 4 else capture.with_confidence(capture.world[frame]) for frame in capture.frames]
    items = ((frame, pack_label(label)) for frame, label in enumerate(labels))
    write_store(capture.databases(name) / capture.layout.points, items)
    assert chosen_of_bob(capture, view="01", count=8) == [0, 1, 5]
    assert all(len(chosen_of_bob(capture, view="01", count=2, seed=seed)) == 2 for seed in range(5))
    assert chosen_of_bob(capture, count=8) == [0, 1, 2, 3, 5, 6, 7]
    for frame, message in (
        (6, "frames: got 6, wanted one of 0 to 5 of .*, view 01"),
        (2, "frame 2, view 01: nobody is in the image"),
        (4, "frame 4: all joints are unknown"),
    ):
        with pytest.raises(UserError, match=message):
            chosen_of_bob(capture, view="01", frames=(frame,))


def test_without_any_frame_to_be_seen_it_says_why(capture):
    name = capture.names[1]
    capture.write_keypoints(name, 1, lambda view, frame: torch.full_like(capture.keypoint_label(view, frame), -1e4))
    with pytest.raises(UserError, match=r"frame \d, view 01: nobody is in the image"):
        chosen_of_bob(capture, view="01")
    capture.write_view(name, 1, [])
    with pytest.raises(UserError, match="view 01: no frame has a 3D pose, image, mask and keypoints"):
        chosen_of_bob(capture, view="01")


def test_the_virtual_camera_stands_before_the_person_and_sees_all_of_them(human36m):
    sequence = find_sequences(human36m.root, "all")[0]
    camera = camera_in_front(STANDING, torch.ones(17, dtype=torch.bool), sequence, 64)
    pixels = camera.project(STANDING)
    assert (pixels > 0).all() and (pixels < 63).all()
    joint = HUMAN36M.joints.index
    eye = camera.position
    assert eye[1] < -2 and eye[2] > 1
    # A raised left hand is above the head, and on the right of who is looked at from before.
    assert pixels[joint("LWrist"), 0] > pixels[joint("RWrist"), 0] + 5
    assert pixels[joint("LWrist"), 1] < pixels[joint("Head"), 1] < pixels[joint("LFoot"), 1]


def test_limbs_of_unknown_joints_are_left_out(human36m):
    sequence = find_sequences(human36m.root, "all")[0]
    valid = torch.ones(17, dtype=torch.bool)
    settings = Poses(size=64, alpha=0.2)
    camera = camera_in_front(STANDING, valid, sequence, 64)
    whole = draw_pose(STANDING, valid, camera, HUMAN36M, settings, CPU)
    hand = HUMAN36M.joints.index("LWrist")
    valid[hand] = False
    unknown = torch.where(valid[:, None], STANDING, 0.0)
    part = draw_pose(unknown, valid, camera, HUMAN36M, settings, CPU)
    x, y = camera.project((STANDING[hand] + STANDING[hand - 1])[None] / 2)[0].round().int().tolist()
    paper = torch.tensor(PAPER)
    assert (whole[:, y, x] - paper).abs().max() > 0.1 > 0.02 > (part[:, y, x] - paper).abs().max()
    # Without shoulders nobody knows where the front is, and somebody with one known joint is one point.
    valid[:] = False
    valid[0] = True
    camera = camera_in_front(unknown, valid, sequence, 64)
    assert camera.R.isfinite().all()
    nothing = draw_pose(unknown, valid, camera, HUMAN36M, settings, CPU)
    torch.testing.assert_close(nothing, paper[:, None, None].expand(3, 64, 64), rtol=0, atol=1e-6)


def test_colours_tell_limbs_or_parts():
    by_part = limb_colours(PANOPTIC, "part")
    assert len(by_part) == len(PANOPTIC.edges)
    assert {tuple(round(255 * v) for v in colour) for colour in by_part} == set(PART_COLOURS.values())
    by_limb = limb_colours(PANOPTIC, "limb")
    body = [tuple(colour) for colour, same in zip(by_limb, by_part, strict=True) if colour != same]
    assert len(set(body)) == len(body) == sum(max(edge) < 19 for edge in PANOPTIC.edges)
    assert len({tuple(colour) for colour in limb_colours(HUMAN36M, "limb")}) == len(HUMAN36M.edges)


def test_a_frame_is_the_middle_one_or_one_that_is_there(capture):
    sequence = find_sequences(capture.root, "all")[0]
    assert choose_frame(sequence, None) == 4 and choose_frame(sequence, 7) == 7
    with pytest.raises(UserError, match="frame: got 8, wanted one of 0 to 7"):
        choose_frame(sequence, 8)


def test_close_up_changes_a_copy(capture):
    sequence = find_sequences(capture.root, "all")[0]
    assert close_up(sequence).layout.crop_side is None and sequence.layout.crop_side == 1080


def test_a_capture_of_plain_files_is_drawn_for_its_cameras_too(infer_command, tmp_path):
    plain = PlainCapture(tmp_path / "plain").write()
    code, printed = infer_command("poses", "--root", plain.root, "--frames", "2", "--view", "01", "--size", "96")
    assert code == 0 and "frame 2" in printed
    with Image.open(tmp_path / "runs/shapes/poses.png") as picture:
        assert picture.size == (96, 2 * 96 + GAP)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--count", "0"], "count: got 0, wanted 1 to 1000"),
        (["--seed", "-1"], "seed: got -1, wanted 0 to 4294967295"),
        (["--alpha", "1e300"], "alpha: got 1e+300, wanted 1e-06 to 1000"),
        (["--size", "5000"], "size: got 5000, wanted 1 to 1024"),
        (["--alpha", "-1"], "alpha: got -1.0"),
        (["--root", "no/where"], "no/where: no such folder"),
        (["--sequence", "nobody"], "sequence: got 'nobody', wanted one of ann/Subsequences/0, bob/Subsequences/0"),
        (["--frames", "3", "99"], "frames: got 99, wanted one of 0 to 7"),
        (["--view", "77"], "view: got '77', wanted one of 00, 01, 02"),
        (["--out", "poses.gif"], "out: got poses.gif, wanted a name that ends in .png"),
    ],
    ids=lambda v: v[0] if isinstance(v, list) else "",
)
def test_bad_arguments_end_with_one_line(command, tmp_path, arguments, message):
    code, error = command("--size", "16", *arguments)
    assert code == 2 and error.startswith("error: ") and message in error and error.count("\n") == 1
    assert not list(tmp_path.rglob("poses.*"))
