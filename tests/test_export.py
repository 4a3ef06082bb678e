import math
import resource
import subprocess
import sys

import numpy as np
import pytest
import torch
from plyfile import PlyData
from torch import nn
from torch.nn import functional as F

from hvs import Camera, HumanViewSynthesis
from hvs.checkpoint import load, save_model
from hvs.export import COEFFICIENTS, HARMONIC, export_model, feature_colours, main, save_ply, visible_scales
from hvs.pictures import latent_to_rgb
from hvs.presets import PRESETS
from hvs.runtime import run_command

WITHOUT_HVS = """
import sys, torch
lift = torch.export.load(sys.argv[1] + "/lift.pt2").module()
assert lift(torch.rand(3, 117, 2), torch.ones(3, 117, dtype=torch.bool), torch.full((3, 2), 100.0)).shape == (3, 117, 3)
try:
    torch.export.load(sys.argv[1] + "/render.pt2")
except Exception:  # of whatever kind, for want of an operator that hvs registers
    print("hvs" in sys.modules)
else:
    print("loaded")
"""


def covariance(rotations, scales):
    return rotations @ torch.diag_embed(scales.square()) @ rotations.mT


def distance(offset, rotations, scales):
    """Squared, of Mahalanobis, [N]."""
    return (torch.linalg.solve(covariance(rotations, scales), offset) * offset).sum(-1)


def from_quaternion(q):
    w, x, y, z = q.unbind(-1)
    rows = (
        (1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        (2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        (2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    )
    return torch.stack([torch.stack(row, -1) for row in rows], -2)


@pytest.fixture
def gaussians():
    """Some whose quaternion has one component only, and one whose frame is mirrored."""
    generator = torch.Generator().manual_seed(0)
    signs = ((1, 1, 1), (1, -1, -1), (-1, 1, -1), (-1, -1, 1), (1, 1, -1))
    frames, _ = torch.linalg.qr(torch.randn(20, 3, 3, generator=generator))
    rotations = torch.cat((torch.diag_embed(torch.tensor(signs, dtype=torch.float32)), frames))
    count = len(rotations)
    scales = 0.01 + torch.rand(count, 3, generator=generator)
    means = torch.randn(count, 3, generator=generator)
    return dict(means=means, rotations=rotations, scales=scales, colours=torch.rand(count, 3, generator=generator))


def read(path):
    vertices = PlyData.read(path)["vertex"]
    names = [item.name for item in vertices.properties]
    values = torch.tensor(np.stack([vertices[name] for name in names], -1))
    return names, {name: values[:, i] for i, name in enumerate(names)}


def columns(found, *names):
    return torch.stack([found[name] for name in names], -1)


def test_a_ply_holds_the_gaussians(gaussians, tmp_path):
    opacity = torch.linspace(0, 1, len(gaussians["means"]))
    save_ply(tmp_path / "a.ply", **gaussians, opacity=opacity)
    names, found = read(tmp_path / "a.ply")
    wanted = "x y z nx ny nz f_dc_0 f_dc_1 f_dc_2 opacity scale_0 scale_1 scale_2 rot_0 rot_1 rot_2 rot_3"
    assert names == wanted.split()
    header = (tmp_path / "a.ply").read_bytes().partition(b"end_header\n")[0].decode()
    assert header.startswith("ply\nformat binary_little_endian 1.0\nelement vertex 25\nproperty float x\n")
    assert torch.equal(columns(found, "x", "y", "z"), gaussians["means"])
    colours = 0.5 + HARMONIC * columns(found, "f_dc_0", "f_dc_1", "f_dc_2")
    torch.testing.assert_close(colours, gaussians["colours"])
    torch.testing.assert_close(found["opacity"].sigmoid(), opacity, atol=2e-6, rtol=1e-5)
    quaternions = columns(found, "rot_0", "rot_1", "rot_2", "rot_3")
    torch.testing.assert_close(quaternions.norm(dim=-1), torch.ones(25))
    scales = columns(found, "scale_0", "scale_1", "scale_2").exp()
    right = covariance(gaussians["rotations"], gaussians["scales"])
    torch.testing.assert_close(covariance(from_quaternion(quaternions), scales), right, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("contrast", [2.0, 500.0])
def test_visible_scales_are_half_opaque_where_a_limb_is_half_of_a_pixel(gaussians, contrast):
    alpha = 0.1
    given = gaussians["rotations"].double(), gaussians["scales"].double()
    drawn = given[0], visible_scales(given[1], alpha, contrast)
    offset = torch.tensor([0.02, -0.01, 0.03], dtype=torch.float64)
    # As far out as the weight equals the background's.
    offset = offset * (alpha * math.log(contrast) / distance(offset, *given)).sqrt()[:, None]
    torch.testing.assert_close(contrast * torch.exp(-distance(offset, *given) / alpha), torch.ones(25).double())
    torch.testing.assert_close(torch.exp(-distance(offset, *drawn) / 2), torch.full((25,), 0.5).double())


def test_the_density_itself_has_a_contrast_of_two():
    scales = torch.tensor([0.1, 0.2, 0.3])
    torch.testing.assert_close(visible_scales(scales, 0.025, 2.0), scales * 0.0125**0.5)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (dict(contrast=1.0), r"contrast: got 1\.0, wanted more than 1"),
        (dict(contrast=math.inf), "contrast: got inf, wanted more than 1"),
        (dict(alpha=0.0), r"alpha: got 0\.0, wanted more than 0"),
        (dict(alpha=-1.0), r"alpha: got -1\.0, wanted more than 0"),
        (dict(alpha=math.nan), "alpha: got nan, wanted more than 0"),
    ],
    ids=lambda v: "-".join(map(str, v.items())) if isinstance(v, dict) else "",
)
def test_scales_of_no_alpha_or_contrast_are_refused(bad, message):
    with pytest.raises(ValueError, match=message):
        visible_scales(torch.ones(3), **bad)


@pytest.mark.parametrize("channels", [1, 3, 16])
def test_feature_colours(channels):
    colours = feature_colours(torch.randn(9, channels, generator=torch.Generator().manual_seed(0)))
    assert colours.shape == (9, 3) and colours.min() >= 0 and colours.max() <= 1
    assert len(colours.unique(dim=0)) == 9


def test_feature_colours_are_those_of_a_latent_image():
    generator = torch.Generator().manual_seed(0)
    features, latent = torch.randn(4, 16, generator=generator), torch.randn(2, 16, 6, 6, generator=generator)
    # Where a pixel is one Gaussian's alone, both have its colour.
    latent[1, :, 2, 3:] = 0.5 * features[:3].mT
    shown = latent_to_rgb(latent)[1, :, 2, 3:].mT
    torch.testing.assert_close(feature_colours(0.5 * features, latent)[:3], shown)
    assert (feature_colours(0.5 * features)[:3] - shown).abs().max() > 0.05


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((torch.ones(2, 4, 16),), r"features: got shape \(2, 4, 16\), wanted \[N, C\]"),
        ((np.ones((4, 16)),), r"features: got ndarray, wanted a tensor \[N, C\]"),
        ((torch.ones(4, 16), torch.ones(16, 8, 8)), r"latent: got shape \(16, 8, 8\), wanted \[B, 16, h, w\]"),
        ((torch.ones(4, 16), torch.ones(1, 3, 8, 8)), r"latent: got shape \(1, 3, 8, 8\), wanted \[B, 16, h, w\]"),
    ],
    ids=["batch", "array", "no batch", "other channels"],
)
def test_features_of_other_shapes_have_no_colours(arguments, message):
    with pytest.raises(ValueError, match=message):
        feature_colours(*arguments)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(means=torch.zeros(0, 3)), r"means: got shape \(0, 3\), wanted \[N, 3\] with N at least 1"),
        (dict(means=torch.tensor(1.0)), r"means: got shape \(\), wanted \[N, 3\]"),
        (dict(means=torch.zeros(2, 25, 3)), r"means: got shape \(2, 25, 3\), wanted \[N, 3\]"),
        (dict(means=np.zeros((25, 3))), r"means: got ndarray, wanted a tensor \[N, 3\]"),
        (dict(scales=[0.1] * 3), r"scales: got list, wanted a tensor \[25, 3\]"),
        (dict(means=torch.full((25, 3), 1e39, dtype=torch.float64)), "means: is not finite everywhere in float32"),
        (dict(rotations=torch.zeros(25, 4)), r"rotations: got shape \(25, 4\), wanted \[25, 3, 3\]"),
        (dict(rotations=torch.ones(25, 3, 3)), "rotations: are not orthonormal, off by 3"),
        (dict(scales=torch.zeros(25, 3)), "scales: got 0, wanted all positive"),
        (dict(scales=torch.full((25, 3), torch.nan)), "scales: is not finite everywhere"),
        (dict(colours=torch.full((25, 3), 255)), "colours: got 255 to 255, wanted 0 to 1"),
        (dict(colours=torch.zeros(25, 16)), r"colours: got shape \(25, 16\), wanted \[25, 3\]"),
        (dict(opacity=1.5), "opacity: got 1.5 to 1.5, wanted 0 to 1"),
        (dict(opacity=torch.ones(3)), r"opacity: got shape \(3,\), wanted a number or \[25\]"),
    ],
    ids=lambda v: "-".join(v) if isinstance(v, dict) else "",
)
def test_bad_gaussians_are_refused_by_name(gaussians, tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        save_ply(tmp_path / "a.ply", **gaussians | change)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_not_there(gaussians, tmp_path):
    with pytest.raises(OSError, match="nowhere"):
        save_ply(tmp_path / "nowhere/a.ply", **gaussians)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    save_model(path, HumanViewSynthesis(PRESETS["tiny"].model))
    return path


@pytest.fixture(scope="module")
def programs(checkpoint, tmp_path_factory):
    """The folder that the command writes, and what it holds as functions.

    Autocast and the default dtype are the caller's, and the programs are for everybody.
    """
    folder = tmp_path_factory.mktemp("parent") / "deployed"
    before, models = torch.get_default_dtype(), {checkpoint: load(checkpoint)}
    with pytest.MonkeyPatch.context() as patch, torch.autocast("cpu", torch.bfloat16):
        patch.setattr(sys, "argv", ["export", str(checkpoint), str(folder)])
        patch.setattr("hvs.checkpoint.load", models.__getitem__)
        torch.set_default_dtype(torch.float64)
        try:
            main()
        finally:
            torch.set_default_dtype(before)
    assert sorted(path.name for path in folder.iterdir()) == ["encode.pt2", "lift.pt2", "render.pt2"]
    return folder, {path.stem: torch.export.load(path).module() for path in folder.iterdir()}


@pytest.mark.parametrize("batch", [1, 3])
def test_programs_compute_what_the_model_does(programs, checkpoint, batch):
    model, (_, found) = load(checkpoint), programs
    side = model.settings.target_resolution
    generator = torch.Generator().manual_seed(batch)
    keypoints = 100 * torch.rand(batch, len(model.skeleton.joints), 2, generator=generator)
    confidence = keypoints[..., 0] > 30
    resolution = torch.full((batch, 2), 100.0)
    points = 0.5 * torch.randn(batch, len(model.skeleton.joints), 3, generator=generator)
    points[..., 2] += 4
    K = torch.tensor([[1.5 * side, 0, 0.5 * side], [0, 1.4 * side, 0.4 * side], [0, 0, 1]]).expand(batch, 3, 3)
    lens = torch.tensor([-0.2, 0.1, 1e-3, -1e-3, 0.02]).expand(batch, 5)
    camera = Camera(K, torch.eye(3), torch.zeros(3), lens, side, side)
    image = torch.rand(batch, 3, model.settings.input_resolution, model.settings.input_resolution, generator=generator)
    with torch.no_grad():
        assert torch.equal(
            found["lift"](keypoints, confidence, resolution), model.lift(keypoints, confidence, resolution)
        )
        appearance = model.encode(image)
        assert torch.equal(found["encode"](image), appearance)
        latent, picture = found["render"](points, appearance, K, F.pad(lens, (0, COEFFICIENTS - 5)))
        wanted_latent, wanted_picture = model.render(points, appearance, camera)
    assert wanted_latent.abs().amax() > 0.1
    torch.testing.assert_close(latent, wanted_latent, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(picture, wanted_picture, atol=1e-5, rtol=1e-5)


def test_only_the_rasteriser_needs_the_package(programs):
    command = [sys.executable, "-c", WITHOUT_HVS, str(programs[0])]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "False\n"), done.stderr


def test_each_program_is_told_of_when_it_is_written(checkpoint, tmp_path, monkeypatch):
    told = []
    monkeypatch.setattr("hvs.export._export", lambda module, *values: torch.export.export(nn.Identity(), (image,)))
    image = torch.zeros(1)

    def tell(name, file):
        told.append((name, sorted(path.stem for path in file.parent.iterdir())))

    files = export_model(load(checkpoint), tmp_path, tell)
    assert told == [("lift", ["lift"]), ("encode", ["encode", "lift"]), ("render", ["encode", "lift", "render"])]
    assert files == {name: tmp_path / f"{name}.pt2" for name in ("lift", "encode", "render")}


def test_a_program_that_does_not_fit_on_the_disk_is_not_there(checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr("hvs.export._export", lambda *_: None)
    monkeypatch.setattr(torch.export, "save", lambda program, file: file.write(bytes(20_000)))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    try:
        with pytest.raises(OSError, match=f"{tmp_path}/lift.pt2"):
            export_model(load(checkpoint), tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not list(tmp_path.iterdir())


def test_half_weights_are_not_exported(checkpoint, tmp_path):
    with pytest.raises(ValueError, match="model: got weights of torch.bfloat16, wanted torch.float32"):
        export_model(load(checkpoint).bfloat16(), tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_model_is_left_as_it_was(checkpoint, tmp_path, monkeypatch):
    def stop(*_, **__):
        raise KeyboardInterrupt

    model = load(checkpoint).train()
    monkeypatch.setattr(torch.export, "export", stop)
    with pytest.raises(KeyboardInterrupt):
        export_model(model, tmp_path / "new")
    assert model.training and all(weight.requires_grad for weight in model.parameters()) and model.encoder is not None
    assert not list((tmp_path / "new").iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["no/where.safetensors", "out"], "no/where.safetensors: no such file"),
        ([None, "taken"], "taken: not a folder that can be written to"),
        ([None, "full"], "full/render.pt2: is a folder, which is in the way of a file"),
    ],
    ids=["checkpoint", "folder", "program"],
)
def test_the_command_ends_with_one_line(checkpoint, tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.export, "export", lambda *_, **__: pytest.fail("began to work"))
    (tmp_path / "taken").touch()
    (tmp_path / "full/render.pt2").mkdir(parents=True)
    monkeypatch.setattr(sys, "argv", ["export", *(word or str(checkpoint) for word in arguments)])
    with pytest.raises(SystemExit) as stop:
        run_command(main)
    error = capsys.readouterr().err
    assert stop.value.code == 2 and error.startswith(f"error: {message}") and error.count("\n") == 1


def test_autocast_does_not_make_rotations_skewed(tmp_path):
    rotations = torch.linalg.qr(torch.randn(64, 3, 3, generator=torch.Generator().manual_seed(0)))[0]
    with torch.autocast("cpu", torch.bfloat16):
        save_ply(tmp_path / "a.ply", torch.zeros(64, 3), rotations, torch.ones(64, 3), torch.zeros(64, 3))
    assert (tmp_path / "a.ply").is_file()
