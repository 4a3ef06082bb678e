import json
import runpy
import shutil
import signal
import subprocess
import sys
import time
import weakref
from pathlib import Path

import imageio.v2 as imageio
import imageio_ffmpeg
import numpy as np
import pytest
import torch
from PIL import Image

import infer
from hvs import HumanViewSynthesis
from hvs.checkpoint import save_model
from hvs.inference.studio import Studio
from hvs.presets import PRESETS
from tests.captures import Capture
from tests.quick import narrow_encoders


def make_checkpoint(folder: Path, root: Path) -> Path:
    torch.manual_seed(0)
    path = folder / "runs" / "one" / "model.safetensors"
    path.parent.mkdir(parents=True)
    save_model(path, HumanViewSynthesis(PRESETS["tiny"].model), dict(root=str(root)))
    return path


@pytest.fixture
def narrow():
    with narrow_encoders():
        yield


@pytest.fixture
def checkpoint(narrow, tmp_path, capture):
    return make_checkpoint(tmp_path, capture.root)


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kept")
    with narrow_encoders():
        return make_checkpoint(folder, Capture(folder / "capture").write().root)


@pytest.fixture
def untouched(narrow, kept, infer_command, monkeypatch):
    """A checkpoint and its capture in the folder that commands run in, for all that leave both as they are."""
    folder = kept.parents[2]
    monkeypatch.chdir(folder)
    before = set(folder.rglob("*"))
    yield kept
    # Left there, it would hide that the next test leaves the same.
    for path in sorted(set(folder.rglob("*")) - before, reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()


@pytest.fixture
def command(infer_command):
    """With one step that refines an appearance, in place of many, in the modes that do."""

    def run(mode: str, *arguments: object) -> tuple[int, str]:
        few = ["--refine-steps", "1"] if mode in ("view", "orbit", "transfer") else []
        return infer_command(mode, *arguments, *few)

    return run


def read_video(path: Path) -> tuple[list[np.ndarray], float]:
    with imageio.get_reader(path) as video:
        return [np.asarray(frame) for frame in video], video.get_meta_data()["fps"]


def read_frames(folder: Path) -> list[np.ndarray]:
    return [np.asarray(Image.open(path)) for path in sorted(folder.iterdir())]


def test_orbit_makes_a_video_and_a_sheet_from_the_latest_run(checkpoint, infer_command):
    code, printed = infer_command("orbit", "--frames", "7", "--fps", "12", "--batch-size", "3")
    assert code == 0 and "orbit.mp4" in printed and "view 00, frame 3" in printed
    assert "bob" in printed  # who was never trained on
    frames, fps = read_video(checkpoint.parent / "orbit.mp4")
    assert fps == 12 and len(frames) == 7 and frames[0].shape == (256, 256, 3)
    assert any(np.abs(frames[0].astype(int) - frame).mean() > 1 for frame in frames[1:])
    with Image.open(checkpoint.parent / "orbit.png") as sheet:
        assert sheet.size == (6 * 256, 2 * 256)


def test_time_goes_on_in_a_moving_orbit(checkpoint, command):
    moving = "orbit", "--moving", "--interval", "2", "6", "--panels", "--batch-size", "2", "--format", "png"
    code, printed = command(*moving)
    assert code == 0 and "frames 2 to 6" in printed
    frames = read_frames(checkpoint.parent / "orbit")
    # input, keypoints, pose, latent, output: 96 pixels each, 4 between them.
    assert len(frames) == 5 and frames[0].shape == (96 + 18, 5 * 100 - 4, 3)
    # The capture's blue tells the frame.
    inputs = [frame[18 + 48, 48, 2].astype(int) for frame in frames]
    assert all(two > one for one, two in zip(inputs, inputs[1:], strict=False))


def test_a_moving_orbit_keeps_few_images_in_memory(checkpoint, command, monkeypatch):
    kept, counts, input_panels = weakref.WeakSet(), [], infer.input_panels

    def count(*arguments):
        panels = input_panels(*arguments)
        kept.add(panels["keypoints"])
        counts.append(len(kept))
        return panels

    monkeypatch.setattr(infer, "input_panels", count)
    moving = "orbit", "--moving", "--interval", "0", "7", "--panels", "--batch-size", "1", "--format", "png"
    assert command(*moving)[0] == 0
    assert len(counts) == 8 and max(counts) <= 2


def test_a_person_who_stands_still_is_shown_from_one_image(checkpoint, command):
    code, _ = command("orbit", "--panels", "--frames", "5", "--format", "png")
    frames = read_frames(checkpoint.parent / "orbit")
    assert code == 0 and len(frames) == 5
    assert all(np.array_equal(frame[:, :96], frames[0][:, :96]) for frame in frames)
    assert any(not np.array_equal(frame, frames[0]) for frame in frames)


def test_a_camera_at_a_fixed_place_sees_the_person_move(checkpoint, command):
    code, _ = command("orbit", "--eye", "0", "-1", "-5", "--focal", "50", "--interval", "0", "3", "--format", "gif")
    assert code == 0
    with Image.open(checkpoint.parent / "orbit.gif") as animation:
        assert animation.n_frames == 4


@pytest.mark.parametrize("moving", [False, True], ids=["frozen", "moving"])
def test_a_path_of_cameras_has_a_frame_for_each(checkpoint, command, tmp_path, moving):
    (tmp_path / "path.json").write_text(json.dumps([{"eye": [x, -1, -4]} for x in range(6)]))
    arguments = ["--moving", "--interval", "0", "3"] if moving else []
    code, _ = command("orbit", "--path", "path.json", "--format", "png", *arguments)
    assert code == 0 and len(list((checkpoint.parent / "orbit").iterdir())) == (4 if moving else 6)


def test_a_path_may_be_shorter_than_the_motion(checkpoint, command, tmp_path):
    (tmp_path / "path.json").write_text(json.dumps([{"eye": [x, -1, -4]} for x in range(3)]))
    code, _ = command("orbit", "--path", "path.json", "--format", "png", "--moving", "--panels")
    assert code == 0
    inputs = [frame[18 + 48, 48, 2] for frame in read_frames(checkpoint.parent / "orbit")]
    assert len(inputs) == 3 and inputs[0] < inputs[1] < inputs[2]


def test_cameras_too_far_away_to_show_anybody_are_told(checkpoint, tmp_path, monkeypatch, capsys):
    """As when a path is in millimetres: the pictures show nothing but the background."""
    monkeypatch.chdir(tmp_path)
    arguments = ["--device", "cpu", "--path", "path.json", "--format", "png", "--refine-steps", "1"]
    monkeypatch.setattr(sys, "argv", ["infer.py", "orbit", *arguments])
    for metres, noted in ((-20, False), (-4000, True)):
        Path("path.json").write_text(json.dumps([{"eye": [0, -1, metres]}]))
        infer.main()
        error = capsys.readouterr().err
        assert ("note: cameras are up to 400" in error) == noted and error.count("note:") == noted


def test_view_shows_what_the_other_camera_sees(checkpoint, command):
    code, printed = command("view", "--panels", "--format", "png", "--batch-size", "3")
    assert code == 0 and "frames 0 to 7, seen by 01" in printed
    frames = read_frames(checkpoint.parent / "view")
    assert len(frames) == 8 and frames[0].shape == (96 + 18, 6 * 100 - 4, 3)
    # The capture's blue tells view and frame; the target is the last panel.
    targets = [frame[18 + 48, 5 * 100 + 48].astype(int) for frame in frames]
    assert all(two[2] > one[2] for one, two in zip(targets, targets[1:], strict=False))
    inputs = [frame[18 + 48, 48].astype(int) for frame in frames]
    assert all(target[2] - given[2] > 10 for target, given in zip(targets, inputs, strict=True))


def test_view_places_the_crop_into_the_full_frame(checkpoint, command, capture):
    code, _ = command("view", "--target", "02", "--full-frame", "--format", "webp", "--interval", "1", "2")
    width, height = capture.size
    with Image.open(checkpoint.parent / "view.webp") as animation:
        # 64 pixels high, four times enlarged.
        assert code == 0 and animation.n_frames == 2 and animation.size == (4 * width, 4 * height)


def test_transfer_takes_the_looks_of_somebody_else(checkpoint, command, monkeypatch):
    encoded = []
    encode = Studio.encode
    monkeypatch.setattr(Studio, "encode", lambda self, *seen: encoded.append(seen[0]) or encode(self, *seen))
    code, printed = command("transfer", "--panels", "--appearance-frames", "3")
    assert code == 0 and "bob/Subsequences/0, view 00, frames 0 to 7" in printed and "looks of" in printed
    assert "ann/Subsequences/0" in printed.partition("looks of")[2]
    frames, _ = read_video(checkpoint.parent / "transfer.mp4")
    assert len(frames) == 8 and frames[0].shape == (96 + 18, 6 * 100 - 4, 3)
    # Once, of ann's test frames 6 and 7.
    assert [len(images) for images in encoded] == [2]


def test_the_looks_may_come_from_another_capture(checkpoint, command, capture, tmp_path):
    shutil.copytree(capture.root, tmp_path / "elsewhere")
    (tmp_path / "elsewhere/ann").rename(tmp_path / "elsewhere/eve")
    splits = (tmp_path / "elsewhere/splits.json").read_text().replace("ann/", "eve/")
    (tmp_path / "elsewhere/splits.json").write_text(splits)
    code, printed = command("transfer", "--person-root", "elsewhere", "--person", "eve/Subsequences/0")
    assert code == 0 and "elsewhere/eve" in printed


def test_without_others_a_capture_shows_its_own(checkpoint, command, capture):
    capture.entry["unknown"] = []
    capture.write_splits()
    for mode in ("orbit", "transfer"):
        code, printed = command(mode, "--interval", "6", "7")
        assert code == 0 and capture.names[0] in printed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--sequence", "nobody"], "sequence: got 'nobody', wanted one of ann/Subsequences/0, bob/Subsequences/0"),
        (["--sequence", ""], "sequence: got '', wanted one of ann/Subsequences/0, bob/Subsequences/0"),
        (["--view", "77"], "view: got '77', wanted one of 00, 01, 02"),
        (["--view", ""], "view: got '', wanted one of 00, 01, 02"),
        (["--interval", "90", "99"], "no frame of 90 to 99 has a person, its frames are 0 to 7"),
        (["--interval", "5", "3"], "interval: got 5 to 3, wanted the first frame and then the last one"),
        (["--fps", "0"], "fps: got 0, wanted 1 or more"),
        (["--fps", "60", "--format", "gif"], "fps: got 60, wanted at most 50 in gif"),
        (["--batch-size", "-2"], "batch_size: got -2, wanted 1 or more"),
        (["--appearance-frames", "0"], "appearance_frames: got 0, wanted 1 or more"),
        (["--root", "no/where"], "no/where: no such folder"),
        (["--checkpoint", "no/where.safetensors"], "no/where.safetensors: no such file"),
        (["--out", "runs/one/model.safetensors/x"], "runs/one/model.safetensors/x: not a folder that can be written"),
        (["--device", "warp9"], "device: got 'warp9'"),
    ],
    ids=lambda v: v[0] if isinstance(v, list) else "",
)
def test_bad_arguments_of_all_modes_end_with_one_line(untouched, command, arguments, message):
    before = sorted(untouched.parent.iterdir())
    code, error = command("view", *arguments)
    assert code == 2 and error.startswith("error: ") and message in error and error.count("\n") == 1
    assert sorted(untouched.parent.iterdir()) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["view", "--target", "77"], "target: got '77', wanted one of 00, 01, 02"),
        (["view", "--target", ""], "target: got '', wanted one of 00, 01, 02"),
        (["orbit", "--frames", "0"], "frames: got 0, wanted 1 or more"),
        (["orbit", "--elevation", "90"], "elevation: got 90.0, wanted between -90 and 90 degrees"),
        (["orbit", "--focal", "-1"], "focal: got -1.0, wanted between 4 and 4000 mm"),
        (["orbit", "--focal", "nan"], "focal: got nan, wanted between 4 and 4000 mm"),
        (["orbit", "--eye", "nan", "0", "0"], "eye: got (nan, 0.0, 0.0), wanted metres, less than 10000 each"),
        (
            ["orbit", "--eye", "0", "0", "9", "--target", "1e30", "0", "0"],
            "target: got (1e+30, 0.0, 0.0), wanted metres",
        ),
        (["orbit", "--target", "0", "0", "0"], "target: got one without an eye to look from"),
        (["orbit", "--path", "a.json", "--eye", "0", "0", "0"], "path, eye: got both, wanted one of them"),
        (["orbit", "--path", "no.json"], "no.json: cannot be read (No such file"),
        (["orbit", "--eye", "1", "2", "3", "--target", "1", "2", "3"], "eye: got the place it is to look at"),
        (["transfer", "--person", "nobody"], "person: got 'nobody', wanted one of ann/"),
        (["transfer", "--person-view", "77"], "person_view: got '77'"),
        (["transfer", "--person-view", ""], "person_view: got '', wanted one of 00, 01, 02"),
        (["transfer", "--target", ""], "target: got '', wanted one of 00, 01, 02"),
        (["transfer", "--person-interval", "90", "99"], "person_interval: "),
        (["transfer", "--person-root", "no/where"], "no/where: no such folder"),
    ],
    ids=lambda v: " ".join(v) if isinstance(v, list) else "",
)
def test_bad_arguments_of_a_mode_end_with_one_line(untouched, command, arguments, message):
    before = sorted(untouched.parent.iterdir())
    code, error = command(*arguments)
    # A bar may have been there before.
    (line,) = [line for line in error.split("\n") if line.startswith("error: ")]
    assert code == 2 and message in line and error.endswith(line + "\n")
    assert sorted(untouched.parent.iterdir()) == before


@pytest.mark.parametrize("mode", ["view", "orbit", "transfer"])
def test_what_is_in_the_way_is_told_before_the_work(checkpoint, command, mode, monkeypatch):
    monkeypatch.setattr(Studio, "lift", lambda *_: pytest.fail("began to work"))
    (checkpoint.parent / f"{mode}.png").mkdir()
    code, error = command(mode)
    assert code == 2 and f"{mode}.png: is a folder" in error and error.count("\n") == 1


def test_a_path_is_read_before_the_work(checkpoint, command, tmp_path, monkeypatch):
    monkeypatch.setattr(Studio, "lift", lambda *_: pytest.fail("began to work"))
    (tmp_path / "path.json").write_text('[{"eyes": [0, 0, 1]}]')
    code, error = command("orbit", "--path", "path.json")
    assert code == 2 and "path.json: camera 0: got 'eyes', wanted" in error and error.count("\n") == 1


def test_nobody_in_the_image_is_told(checkpoint, command, capture):
    def nowhere(view: int, frame: int) -> torch.Tensor:
        label = capture.keypoint_label(view, frame)
        label[:, 2] = 0 if view == 0 else 1
        return label

    capture.write_keypoints(capture.names[1], 0, nowhere)
    code, error = command("orbit")
    assert code == 2 and "bob/Subsequences/0: view 00: 8 frames: nobody is in the image" in error
    code, error = command("view")
    assert code == 2 and "nobody is in the image" in error
    assert not (checkpoint.parent / "view.mp4").exists()
    code, _ = command("view", "--view", "01", "--target", "02")
    assert code == 0


def test_a_broken_image_is_named(checkpoint, command, capture):
    from hvs.data.stores import write_store

    file = capture.databases(capture.names[1]) / "Images" / "00.lmdb"
    write_store(file, ((frame, b"no picture") for frame in capture.frames))
    code, error = command("orbit")
    assert code == 2 and "00.lmdb: frame 3" in error and error.count("\n") == 1
    assert not (checkpoint.parent / "orbit.mp4").exists()


def test_without_ffmpeg_other_formats_are_left(checkpoint, command, monkeypatch):
    def missing() -> str:
        raise RuntimeError("No ffmpeg exe could be found.")

    monkeypatch.setattr(imageio_ffmpeg, "get_ffmpeg_exe", missing)
    code, error = command("orbit", "--frames", "3")
    assert code == 2 and "orbit.mp4: cannot be written, ffmpeg is missing" in error
    assert not (checkpoint.parent / "orbit.mp4").exists()
    assert command("orbit", "--frames", "3", "--format", "webp")[0] == 0


def test_a_film_that_a_scheduler_stops_leaves_nothing_behind(tmp_path, capture):
    """What it has written so far is in a hidden folder next to the film."""
    checkpoint = make_checkpoint(tmp_path, capture.root)
    folder = checkpoint.parent
    program = Path(infer.__file__)
    process = subprocess.Popen(
        [sys.executable, program, "orbit", "--checkpoint", checkpoint, "--frames", "3000"],
        stderr=subprocess.PIPE,
        text=True,
    )
    while not list(folder.glob(".*.orbit.mp4")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    error = process.communicate()[1]
    assert process.returncode == 130 and error.endswith("interrupted\n") and "Traceback" not in error
    assert list(folder.iterdir()) == [checkpoint]


@pytest.mark.parametrize("option", ["--frmaes 3", "--frames many"])
def test_a_wrong_option_names_the_help_that_explains_it(capsys, option):
    with pytest.raises(SystemExit) as stop:
        infer.parse_settings(["orbit", *option.split()])
    said = capsys.readouterr().err
    assert stop.value.code == 2 and option.split()[0] in said and "infer.py orbit --help" in said


def test_a_signal_that_was_to_be_ignored_stays_ignored(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["infer.py", "--help"])
    before = signal.getsignal(signal.SIGTERM)
    try:
        for told, heeded in ((signal.SIG_IGN, signal.SIG_IGN), (signal.SIG_DFL, signal.default_int_handler)):
            signal.signal(signal.SIGTERM, told)
            with pytest.raises(SystemExit):
                runpy.run_path(infer.__file__, run_name="__main__")
            assert signal.getsignal(signal.SIGTERM) is heeded
    finally:
        signal.signal(signal.SIGTERM, before)


def test_without_a_model_it_says_how_to_get_one(command):
    for mode in ("orbit", "view", "transfer"):
        code, error = command(mode)
        assert code == 2 and "no trained model yet; run python train.py" in error


def test_a_capture_of_another_skeleton_is_refused(human36m, tmp_path, command):
    path = tmp_path / "model.safetensors"
    save_model(path, HumanViewSynthesis(PRESETS["tiny"].model))
    code, error = command("orbit", "--checkpoint", str(path))
    assert code == 2 and "give --root" in error
    code, error = command("orbit", "--checkpoint", str(path), "--root", str(human36m.root))
    assert code == 2 and "is a human36m capture, but the model's skeleton is panoptic" in error


@pytest.mark.parametrize("mode", ["view", "orbit", "transfer", "photo", "viewer", "shapes", "poses", "fit"])
def test_several_processes_do_not_write_the_same_file(untouched, command, monkeypatch, mode):
    folder = untouched.parents[2]
    before = sorted(folder.rglob("*"))
    monkeypatch.setenv("WORLD_SIZE", "2")
    picture = ["me.png"] if mode == "photo" else []
    monkeypatch.setenv("RANK", "1")
    assert command(mode, *picture) == (0, "")
    monkeypatch.setenv("RANK", "0")
    code, error = command(mode, *picture)
    assert code == 2 and error == f"error: {mode}: got 2 processes, wanted one; only evaluate shares its work\n"
    assert sorted(folder.rglob("*")) == before


def test_only_modes_that_draw_one_picture_after_the_other_can_be_compiled(capsys):
    """Scores come from the same computation as those of a training."""
    for mode in ("view", "orbit", "transfer", "viewer"):
        assert infer.parse_settings([mode, "--compile"]).compile
    with pytest.raises(SystemExit):
        infer.parse_settings(["evaluate", "--compile"])
    assert "--compile" in capsys.readouterr().err
