import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hvs.geometry import distort, undistort

COEFFICIENTS = torch.tensor([-0.2, 0.05, 1e-3, -2e-3, 0.01, 0.02, -0.01, 0.003, 5e-4, 2e-4, -4e-4, 1e-4]).double()


@pytest.mark.parametrize("count", [0, 4, 5, 8, 12])
def test_undistort_inverts_distort(count):
    points = torch.rand(50, 2, dtype=torch.float64) - 0.5
    distorted = distort(points, COEFFICIENTS[:count])
    assert torch.allclose(undistort(distorted, COEFFICIENTS[:count], steps=50), points, atol=1e-9)
    if count:
        assert not torch.allclose(distorted, points, atol=1e-3)


@pytest.mark.parametrize("function", [distort, undistort])
@pytest.mark.parametrize("count", [0, 4, 5, 8])
def test_absent_coefficients_are_zero(function, count):
    points = torch.rand(3, 50, 2) - 0.5
    given = COEFFICIENTS[:count].float()
    wanted = function(points, torch.cat((given, torch.zeros(12 - count))))
    assert torch.equal(function(points, given), wanted)


@pytest.mark.parametrize("count", [4, 5, 8, 12])
def test_gradients(count):
    points = (torch.rand(3, 4, 2, dtype=torch.float64) - 0.5).requires_grad_()
    coefficients = COEFFICIENTS[:count].expand(3, count).clone().requires_grad_()
    assert torch.autograd.gradcheck(distort, (points, coefficients))
    assert torch.autograd.gradcheck(undistort, (points, coefficients))


def test_a_radial_factor_that_is_not_positive_falls_back_to_the_distorted_point():
    # 1 + k1 r² = 1 - 2·1 < 0 at the first estimate, so every step returns the point itself.
    points = torch.tensor([[1.0, 0.0]], dtype=torch.float64, requires_grad=True)
    ideal = undistort(points, torch.tensor([-2.0, 0.0, 0.0, 0.0], dtype=torch.float64))
    assert torch.equal(ideal, points)
    (gradient,) = torch.autograd.grad(ideal.sum(), points)
    assert torch.equal(gradient, torch.ones_like(points))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-3, 3), min_size=8, max_size=8), st.floats(-3, 3), st.floats(-3, 3))
def test_undistortion_is_finite_for_any_lens(coefficients, x, y):
    point = torch.tensor([[x, y]], dtype=torch.float64, requires_grad=True)
    ideal = undistort(point, torch.tensor(coefficients, dtype=torch.float64), steps=1)
    (gradient,) = torch.autograd.grad(ideal.sum(), point)
    assert ideal.isfinite().all() and not gradient.isnan().any()


def test_undistortion_does_not_overflow_in_float32():
    generator = torch.Generator().manual_seed(1)
    coefficients = 2 * torch.rand(4000, 8, generator=generator) - 1
    y, x = torch.meshgrid(torch.linspace(-0.4, 0.4, 9), torch.linspace(-0.5, 0.5, 9), indexing="ij")
    points = torch.stack((x, y), -1).flatten(0, 1)
    assert undistort(points, coefficients).isfinite().all()


@pytest.mark.parametrize("seed", range(5))
def test_gradients_are_finite_where_the_fixed_point_scheme_overflows(seed):
    generator = torch.Generator().manual_seed(seed)
    coefficients = (3 * torch.randn(12, generator=generator)).requires_grad_()
    points = (3 * torch.rand(4096, 2, generator=generator) - 1.5).requires_grad_()
    ideal = undistort(points, coefficients)
    assert ideal.isfinite().all()
    for gradient in torch.autograd.grad(ideal.sum(), (points, coefficients)):
        assert not gradient.isnan().any()


@pytest.mark.parametrize("function", [distort, undistort])
def test_other_numbers_of_coefficients_are_refused(function):
    for count in (1, 3, 6, 14):
        with pytest.raises(ValueError, match=rf"distortion: got shape \({count},\), wanted \[..., n\] with n in"):
            function(torch.zeros(4, 2), torch.zeros(count))
