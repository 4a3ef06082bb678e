from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image
from plyfile import PlyData

from hvs.export import visible_scales
from hvs.geometry import Camera, rotation_about_axis
from hvs.geometry.rotations import rotate
from hvs.inference.cloud import Cloud, Corrections
from hvs.inference.fit import Shots, load_shots, look_up, optimise, start
from hvs.inference.poses import open_capture
from hvs.runtime import UserError
from tests.inference.toys import GREY, ring, toy

CPU = torch.device("cpu")


@torch.no_grad()
def shoot(cloud: Cloud, cameras: Camera) -> Shots:
    count = len(cameras.t)
    images = cloud(cameras, cameras.rays())
    return Shots(images, torch.ones_like(images[:, :1]), cameras, [f"{view:02d}" for view in range(count)])


@torch.no_grad()
def perturb(cloud: Cloud, by: float) -> Cloud:
    random = torch.Generator().manual_seed(1)
    for values in (cloud.means, cloud.quaternions, cloud.log_scales, cloud.logits):
        values += by * torch.randn(values.shape, generator=random)
    return cloud


@pytest.fixture
def command(infer_command, capture):
    return partial(infer_command, "fit", "--root", capture.root)


def camera_error(found: Camera, true: Camera) -> tuple[float, float]:
    """Mean angle in radians and mean distance in metres, of worlds laid upon one another: only cameras relative to
    others can be told from images."""
    left, _, right = torch.linalg.svd((found.R.mT @ true.R).sum(0))
    world = left @ right
    cosine = ((found.R @ world @ true.R.mT).diagonal(dim1=1, dim2=2).sum(1) - 1) / 2
    eyes, wanted = (camera.position for camera in (found, true))
    distance = (eyes - eyes.mean(0)) @ world - (wanted - wanted.mean(0))
    return cosine.clamp(-1, 1).acos().mean().item(), distance.norm(dim=-1).mean().item()


def test_a_perturbed_cloud_finds_back_to_the_images():
    shots = shoot(toy(), ring())
    cloud, losses = perturb(toy(), 0.05), []
    torch.manual_seed(0)
    optimise(cloud, shots, 150, watch=lambda step, loss: losses.append(loss.item()))
    assert len(losses) == 150 and np.mean(losses[-5:]) < np.mean(losses[:5]) / 8
    # From where no camera stood, too.
    other = ring(7)
    expected = shoot(toy(), other).images
    before = (shoot(perturb(toy(), 0.05), other).images - expected).abs().mean()
    after = (shoot(cloud, other).images - expected).abs().mean()
    assert after < before / 3


def test_perturbed_cameras_are_found_again():
    true = ring()
    shots = shoot(toy(), true)
    turned = torch.tensor([0.0, 0.02, -0.02, 0.015, -0.015, 0.02])  # the first one holds the world
    turns = rotation_about_axis(torch.tensor([0.0, 0.6, 0.8]), turned)
    t = rotate(turns, true.t[:, None])[:, 0] + 0.01 * turned.sign()[:, None] * torch.tensor([1.0, -0.5, 0.5])
    wrong = replace(shots, cameras=replace(true, R=turns @ true.R, t=t))
    cloud, corrections, losses = perturb(toy(), 0.03), Corrections(wrong.cameras), []
    torch.manual_seed(0)
    optimise(cloud, wrong, 250, corrections, watch=lambda step, loss: losses.append(loss.item()))
    before, after = camera_error(wrong.cameras, true), camera_error(corrections.corrected(wrong.cameras), true)
    assert after[0] < before[0] / 5 and after[1] < before[1] / 2.5
    assert np.mean(losses[-5:]) < np.mean(losses[:5]) / 50
    torch.testing.assert_close(corrections.corrected(wrong.cameras).t[0], true.t[0])


def test_what_a_point_looks_like_is_the_pixel_it_is_seen_in():
    cameras = ring(3, 16)
    ramp = torch.arange(16.0).expand(16, -1)
    images = torch.stack((ramp, ramp.mT)).expand(3, -1, -1, -1)
    points = torch.tensor([[0.0, 0, 0], [0.1, -0.2, 0.15], [9.0, 9, 9]])
    found = look_up(images, cameras, points)
    torch.testing.assert_close(found[:, :2], cameras.project(points[:2].expand(3, -1, -1)), rtol=0, atol=1e-4)
    assert (found[:, 2] == 0).all()


def test_the_first_gaussians_lie_in_the_hull_of_the_masks():
    cameras = ring(6, 64)
    inside = torch.zeros(1, 1, 64, 64)
    inside[..., 24:40, 24:40] = 1
    images = torch.where(inside > 0, torch.tensor([0.9, 0.1, 0.2])[:, None, None], 0.5).expand(6, -1, -1, -1)
    shots = Shots(images, inside.expand(6, -1, -1, -1), cameras, list("abcdef"))
    torch.manual_seed(0)
    cloud = start(shots, torch.tensor([[-0.3, -0.3, -0.3], [0.3, 0.3, 0.3]]), GREY, 50)
    pixels = cameras.project(cloud.means.detach().expand(6, -1, -1))
    assert len(cloud.means) == 50 and (pixels > 23).all() and (pixels < 40).all()
    assert (cloud.logits.sigmoid() - torch.tensor([0.9, 0.1, 0.2])).abs().mean() < 0.05
    with pytest.raises(UserError, match="masks: no place in space lies within all of them"):
        start(replace(shots, masks=torch.zeros_like(shots.masks)), torch.zeros(2, 3), GREY, 50)


def test_a_fit_of_a_capture_leaves_a_picture_and_the_gaussians(command, tmp_path):
    arguments = ("--count", "30", "--steps", "25", "--size", "32", "--frame", "2", "--out", "new/fit")
    code, printed = command(*arguments)
    assert code == 0 and "held-out view 01" in printed and "2 views fitted to" in printed and "frame 2" in printed
    assert sorted(path.name for path in (tmp_path / "new/fit").iterdir()) == ["fit.npz", "fit.ply", "fit.png"]
    with Image.open(tmp_path / "new/fit/fit.png") as sheet:
        assert sheet.width == 3 * 96 + 2 * 4 and sheet.height > 3 * 96
    found = np.load(tmp_path / "new/fit/fit.npz")
    assert found["means"].shape == found["scales"].shape == found["colours"].shape == (30, 3)
    assert (found["scales"] > 0).all()
    vertices = PlyData.read(tmp_path / "new/fit/fit.ply")["vertex"]
    drawn = np.exp(np.stack([vertices[f"scale_{axis}"] for axis in range(3)], 1))
    # Not as wide as before the background alone.
    np.testing.assert_allclose(drawn, visible_scales(torch.from_numpy(found["scales"]), 0.025, 5.0), rtol=1e-5)
    product = found["rotations"] @ found["rotations"].swapaxes(1, 2)
    np.testing.assert_allclose(product, np.broadcast_to(np.eye(3), (30, 3, 3)), atol=1e-5)
    scores = [float(line.split()[-4]) for line in printed.splitlines() if "dB" in line and "view" in line]
    assert command(*arguments)[1] == printed and all(np.isfinite(scores))


def test_what_was_fitted_before_an_interrupt_is_kept(command, tmp_path, monkeypatch):
    def interrupt(step, _):
        if step == 5:
            raise KeyboardInterrupt

    monkeypatch.setattr("hvs.inference.fit.optimise", partial(optimise, watch=interrupt))
    arguments = ("--count", "20", "--size", "32")
    code, printed = command(*arguments, "--out", "stopped")
    assert code == 0 and "held-out view 01" in printed
    assert sorted(path.name for path in (tmp_path / "stopped").iterdir()) == ["fit.npz", "fit.ply", "fit.png"]
    monkeypatch.setattr("hvs.inference.fit.optimise", lambda *_: None)
    command(*arguments, "--out", "begun")
    assert not np.array_equal(*(np.load(tmp_path / name / "fit.npz")["means"] for name in ("stopped", "begun")))


def test_cameras_are_refined_on_request(command, tmp_path):
    code, printed = command("--count", "20", "--steps", "10", "--size", "32", "--refine-cameras", "--held-out", "00")
    assert code == 0 and "held-out view 00" in printed and "cameras turned by" in printed
    assert {"view", "R", "t"} <= set(np.load(tmp_path / "runs/fit/fit.npz"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--count", "0"], "count: got 0, wanted 1 to 20000"),
        (["--steps", "0"], "steps: got 0, wanted 1 to"),
        (["--seed", "-1"], "seed: got -1, wanted 0 to 4294967295"),
        (["--size", "9999"], "size: got 9999, wanted 16 to 1024"),
        (["--size", "1"], "size: got 1, wanted 16 to 1024"),
        (["--root", "no/where"], "no/where: no such folder"),
        (["--sequence", "nobody"], "sequence: got 'nobody', wanted one of ann/Subsequences/0"),
        (["--frame", "99"], "frame: got 99, wanted one of 0 to 7"),
        (["--held-out", "77"], "held_out: got '77', wanted one of 00, 01, 02"),
        (["--held-out", ""], "held_out: got '', wanted one of 00, 01, 02"),
        (["--device", "warp9"], "device: got 'warp9'"),
        (["--out", "file/fit"], "file/fit: not a folder that can be written to"),
    ],
    ids=lambda v: v[0] if isinstance(v, list) else "",
)
def test_bad_arguments_end_with_one_line(command, tmp_path, arguments, message):
    (tmp_path / "file").write_text("in the way")
    code, error = command("--size", "16", "--steps", "1", *arguments)
    assert code == 2 and error.startswith("error: ") and message in error and error.count("\n") == 1
    assert not list(tmp_path.rglob("fit.*"))


def test_a_folder_in_the_place_of_a_result_is_told_before_the_fit(command, tmp_path, monkeypatch):
    monkeypatch.setattr("hvs.inference.fit.optimise", lambda *_: pytest.fail("began to fit"))
    (tmp_path / "out/fit.ply").mkdir(parents=True)
    code, error = command("--size", "16", "--steps", "1", "--out", "out")
    assert code == 2 and "error: out/fit.ply: is a folder" in error


def test_a_view_without_the_frame_is_left_out(capture):
    capture.views = [*capture.views, "03"]
    capture.cameras.append(capture.cameras[0])
    capture.entry["views"] = capture.views
    capture.write_splits()
    for name in capture.names:
        capture.write_cameras(name)
        capture.write_view(name, 3, frames=[0, 1])
    sequence = open_capture(capture.root)[0]
    assert [load_shots(sequence, frame, 16, CPU)[0].names[-1] for frame in (1, 2)] == ["03", "02"]


def test_two_views_are_too_few(capture):
    capture.views = capture.views[:2]
    capture.entry["views"] = capture.views
    capture.write_splits()
    with pytest.raises(UserError, match="frame 0: 2 views see anybody, wanted at least 3"):
        load_shots(open_capture(capture.root)[0], 0, 16, CPU)
