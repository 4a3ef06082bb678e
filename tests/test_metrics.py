import math

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torchvision.models import alexnet

from hvs import metrics
from hvs.geometry import rotation_about_axis
from hvs.metrics import foreground_box, mpjpe, n_mpjpe, on_foreground, p_mpjpe, psnr, psnr_foreground, ssim


def picture(batch=2, height=40, width=33):
    return torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(0))


class TestPsnr:
    def test_by_hand_and_per_sample(self):
        target = torch.full((2, 3, 4, 4), 0.5)
        predicted = target.clone()
        predicted[0] += 0.1
        predicted[1, :, 0, 0] += 0.4
        wanted = [20.0, -10 * math.log10(0.16 / 16)]
        assert psnr(predicted, target).tolist() == pytest.approx(wanted, rel=1e-5)
        assert psnr(target, target).isinf().all()

    def test_predictions_are_clamped(self):
        target = torch.ones(1, 3, 4, 4)
        assert psnr(target + 5, target).isinf().all()

    def test_foreground_counts_the_box_of_the_mask(self):
        target, mask = torch.zeros(2, 3, 8, 8), torch.zeros(2, 1, 8, 8)
        mask[:, :, 2, 3] = mask[:, :, 5, 4] = 1
        predicted = target.clone()
        predicted[0, :, 0, 0] = 1
        predicted[1, :, 3, 3] = 0.5
        found = psnr_foreground(predicted, target, mask)
        assert found[0].isinf()
        assert found[1].item() == pytest.approx(-10 * math.log10(0.25 / 8), rel=1e-5)

    def test_no_foreground_is_nan(self):
        assert psnr_foreground(picture(), picture(), torch.zeros(2, 1, 40, 33)).isnan().all()


@pytest.mark.parametrize(
    ("points", "box"),
    [([(0, 0)], (0, 1, 0, 1)), ([(2, 5), (6, 1)], (2, 7, 1, 6)), ([(7, 8)], (7, 8, 8, 9)), ([], (0, 0, 0, 0))],
    ids=["corner", "pair", "far-corner", "empty"],
)
def test_foreground_box(points, box):
    mask, wanted = torch.zeros(1, 1, 8, 9), torch.zeros(1, 1, 8, 9, dtype=torch.bool)
    for y, x in points:
        mask[..., y, x] = 1
    wanted[..., box[0] : box[1], box[2] : box[3]] = True
    torch.testing.assert_close(foreground_box(mask), wanted)
    torch.testing.assert_close(foreground_box(mask.bool()), wanted)


class TestSsim:
    def test_against_a_windowed_formula(self):
        a = picture()
        b = (a + 0.2 * torch.randn(a.shape, generator=torch.Generator().manual_seed(1))).clamp(0, 1)
        wanted = []
        for x, y in zip(a.double().numpy(), b.double().numpy(), strict=True):
            scores = []
            for u, v in zip(x, y, strict=True):

                def blur(image):
                    return gaussian_filter(image, 1.5, radius=5)[5:-5, 5:-5]

                mean_u, mean_v = blur(u), blur(v)
                var_u, var_v = blur(u * u) - mean_u**2, blur(v * v) - mean_v**2
                covariance = blur(u * v) - mean_u * mean_v
                score = (2 * mean_u * mean_v + 1e-4) * (2 * covariance + 9e-4)
                scores.append(score / ((mean_u**2 + mean_v**2 + 1e-4) * (var_u + var_v + 9e-4)))
            wanted.append(np.mean(scores))
        assert ssim(a, b).tolist() == pytest.approx(wanted, abs=1e-4)

    def test_equal_pictures_score_one(self):
        torch.testing.assert_close(ssim(picture(), picture()), torch.ones(2))

    def test_borders_do_not_count_beyond_the_window(self):
        a, b = torch.full((2, 1, 3, 24, 24), 0.5)
        b[..., 0, 0] = 1
        window = np.exp(-0.5 * (np.arange(-5, 6) / 1.5) ** 2)
        assert window[0] / window.sum() < 0.002
        assert ssim(a, b).item() > 0.999

    def test_smaller_than_the_window(self):
        with pytest.raises(ValueError, match="wanted at least 11×11"):
            ssim(torch.zeros(1, 3, 10, 40), torch.zeros(1, 3, 10, 40))


class TestOnForeground:
    def test_scores_the_box_of_each_sample(self):
        mask = torch.zeros(3, 1, 80, 70)
        mask[0, :, 10:60, 5:45] = 1
        mask[1, :, 70, 68] = 1
        shapes = []

        def metric(a, b):
            shapes.append(tuple(a.shape[1:]))
            return (a - b).sum((1, 2, 3))

        target = torch.zeros(3, 3, 80, 70)
        predicted = target.clone()
        predicted[0, 0, 10, 5] = 1
        predicted[0, 0, 9, 5] = 1
        predicted[1, 0, 48:, 38:] = 1
        found = on_foreground(metric, predicted, target, mask)
        assert found[:2].tolist() == [1, 32 * 32] and found[2].isnan()
        assert shapes == [(3, 50, 40), (3, 32, 32)]

    def test_pictures_smaller_than_a_box(self):
        mask = torch.zeros(1, 1, 20, 16)
        mask[..., 3, 3] = 1
        assert on_foreground(ssim, picture(1, 20, 16), picture(1, 20, 16), mask).item() == pytest.approx(1)


@pytest.fixture
def lpips(tmp_path):
    torch.manual_seed(0)
    torch.save(alexnet(weights=None).state_dict(), tmp_path / "alex.pth")
    return metrics.lpips_alex(tmp_path / "alex.pth")


def test_lpips_is_zero_for_equal_pictures_and_grows(lpips):
    target = picture(2, 64, 64)
    assert lpips(target, target).tolist() == [0, 0]
    assert (lpips(1 - target, target) > 0).all()
    # Too small for AlexNet, which leaves nothing of them.
    assert lpips(target[..., :30], target[..., :30]).isnan().tolist() == [True, True]
    assert lpips(target[..., :31], target[..., :31]).tolist() == [0, 0]


def pose(batch=3):
    return torch.randn(batch, 17, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


class TestPoses:
    def test_mpjpe_by_hand(self):
        target = torch.zeros(2, 4, 3)
        predicted = target.clone()
        predicted[0, 0] = torch.tensor([0.3, 0.4, 0.0])
        predicted[1] = torch.tensor([0.0, 0.0, 0.01])
        assert mpjpe(predicted, target).tolist() == pytest.approx([125, 10])

    def test_only_valid_joints_count_even_beside_nan(self):
        target, predicted = torch.zeros(2, 4, 3), torch.zeros(2, 4, 3)
        predicted[0, 0, 0] = 0.1
        target[:, 3] = torch.nan
        valid = torch.tensor([[True, True, False, False], [False] * 4])
        found = mpjpe(predicted, target, valid)
        assert found[0].item() == pytest.approx(50) and found[1].isnan()
        for metric in (n_mpjpe, p_mpjpe):
            found = metric(predicted + 1, target, valid)
            assert found[0].isfinite() and found[1].isnan()

    def test_n_mpjpe_forgives_scale_and_nothing_else(self):
        target = pose()
        assert n_mpjpe(target * torch.tensor([0.5, 1, 3])[:, None, None], target).max() < 1e-9
        moved = n_mpjpe(target + 0.5, target)
        assert (moved > 100).all() and (moved <= mpjpe(target + 0.5, target) + 50).all()
        torch.testing.assert_close(n_mpjpe(torch.zeros_like(target), target), mpjpe(torch.zeros_like(target), target))

    def test_n_mpjpe_takes_the_best_scale(self):
        target = pose(1)
        predicted = 0.7 * target + 0.1 * pose(2)[1:]
        scale = (predicted * target).sum() / predicted.square().sum()
        torch.testing.assert_close(n_mpjpe(predicted, target), mpjpe(scale * predicted, target))

    def test_p_mpjpe_forgives_similarities(self):
        target = pose()
        axis = torch.nn.functional.normalize(pose(3)[:, 0], dim=-1)
        rotation = rotation_about_axis(axis, torch.tensor([0.5, 2.0, -3.0], dtype=torch.float64))
        moved = 1.7 * target @ rotation.mT + torch.tensor([1.0, -2, 3], dtype=torch.float64)
        assert p_mpjpe(moved, target).max() < 1e-9
        assert mpjpe(moved, target).min() > 1000

    def test_p_mpjpe_does_not_forgive_mirror_images(self):
        target = pose()
        mirrored = target * torch.tensor([-1.0, 1, 1])
        assert (p_mpjpe(mirrored, target) > 100).all()

    def test_p_mpjpe_ignores_unknown_joints(self):
        target, valid = pose(1), torch.ones(1, 17, dtype=torch.bool)
        moved = 2 * target.clone() - 1
        moved[0, 4], valid[0, 4] = 100, False
        assert p_mpjpe(moved, target, valid).item() < 1e-9

    def test_order_of_the_scores(self):
        target = pose()
        predicted = target + 0.3 * pose(6)[3:]
        root = target[:, :1], predicted[:, :1]
        plain = mpjpe(predicted - root[1], target - root[0])
        assert (p_mpjpe(predicted, target) < plain).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_autocast_changes_no_score(dtype):
    predicted, target = picture().to(dtype), picture().to(dtype).flip(0).lerp(picture().to(dtype), 0.9)
    poses = torch.randn(2, 4, 17, 3, generator=torch.Generator().manual_seed(0)).to(dtype)
    wanted = [psnr(predicted, target), ssim(predicted, target), *(f(*poses) for f in (mpjpe, n_mpjpe, p_mpjpe))]
    with torch.autocast("cpu", torch.bfloat16):
        found = [psnr(predicted, target), ssim(predicted, target), *(f(*poses) for f in (mpjpe, n_mpjpe, p_mpjpe))]
    for a, b in zip(found, wanted, strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("dtypes", [(torch.float16, torch.float16), (torch.float64, torch.float32)], ids=str)
def test_procrustes_takes_other_dtypes(dtypes):
    poses = torch.randn(2, 4, 17, 3, generator=torch.Generator().manual_seed(0))
    found = p_mpjpe(*(pose.to(dtype) for pose, dtype in zip(poses, dtypes, strict=True)))
    assert torch.allclose(found.float(), p_mpjpe(*poses), rtol=1e-3)


def test_bytes_and_pictures_and_masks_of_another_shape_are_refused_by_name(lpips):
    whole, mask = picture(), torch.ones(2, 1, 40, 33)
    for metric in (psnr, ssim, lpips):
        with pytest.raises(ValueError, match=r"got shapes \(2, 3, 40, 33\) and \(1, 3, 40, 33\), wanted one for both"):
            metric(whole, whole[:1])
        with pytest.raises(ValueError, match="target: got torch.uint8, wanted a floating dtype"):
            metric(whole, (whole * 255).byte())
    for metric in (psnr_foreground, lambda *inputs: on_foreground(ssim, *inputs)):
        with pytest.raises(ValueError, match=r"mask: got shape \(2, 40, 33\), wanted \(2, 1, 40, 33\)"):
            metric(whole, whole, mask[:, 0])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_pictures_of_any_floating_dtype_are_compared_in_float32(lpips, dtype):
    # Their difference has more digits than bfloat16.
    target = torch.linspace(0, 0.9, 3 * 40 * 33).reshape(1, 3, 40, 33).to(dtype)
    predicted = (target * 0.97 + 0.001).to(dtype)
    for metric in (psnr, ssim, lpips):
        found = metric(predicted, target)
        assert found.dtype == torch.float32
        assert torch.equal(found, metric(predicted.float(), target.float()))


@pytest.mark.parametrize("metric", [mpjpe, n_mpjpe, p_mpjpe])
def test_poses_of_other_shapes_are_refused(metric):
    pose, valid = torch.randn(2, 17, 3), torch.ones(2, 17, dtype=torch.bool)
    for wrong in ((pose[0], pose[0]), (pose[None], pose[None]), (pose, pose[:, :1]), (pose[..., :2], pose[..., :2])):
        with pytest.raises(ValueError, match=r"predicted, target: got shapes .*, wanted one for both, \[B, J, 3\]"):
            metric(*wrong)
    for wrong in (valid[0], valid[:, :1], valid[..., None]):
        with pytest.raises(ValueError, match=r"valid: got shape .*, wanted \(2, 17\)"):
            metric(pose, pose, wrong)


@pytest.mark.parametrize("metric", [mpjpe, n_mpjpe, p_mpjpe])
def test_joints_are_valid_or_not(metric):
    """Whatever numbers say so: confidences do not weigh."""
    a, b = torch.randn(2, 17, 3), torch.randn(2, 17, 3)
    valid = torch.rand(2, 17) > 0.3
    wanted = metric(a, b, valid)
    for numbers in (valid.float(), valid.byte(), valid * torch.rand(2, 17)):
        assert torch.equal(metric(a, b, numbers), wanted)


@pytest.mark.parametrize("metric", [mpjpe, n_mpjpe, p_mpjpe])
def test_half_types_are_scored_in_single_precision(metric):
    a, b = (torch.randn(2, 17, 3) * 30 for _ in range(2))
    for dtype in (torch.float16, torch.bfloat16):
        found = metric(a.to(dtype), b.to(dtype))
        assert torch.equal(found, metric(a.to(dtype).float(), b.to(dtype).float()))


def test_pictures_of_other_shapes_are_refused():
    a, mask = torch.rand(2, 3, 40, 40), torch.ones(2, 1, 40, 40)
    for wrong in (a[:1], a[:, :1], a[..., :1, :1], a[..., ::2, ::2], a[0]):
        for score in (
            psnr,
            ssim,
            lambda *pair: psnr_foreground(*pair, mask),
            lambda *pair: on_foreground(psnr, *pair, mask),
        ):
            with pytest.raises(ValueError, match=r"predicted, target: got shapes .*, wanted one for both"):
                score(a, wrong)
    with pytest.raises(ValueError, match="predicted, target"):
        psnr(a[0], a[0])


def test_no_pictures_have_no_scores():
    a, mask = torch.rand(0, 3, 40, 40), torch.rand(0, 1, 40, 40)
    for scores in (psnr(a, a), ssim(a, a), psnr_foreground(a, a, mask), on_foreground(ssim, a, a, mask)):
        assert scores.shape == (0,)


def test_arrays_are_refused_by_name(lpips):
    a, pose = torch.rand(2, 3, 40, 40), torch.rand(2, 17, 3)
    for metric, value in ((psnr, a), (ssim, a), (lpips, a), (mpjpe, pose), (n_mpjpe, pose), (p_mpjpe, pose)):
        with pytest.raises(ValueError, match="predicted: got ndarray, wanted a tensor"):
            metric(value.numpy(), value)
        with pytest.raises(ValueError, match="target: got ndarray, wanted a tensor"):
            metric(value, value.numpy())
