import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from torch.nn import functional as F

from hvs.geometry import (
    frame_from_direction,
    quaternion_from_rotation,
    rotation_about_axis,
    rotation_from_quaternion,
)
from hvs.geometry.rotations import is_rotation, rotate

AXES = torch.tensor([(1, 0, 0), (0, 1, 0), (0, 0, 1), (-1, 0, 0), (0, -1, 0), (0, 0, -1), (0.6, 0, -0.8)]).double()
AXES = F.normalize(AXES, dim=-1)


@pytest.mark.parametrize("directions", [AXES, F.normalize(torch.randn(4, 50, 3).double(), dim=-1)])
def test_frames_are_right_handed_rotations_around_the_direction(directions):
    frames = frame_from_direction(directions)
    assert torch.equal(frames[..., 0], directions)
    assert torch.allclose(frames @ frames.mT, torch.eye(3).double().expand_as(frames))
    assert torch.allclose(torch.linalg.det(frames), torch.ones(directions.shape[:-1]).double())


def test_frames_have_finite_gradients_along_every_axis():
    directions = AXES.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(frame_from_direction(directions).square().sum(), directions)
    assert gradient.isfinite().all()
    inner = F.normalize(torch.randn(5, 3, dtype=torch.float64), dim=-1).requires_grad_()
    assert torch.autograd.gradcheck(frame_from_direction, inner)


def test_rotation_about_axis_turns_the_right_way():
    quarter = rotation_about_axis(torch.tensor([0.0, 0.0, 1.0]), torch.tensor(torch.pi / 2))
    assert torch.allclose(quarter @ torch.tensor([1.0, 0.0, 0.0]), torch.tensor([0.0, 1.0, 0.0]), atol=1e-6)
    axis = F.normalize(torch.randn(6, 3).double(), dim=-1)
    angles = torch.linspace(-3, 3, 6).double()
    # Column k of the cross product's matrix is axis × e_k.
    cross = torch.linalg.cross(axis[:, None].expand(6, 3, 3), torch.eye(3).double().expand(6, 3, 3)).mT
    assert torch.allclose(rotation_about_axis(axis, angles), torch.linalg.matrix_exp(cross * angles[:, None, None]))


def test_a_quaternion_of_any_length_is_half_its_rotation():
    axis = F.normalize(torch.randn(6, 3).double(), dim=-1)
    half = torch.linspace(-1.5, 1.5, 6).double()[:, None]
    quaternions = 3 * torch.cat((half.cos(), half.sin() * axis), -1)
    expected = rotation_about_axis(axis, 2 * half[:, 0])
    assert torch.allclose(rotation_from_quaternion(quaternions), expected)
    assert torch.allclose(rotation_from_quaternion(-quaternions[2]), expected[2])
    assert torch.autograd.gradcheck(rotation_from_quaternion, quaternions.requires_grad_())


def test_rotate_is_the_matrix_product():
    rotations, points = torch.randn(2, 1, 3, 3).double(), torch.randn(4, 5, 3).double()
    assert torch.allclose(rotate(rotations, points), points @ rotations.mT)


VECTORS = [(0, 0, 0), (np.pi, 0, 0), (0, np.pi, 0), (0, 0, np.pi), (1e-9, 0, 0), (0.3, -2, 1), (3.1, 0.1, 0.2)]


def test_quaternions_of_all_kinds_of_rotations():
    matrices = torch.from_numpy(Rotation.from_rotvec(VECTORS).as_matrix())
    found = quaternion_from_rotation(matrices.view(7, 1, 3, 3))
    assert found.shape == (7, 1, 4) and (found[..., 0] >= 0).all()
    turned = Rotation.from_quat(found[:, 0].roll(-1, -1).numpy()).as_matrix()  # scipy has w last
    np.testing.assert_allclose(turned, matrices, atol=1e-7)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_quaternions_of_half_types(dtype):
    matrices = torch.from_numpy(Rotation.from_rotvec(VECTORS).as_matrix())
    found = quaternion_from_rotation(matrices.to(dtype))
    assert found.dtype == dtype
    assert torch.allclose(rotation_from_quaternion(found.double()), matrices, atol=0.02)


def test_a_mirrored_frame_has_the_quaternion_of_one_that_spans_the_same():
    matrices, _ = torch.linalg.qr(torch.randn(20, 3, 3, generator=torch.Generator().manual_seed(0)).double())
    matrices[::2] *= -1
    signs = torch.linalg.det(matrices)
    assert signs.min() < 0 < signs.max()
    turned = rotation_from_quaternion(quaternion_from_rotation(matrices))
    assert torch.allclose(turned[..., :2], matrices[..., :2])
    assert torch.allclose(turned[..., 2], matrices[..., 2] * signs[:, None])


def test_what_is_a_rotation():
    turn = rotation_about_axis(torch.tensor([0.6, 0.0, 0.8]), torch.tensor(0.7))
    assert is_rotation(turn) and is_rotation(turn.double()) and is_rotation(turn + 1e-4)
    for other in (torch.zeros(3, 3), 2 * turn, -turn, turn @ torch.diag(torch.tensor([-1.0, 1, 1])), turn * torch.nan):
        assert not is_rotation(other)
