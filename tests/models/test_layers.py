import math
from contextlib import contextmanager, nullcontext

import pytest
import torch
import torch.distributed as dist
from torch.nn import functional as F

from hvs.models.layers import Blur, EqualisedConv, EqualisedLinear, ModulatedConv, SecondMoment, modulated_conv2d

CASES = {
    "plain": dict(kernel=3),
    "stride2": dict(kernel=3, stride=2),
    "transposed": dict(kernel=3, stride=2, transposed=True),
    "1x1": dict(kernel=1),
    "no-demodulation": dict(kernel=1, demodulate=False),
    "3x3-no-demodulation": dict(kernel=3, demodulate=False),
}


def per_sample_weights(x, weight, style, bias, stride, transposed, demodulate):
    """The form of StyleGAN2's paper: every sample has a weight of its own, in one grouped convolution."""
    batch = len(x)
    weights = weight[None] * (style[:, :, None, None, None] if transposed else style[:, None, :, None, None])
    if demodulate:
        axes = (1, 3, 4) if transposed else (2, 3, 4)
        weights = weights / (weights.square().sum(axes, keepdim=True).sqrt() + 1e-8)
    options = dict(stride=stride, padding=weight.shape[-1] // 2, groups=batch)
    image = x.flatten(0, 1)[None]
    if transposed:
        y = F.conv_transpose2d(image, weights.flatten(0, 1), output_padding=stride - 1, **options)
    else:
        y = F.conv2d(image, weights.flatten(0, 1), **options)
    return y.unflatten(1, (batch, -1))[0] + bias[:, None, None]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("size", [(8, 8), (1, 1), (7, 5)], ids=str)
def test_modulated_convolution_equals_the_per_sample_form(case, size):
    options = dict(stride=1, transposed=False, demodulate=True) | CASES[case]
    kernel = options.pop("kernel")
    torch.manual_seed(0)
    channels = (5, 4) if options["transposed"] else (4, 5)
    x = torch.randn(3, 5, *size, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(*channels, kernel, kernel, dtype=torch.float64, requires_grad=True)
    style = torch.randn(3, 5, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(4, dtype=torch.float64, requires_grad=True)
    inputs = (x, weight, style, bias)
    found = modulated_conv2d(*inputs, **options)
    wanted = per_sample_weights(*inputs, **options)
    torch.testing.assert_close(found, wanted, rtol=1e-11, atol=1e-11)
    cotangent = torch.randn_like(wanted)
    for name, a, b in zip(
        ("x", "weight", "style", "bias"),
        torch.autograd.grad(found, inputs, cotangent),
        torch.autograd.grad(wanted, inputs, cotangent),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10, msg=lambda text, name=name: f"{name}: {text}")


def test_rescale_and_gain_act_outside_the_demodulation():
    x, weight, style, bias = torch.randn(2, 5, 4, 4), torch.randn(3, 5, 3, 3), torch.randn(2, 5), torch.randn(3)
    rescale = torch.rand(5) + 0.5
    found = modulated_conv2d(x, weight, style, bias, rescale=rescale, gain=2.0)
    wanted = 2 * modulated_conv2d(x * rescale[:, None, None], weight, style, bias)
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)


def test_a_zero_style_gives_the_bias_and_finite_gradients():
    style = torch.zeros(2, 5, requires_grad=True)
    weight = torch.randn(3, 5, 3, 3, requires_grad=True)
    bias = torch.randn(3)
    out = modulated_conv2d(torch.randn(2, 5, 4, 4), weight, style, bias)
    torch.testing.assert_close(out, bias[:, None, None].expand_as(out))
    out.sum().backward()
    assert style.grad.isfinite().all() and weight.grad.isfinite().all()


@pytest.mark.parametrize("size", [3, 5])
def test_blur_is_binomial_and_keeps_the_size(size):
    impulse = torch.zeros(1, 2, 9, 9)
    impulse[0, 1, 4, 4] = 1
    row = torch.tensor({3: [1.0, 2, 1], 5: [1.0, 4, 6, 4, 1]}[size])
    half = size // 2
    out = Blur(size)(impulse)
    assert out.shape == impulse.shape
    assert out[0, 0].abs().max() == 0
    window = out[0, 1, 4 - half : 5 + half, 4 - half : 5 + half]
    torch.testing.assert_close(window, torch.outer(row, row) / row.sum() ** 2)
    torch.testing.assert_close(out.sum(), torch.tensor(1.0))


def test_blur_pads_with_zeros():
    corner = Blur(5)(torch.ones(1, 1, 9, 9))[0, 0, 0, 0].item()
    assert corner == pytest.approx((11 / 16) ** 2)


@contextmanager
def one_process_group():
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        yield
    finally:
        dist.destroy_process_group()


class TestSecondMoment:
    def test_untrained_does_not_normalise(self):
        moment = SecondMoment(3).eval()
        torch.testing.assert_close(moment(torch.full((2, 3, 4, 4), 7.0)), torch.ones(3))
        assert not moment.initialised

    def test_first_batch_sets_it_then_it_moves_slowly(self):
        moment = SecondMoment(2)
        first = torch.randn(3, 2, 4, 5) * torch.tensor([1.0, 3.0])[:, None, None]
        factors = moment(first)
        torch.testing.assert_close(factors, first.square().mean((0, 2, 3)).rsqrt())
        assert moment.initialised
        second = torch.full((1, 2, 2, 2), 10.0)
        moment(second)
        wanted = 0.995 * first.square().mean((0, 2, 3)) + 0.005 * 100
        torch.testing.assert_close(moment.mean_square, wanted)
        torch.testing.assert_close(moment.eval()(torch.randn(1, 2, 1, 1)), wanted.rsqrt())
        torch.testing.assert_close(moment.mean_square, wanted)

    def test_an_empty_image_leaves_finite_factors(self):
        assert SecondMoment(2)(torch.zeros(1, 2, 3, 3)).isfinite().all()

    @pytest.mark.parametrize("grouped", [False, True])
    def test_it_compiles_without_a_break_in_a_group_of_processes_too(self, grouped):
        torch.manual_seed(0)
        eager, compiled = ModulatedConv(5, 4, 3), ModulatedConv(5, 4, 3)
        compiled.load_state_dict(eager.state_dict())
        call = torch.compile(compiled, backend="aot_eager", fullgraph=True)
        x, style = torch.randn(2, 5, 6, 6), torch.randn(2, 3)
        with one_process_group() if grouped else nullcontext():
            for step in range(2):
                torch.testing.assert_close(call(x + step, style), eager(x + step, style))
        torch.testing.assert_close(compiled.moment.mean_square, eager.moment.mean_square)
        assert compiled.moment.initialised

    def test_half_precision_does_not_overflow(self):
        moment = SecondMoment(1)
        moment(torch.full((1, 1, 2, 2), 1000.0, dtype=torch.float16))
        assert moment.mean_square.item() == pytest.approx(1e6)


@pytest.mark.parametrize(
    ("options", "size"),
    [({}, 8), (dict(stride=2), 4), (dict(stride=2, transposed=True), 16), (dict(kernel=1, activation=False), 8)],
    ids=["plain", "down", "up", "last"],
)
def test_layer_follows_its_formula(options, size):
    torch.manual_seed(0)
    layer = ModulatedConv(4, 6, 10, **options).double()
    torch.nn.init.normal_(layer.bias)
    x, style = torch.randn(2, 4, 8, 8).double(), torch.randn(2, 10).double()
    transposed, stride = layer.transposed, layer.stride
    fan = 4 * layer.weight.shape[-1] ** 2
    modulation = F.linear(style, layer.style.weight / math.sqrt(10), layer.style.bias)
    y = layer.blur(x) if stride == 2 and not transposed else x
    y = y / y.square().mean((0, 2, 3), keepdim=True).sqrt()
    weight = layer.weight / math.sqrt(fan)
    y = per_sample_weights(y, weight, modulation, layer.bias, stride, transposed, layer.activation)
    y = layer.blur(y) if transposed else y
    wanted = F.leaky_relu(y, 0.2) * math.sqrt(2) if layer.activation else y
    found = layer(x, style)
    assert found.shape == (2, 6, size, size)
    torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
def test_the_last_layer_is_not_rounded_by_autocast(half, recompute):
    """Nor is its gradient, for a target that differs by less than half precision can tell."""
    torch.manual_seed(0)
    layer = ModulatedConv(8, 3, 4, kernel=1, activation=False)
    layer.recompute = recompute
    x, style = torch.randn(2, 8, 6, 6).to(half), torch.randn(2, 4).to(half)
    wanted = layer(x.float(), style.float())
    with torch.autocast("cpu", half):
        found = layer(x, style)
    torch.testing.assert_close(found, wanted)
    F.l1_loss(found, wanted.detach() - 1e-5, reduction="sum").backward()
    assert torch.equal(layer.bias.grad, torch.full((3,), 2 * 6 * 6.0))


def test_equalised_layers_scale_at_use():
    torch.manual_seed(0)
    linear = EqualisedLinear(400, 300, bias=1.0)
    convolution = EqualisedConv(50, 40, kernel=3, stride=2)
    for layer in (linear, convolution):
        assert layer.weight.std().item() == pytest.approx(1, abs=0.02)
    x = torch.randn(2, 400)
    torch.testing.assert_close(linear(x), x @ linear.weight.T / 20 + 1, rtol=1e-4, atol=1e-4)
    assert convolution(torch.randn(4, 50, 16, 16)).std().item() == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("when", [0, 1])
def test_a_batch_that_is_not_finite_leaves_no_trace_in_the_statistic(bad, when):
    moment, other = SecondMoment(3), SecondMoment(3)
    batches = torch.randn(3, 2, 3, 4, 4)
    for i, batch in enumerate(batches):
        moment(batch)
        if i == when:
            other(torch.where(batch == batch[0, 0, 0, 0], bad, batch))
        other(batch)
    assert torch.equal(other.mean_square, moment.mean_square) and other.initialised
