import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from hvs.geometry import Skeleton, limb_gaussians
from hvs.geometry.limbs import copy_once
from hvs.geometry.skeletons import HUMAN36M, PANOPTIC

STICK = Skeleton("stick", ("a", "b"), ((0, 1),), (0.05,), 0, {"body": (0, 2)}, (0, 0, 0))


@pytest.mark.parametrize("skeleton", [PANOPTIC, HUMAN36M], ids=lambda s: s.name)
@pytest.mark.parametrize("batch", [(), (3,), (2, 2)])
def test_covariance_is_the_one_of_the_method(skeleton, batch):
    points = torch.randn(*batch, len(skeleton.joints), 3, dtype=torch.float64)
    means, rotations, scales = limb_gaussians(points, skeleton)
    start, end = (points[..., [edge[k] for edge in skeleton.edges], :] for k in (0, 1))
    bone = end - start
    length = bone.norm(dim=-1)[..., None, None]
    outer = bone[..., :, None] * bone[..., None, :] / length**2
    width = torch.tensor(skeleton.widths, dtype=torch.float64)[:, None, None]
    wanted = width**2 * torch.eye(3).double() + (length**2 - width**2) * outer
    assert torch.allclose(means, (start + end) / 2)
    assert torch.allclose(rotations @ torch.diag_embed(scales**2) @ rotations.mT, wanted)
    assert torch.allclose(torch.linalg.det(rotations), torch.ones_like(length[..., 0, 0]))


@pytest.mark.parametrize(
    "end", [(0, 0, 0), (1e-20, 0, 0), (1e-9, 0, 0), (1, 0, 0), (0, -1, 0), (0, 0, 1), (0, 0, -1)], ids=str
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_degenerate_and_axis_aligned_bones(end, dtype):
    points = torch.tensor([(0.0, 0.0, 0.0), end], dtype=dtype, requires_grad=True)
    means, rotations, scales = limb_gaussians(points, STICK)
    (gradient,) = torch.autograd.grad(
        means.sum() + (rotations * torch.arange(9.0).view(3, 3)).sum() + scales.sum(), points
    )
    assert gradient.isfinite().all()
    assert torch.allclose(rotations[0] @ rotations[0].mT, torch.eye(3, dtype=dtype), atol=1e-6)
    assert scales[0, 0].item() == pytest.approx(max(1e-3, float(torch.tensor(end).float().norm())))
    assert scales[0, 1:].tolist() == pytest.approx([0.05, 0.05])


def test_gradients():
    points = torch.randn(2, 2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda p: limb_gaussians(p, STICK), points)


def test_wrong_joint_count_is_named():
    with pytest.raises(ValueError, match=r"points: got shape \(4, 16, 3\), wanted \[..., 17, 3\] for human36m"):
        limb_gaussians(torch.zeros(4, 16, 3), HUMAN36M)


def test_inference_first_and_training_after():
    """The first call leaves nothing behind that a gradient cannot pass."""
    skeleton = Skeleton("one", ("a", "b"), ((0, 1),), (0.0123,), 0, {"body": (0, 2)}, (0, 0, 0))
    with torch.inference_mode():
        limb_gaussians(torch.randn(2, 3), skeleton)
    points = torch.randn(2, 3, requires_grad=True)
    means, _, scales = limb_gaussians(points, skeleton)
    (means.sum() + scales.sum()).backward()
    assert points.grad.abs().sum() > 0
    assert scales[0, 1:].tolist() == pytest.approx([0.0123] * 2)
    assert limb_gaussians(points.double(), skeleton)[2].dtype == torch.float64


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_types_know_bones_without_length(dtype):
    points = torch.zeros(17, 3, dtype=dtype, requires_grad=True)
    gaussians = limb_gaussians(points, HUMAN36M)
    (gradient,) = torch.autograd.grad(sum(v.sum() for v in gaussians), points)
    assert all(v.dtype == dtype and v.isfinite().all() for v in (*gaussians, gradient))


def test_the_name_of_a_skeleton_is_none():
    with pytest.raises(ValueError, match="skeleton: got str, wanted a Skeleton, as hvs.skeletons.PANOPTIC is"):
        limb_gaussians(torch.zeros(17, 3), "human36m")


def test_integers_and_arrays_are_refused():
    with pytest.raises(ValueError, match="points: got dtype torch.int64, wanted a floating dtype"):
        limb_gaussians(torch.zeros(17, 3, dtype=torch.long), HUMAN36M)
    with pytest.raises(ValueError, match=r"points: got ndarray, wanted a tensor \[..., 17, 3\]"):
        limb_gaussians(np.zeros((17, 3)), HUMAN36M)


def test_a_pass_over_fake_tensors_leaves_nothing_behind():
    copy_once.cache_clear()
    points = torch.randn(1, 17, 3)
    with FakeTensorMode() as mode:
        assert limb_gaussians(mode.from_tensor(points), HUMAN36M)[0].shape == (1, 16, 3)
    wanted = limb_gaussians(points, HUMAN36M)
    assert all(type(value) is torch.Tensor for value in wanted)
    # Nor do tensors of earlier calls get in its way.
    with FakeTensorMode() as mode:
        assert limb_gaussians(mode.from_tensor(points), HUMAN36M)[0].shape == (1, 16, 3)


def test_transforms_leave_nothing_behind():
    """Constants are kept for ever; made inside of a transform, they would be of its kind."""
    points = torch.randn(17, 3)

    def total(points):
        return limb_gaussians(points, HUMAN36M)[2].sum()

    wanted = total(points)
    for transform in (torch.func.hessian, torch.func.functionalize, torch.func.grad, torch.func.jacfwd):
        copy_once.cache_clear()
        transform(total)(points)
        assert torch.equal(total(points), wanted) and type(total(points)) is torch.Tensor
        with torch.inference_mode():
            assert torch.equal(total(points), wanted)
        assert torch.func.grad(total)(points).isfinite().all()
