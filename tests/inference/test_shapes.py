from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image

from hvs.inference.shapes import PAPER, SHAPES, Shapes, choose_device, contours, draw, shade_depth
from hvs.pictures import GAP, heat
from hvs.runtime import UserError

CPU = torch.device("cpu")


@pytest.fixture
def command(infer_command):
    return partial(infer_command, "shapes")


def drawn(what: str, **settings) -> list[torch.Tensor]:
    settings = Shapes(size=96, **settings)
    return draw(SHAPES[what](settings), settings, CPU)


def test_all_shapes_are_one_picture_of_three_columns(command, tmp_path):
    code, printed = command("--size", "96", "--count", "20")
    file = tmp_path / "runs/shapes/all.png"
    assert code == 0 and "runs/shapes/all.png" in printed
    assert [path.name for path in file.parent.iterdir()] == ["all.png"]
    with Image.open(file) as picture:
        assert picture.width == 3 * 96 + 2 * GAP and picture.height > 5 * 96
        colours = np.asarray(picture)
    # No two rows show the same.
    rows = [colours[18 + row * (96 + GAP) :][:96, :96] for row in range(5)]
    assert all((rows[i] != rows[j]).any() for i in range(5) for j in range(i))


@pytest.mark.parametrize("what", SHAPES)
def test_a_shape_lies_in_the_middle_before_its_background(command, tmp_path, what):
    code, _ = command("--what", what, "--size", "96", "--out", str(tmp_path / "new/one.PNG"))
    assert code == 0 and (tmp_path / "new/one.PNG").exists()
    colour, _, depth = drawn(what)
    paper = torch.tensor(PAPER)
    assert (colour[:, 0, 0] - paper).abs().max() < 0.02
    assert (colour[:, 40:56, 40:56].mean((1, 2)) - paper).abs().max() > 0.2
    assert torch.stack([v.isfinite().all() for v in (colour, depth)]).all()


def test_a_sphere_falls_off_evenly_to_all_sides():
    settings = Shapes(size=65)
    colour = draw(SHAPES["sphere"](settings), settings, CPU)[0]
    green = colour[1]
    # Coral has less green than paper.
    assert (green[32, 32:].diff() >= -1e-5).all() and green[32, 64] - green[32, 32] > 0.4
    torch.testing.assert_close(green, green.mT, rtol=0, atol=1e-5)
    torch.testing.assert_close(green, green.flip(0), rtol=0, atol=1e-5)


def test_the_nearer_of_two_spheres_hides_the_other():
    settings = Shapes(size=96)
    means, rotations, scales, colours = SHAPES["two-spheres"](settings)
    near = 0 if means[0, 2] < means[1, 2] else 1
    # Both on the axis, in whichever order.
    means = means * torch.tensor([0.0, 0.0, 1.0])
    for order in ([0, 1], [1, 0]):
        colour, _, _ = draw((means[order], rotations, scales[order], colours[order]), settings, CPU)
        distance = (colour[:, 48, 48] - colours).norm(dim=1)
        assert distance[near] < 0.5 * distance[1 - near]


@pytest.mark.parametrize("what", ["spheres", "ellipsoids"])
@pytest.mark.parametrize("count", [1, 2, 3000])
def test_any_number_fills_the_picture_and_stays_inside(what, count):
    colour = drawn(what, count=count)[0]
    touched = (colour - torch.tensor(PAPER)[:, None, None]).abs().amax(0) > 0.2
    rows, columns = touched.nonzero().unbind(1)
    assert touched.float().mean() > 0.03
    assert min(rows.min(), columns.min()) >= 1 and max(rows.max(), columns.max()) <= 94


def test_the_same_seed_is_the_same_picture_and_another_is_not():
    one, two, other = (drawn("spheres", count=20, seed=seed)[0] for seed in (0, 0, 1))
    assert torch.equal(one, two) and (one - other).abs().max() > 0.1


def test_radius_and_alpha_make_it_larger():
    def covered(**settings) -> float:
        return drawn("sphere", **settings)[0][1].lt(0.7).float().mean().item()

    assert covered(radius=0.5) < covered(radius=1.0) < covered(radius=1.0, alpha=0.1)


def test_backends_agree():
    for what in SHAPES:
        settings = Shapes(size=32, count=10, backend="reference")
        expected = draw(SHAPES[what](settings), settings, CPU)[0]
        settings = Shapes(size=32, count=10, backend="torch")
        torch.testing.assert_close(draw(SHAPES[what](settings), settings, CPU)[0], expected, rtol=0, atol=1e-4)


def test_contours_are_where_the_coverage_passes_a_tenth():
    coverage = torch.linspace(0.05, 0.95, 91).expand(3, -1)
    darker = (contours(coverage) < 0.9 * heat(coverage)).any(0)
    assert darker.sum() == 3 * 9 and not darker[:, 80:84].any() and not contours(torch.zeros(4, 4)).isnan().any()


def test_depth_of_one_plane_or_of_nothing_is_one_colour():
    for coverage in (torch.ones(4, 4), torch.zeros(4, 4)):
        shaded = shade_depth(2 * coverage, coverage)
        assert shaded.isfinite().all() and (shaded - shaded[:, :1, :1]).abs().max() == 0
    near, far = shade_depth(torch.tensor([[1.0, 3.0]]), torch.ones(1, 2)).mean(0)[0]
    assert near > far


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--count", "0"], "count: got 0, wanted 1 to 1000000"),
        (["--count", "-3"], "count: got -3"),
        (["--size", "0"], "size: got 0, wanted 1 to 4096"),
        (["--size", "100000"], "size: got 100000, wanted 1 to 4096"),
        (["--radius", "0"], "radius: got 0.0, wanted 0.0001 to 100"),
        (["--radius", "nan"], "radius: got nan, wanted 0.0001 to 100"),
        (["--alpha", "inf"], "alpha: got inf, wanted 1e-06 to 1000"),
        (["--seed", "-1"], "seed: got -1, wanted 0 to 4294967295"),
        (["--device", "warp9"], "device: got 'warp9'"),
        (["--out", "picture.jpg"], "out: got picture.jpg, wanted a name that ends in .png"),
        (["--out", "folder.png"], "folder.png: is a folder, which is in the way"),
        (["--out", "file/picture.png"], "file: not a folder that can be written to"),
    ],
    ids=lambda v: " ".join(v) if isinstance(v, list) else "",
)
def test_bad_arguments_end_with_one_line(command, tmp_path, arguments, message):
    (tmp_path / "file").write_text("in the way")
    (tmp_path / "folder.png").mkdir()
    code, error = command("--what", "sphere", "--size", "16", *arguments)
    assert code == 2 and error.startswith("error: ") and message in error and error.count("\n") == 1
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "folder.png"]


def test_a_backend_that_is_not_there_is_the_users_to_mend():
    assert choose_device(Shapes(device="cpu", backend="torch")) == CPU
    with pytest.raises(UserError, match="backend: got 'warp', wanted one of auto"):
        choose_device(Shapes(device="cpu", backend="warp"))  # type: ignore[arg-type]
