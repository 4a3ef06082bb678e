import math
import os
import resource
import shutil

import imageio.v2 as imageio
import numpy as np
import pytest
import torch
from PIL import Image

from hvs.data import DataError
from hvs.runtime import UserError, hidden_beside
from hvs.video import check_folder_of_frames, contact_sheet, enlarge, write_animation, write_video


def frame(value: int, height: int = 34, width: int = 48) -> np.ndarray:
    return np.full((height, width, 3), value, dtype=np.uint8)


@pytest.mark.parametrize("size", [(34, 48), (33, 47), (16, 16)], ids=str)
def test_a_video_has_its_frames_rate_and_an_even_size(tmp_path, size):
    values = [0, 100, 200, 50, 250]
    write_video(tmp_path / "out.mp4", (frame(value, *size) for value in values), fps=10)
    with imageio.get_reader(tmp_path / "out.mp4") as video:
        about = video.get_meta_data()
        frames = [np.asarray(image) for image in video]
    assert about["fps"] == 10 and about["pix_fmt"].startswith("yuv420p") and about["codec"] == "h264"
    assert [image.shape for image in frames] == [(size[0] // 2 * 2, size[1] // 2 * 2, 3)] * 5
    assert [image.mean() for image in frames] == pytest.approx(values, abs=4)
    assert [path.name for path in tmp_path.iterdir()] == ["out.mp4"]


def test_no_frames_leave_no_video(tmp_path):
    with pytest.raises(UserError, match="out.mp4: a video needs frames"):
        write_video(tmp_path / "out.mp4", [])
    assert not list(tmp_path.iterdir())


def test_a_video_that_fails_half_way_is_not_there(tmp_path):
    def frames():
        yield frame(1)
        raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        write_video(tmp_path / "out.mp4", frames())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("size", "wanted"), [((64, 32), (256, 128)), ((100, 100), (300, 300)), ((512, 640), (512, 640))]
)
def test_small_frames_are_enlarged(size, wanted):
    assert enlarge(frame(7, *size)).shape == (*wanted, 3)
    assert (enlarge(frame(7, *size)) == 7).all()


def test_contact_sheet():
    sheet = np.array(contact_sheet([frame(10 * i, 4, 6) for i in range(8)], columns=3))
    assert sheet.shape == (12, 18, 3)
    assert sheet[5, 7, 0] == 40 and sheet[9, 16, 0] == 255
    assert contact_sheet([frame(1, 4, 6)]).size == (6, 4)


@pytest.mark.parametrize(("count", "columns"), [(0, 6), (2, 0)])
def test_a_contact_sheet_of_nothing_is_refused(count, columns):
    with pytest.raises(ValueError, match=f"^frames, columns: got {count} and {columns}, wanted one of each or more$"):
        contact_sheet([frame(1)] * count, columns)


@pytest.mark.parametrize("fps", [24, 25, 30, 60])
@pytest.mark.parametrize("kind", ["gif", "webp"])
def test_animated_pictures_have_their_frames_and_take_their_time(tmp_path, kind, fps):
    values = [0, 100, 200, 50, 250] * 6
    path = write_animation(tmp_path / f"out.{kind}", (frame(value) for value in values), fps)
    with Image.open(path) as animation:
        assert animation.n_frames == 30
        times, found = [], []
        for i in range(30):
            animation.seek(i)
            animation.load()
            times.append(animation.info["duration"])
            found.append(np.asarray(animation.convert("RGB")).mean())
    assert sum(times) == pytest.approx(1000 * 30 / fps, abs=5)
    assert max(times) - min(times) <= 10
    assert found == pytest.approx(values, abs=3)
    assert [entry.name for entry in tmp_path.iterdir()] == [f"out.{kind}"]


def test_frames_are_a_folder_that_a_second_run_replaces(tmp_path):
    folder = write_animation(tmp_path / "out.png", [frame(1), frame(2), frame(3)])
    assert folder == tmp_path / "out"
    assert write_animation(tmp_path / "out.png", [frame(4)]) == folder
    assert [entry.name for entry in folder.iterdir()] == ["000000.png"]
    assert (np.asarray(Image.open(folder / "000000.png")) == 4).all()
    assert [entry.name for entry in tmp_path.iterdir()] == ["out"]


def test_frames_of_a_killed_process_of_the_same_number_are_not_kept(tmp_path):
    left = hidden_beside(tmp_path / "out")
    left.mkdir()
    (left / "000007.png").touch()
    folder = write_animation(tmp_path / "out.png", [frame(1)])
    assert [entry.name for entry in folder.iterdir()] == ["000000.png"]


def test_frames_that_are_replaced_are_never_there_in_part(tmp_path, monkeypatch):
    write_animation(tmp_path / "out.png", [frame(9)] * 3)
    remove, found = shutil.rmtree, []

    def remove_slowly(path, **options):
        for file in path.glob("*"):
            file.unlink()
            found.append(len(list((tmp_path / "out").iterdir())))
        remove(path, **options)

    monkeypatch.setattr(shutil, "rmtree", remove_slowly)
    write_animation(tmp_path / "out.png", [frame(1)] * 2)
    assert found == [2, 2, 2]
    assert [entry.name for entry in tmp_path.iterdir()] == ["out"]


def test_of_two_processes_that_write_the_same_frames_the_last_one_wins(tmp_path, monkeypatch):
    def frames():
        yield frame(1)
        with monkeypatch.context() as another:
            another.setattr(os, "getpid", lambda: 1)
            write_animation(tmp_path / "out.png", [frame(9)] * 3)
        yield frame(2)

    folder = write_animation(tmp_path / "out.png", frames())
    assert [np.asarray(Image.open(file)).mean() for file in sorted(folder.iterdir())] == [1, 2]
    assert [entry.name for entry in tmp_path.iterdir()] == ["out"]


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/thesis.txt").write_text("years of work")
    with pytest.raises(UserError, match="out: is in the way of a folder of frames, and is or holds something else"):
        write_animation(tmp_path / "out.png", [frame(4)])
    assert (tmp_path / "out/thesis.txt").exists()


def test_a_file_is_in_the_way_of_a_folder_of_frames(tmp_path):
    (tmp_path / "out").write_text("years of work")
    with pytest.raises(UserError, match="out: is in the way of a folder of frames"):
        write_animation(tmp_path / "out.png", [frame(4)])
    assert (tmp_path / "out").read_text() == "years of work"


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "results").touch()
    with pytest.raises(UserError, match="results: not a folder that can be written to"):
        write_animation(tmp_path / "results/out.png", [frame(4)])


@pytest.mark.parametrize("target", ["elsewhere", "nowhere"])
def test_a_link_is_in_the_way_of_a_folder_of_frames(tmp_path, target):
    """Neither can it be replaced as a folder can, nor is it known what else uses what it refers to."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / target)
    with pytest.raises(UserError, match="out: is in the way of a folder of frames"):
        check_folder_of_frames(tmp_path / "out")


def test_another_ending_is_refused(tmp_path):
    with pytest.raises(UserError, match="got the ending '.avi', wanted .mp4, .gif, .webp or .png"):
        write_animation(tmp_path / "out.avi", [frame(4)])


@pytest.mark.parametrize("kind", ["mp4", "gif", "webp", "png"])
def test_a_file_that_cannot_grow_is_an_error_that_names_it(tmp_path, kind):
    """As on a full disk: ffmpeg writes in a process of its own, whose failure nobody else would notice."""
    before = write_animation(tmp_path / f"out.{kind}", [frame(9)])
    content = (before / "000000.png" if kind == "png" else before).read_bytes()
    noise = np.random.default_rng(0).integers(0, 255, (8, 256, 256, 3), np.uint8)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        with pytest.raises((DataError, OSError), match=f"{tmp_path}/out"):
            write_animation(tmp_path / f"out.{kind}", noise)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [entry.name for entry in tmp_path.iterdir()] == [before.name]
    assert (before / "000000.png" if kind == "png" else before).read_bytes() == content


@pytest.mark.parametrize("kind", ["mp4", "gif", "webp", "png"])
def test_rates_and_sizes_that_cannot_be_are_refused(tmp_path, kind):
    for fps in (0, -1, math.inf):
        with pytest.raises(ValueError, match=f"^fps: got {fps}, wanted more than 0$"):
            write_animation(tmp_path / f"out.{kind}", [frame(1)], fps)
    with pytest.raises(
        ValueError, match=r"^frames: got one of shape \[20, 48, 3\] after \[34, 48, 3\], wanted one size"
    ):
        write_animation(tmp_path / f"out.{kind}", iter([frame(1), frame(1), frame(2, 20)]))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", ["mp4", "gif", "webp", "png"])
def test_what_fails_half_way_leaves_what_was_there(tmp_path, kind):
    def frames():
        yield frame(1)
        raise RuntimeError("half way")

    before = write_animation(tmp_path / f"out.{kind}", [frame(9)])
    content = (before / "000000.png" if kind == "png" else before).read_bytes()
    for broken, error in ((frames(), RuntimeError), ([], UserError)):
        with pytest.raises(error):
            write_animation(tmp_path / f"out.{kind}", broken)
    assert [entry.name for entry in tmp_path.iterdir()] == [before.name]
    kept = before / "000000.png" if kind == "png" else before
    assert (kept.read_bytes() == content) and content


@pytest.mark.parametrize("ending", ["mp4", "gif", "webp", "png"])
@pytest.mark.parametrize("wrong", ["float", "grey", "alpha", "tensor", "empty"])
def test_frames_that_are_not_bytes_of_three_colours_are_refused(tmp_path, ending, wrong):
    """ffmpeg would take their bytes for a video of noise."""
    one = frame(7)
    frames = dict(float=one / 255, grey=one[..., 0], alpha=one[..., [0, 1, 2, 0]], tensor=torch.from_numpy(one))
    frames["empty"] = one[:0]
    with pytest.raises(ValueError, match="frames: got .*, wanted NumPy arrays of uint8"):
        write_animation(tmp_path / f"out.{ending}", [frames[wrong]] * 2)
    assert not list(tmp_path.iterdir())


def test_a_path_may_be_text(tmp_path):
    assert write_animation(str(tmp_path / "out.gif"), [frame(1)]) == tmp_path / "out.gif"
    write_video(str(tmp_path / "out.mp4"), [frame(1)])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.gif", "out.mp4"]
