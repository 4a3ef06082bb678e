import pytest
import torch

from hvs.models import Decoder


def make(base=8, doublings=0, **options):
    torch.manual_seed(0)
    decoder = Decoder(4, 3 * 4, base, doublings, **options)
    return decoder, torch.randn(2, 4, 32, 32), torch.randn(2, 3, 4)


@pytest.mark.parametrize("doublings", [0, 1, 4])
def test_picture_is_the_latent_doubled(doublings):
    decoder, latent, appearance = make(doublings=doublings)
    with torch.no_grad():
        assert decoder(latent[..., :16, :], appearance).shape == (2, 3, 16 * 2**doublings, 32 * 2**doublings)


def test_widths_double_three_times_and_halve_outside():
    decoder, _, _ = make(doublings=2)
    assert [block[1].weight.shape[0] for block in decoder.down] == [16, 32, 64, 64]
    assert [layer.weight.shape[:2] for layer in decoder.up] == [(64, 64), (64, 32), (32, 16), (16, 8)]
    assert [layer.weight.shape[:2] for layer in decoder.merge] == [(64, 128), (32, 64), (16, 32), (8, 16)]
    assert [block[0].weight.shape[:2] for block in decoder.outer] == [(8, 4), (4, 2)]
    assert decoder.to_rgb.weight.shape == (3, 2, 1, 1)


def test_gradients_reach_inputs_and_every_parameter():
    decoder, latent, appearance = make(doublings=1)
    latent.requires_grad_(), appearance.requires_grad_()
    decoder(latent, appearance).square().sum().backward()
    for name, tensor in [("latent", latent), ("appearance", appearance), *decoder.named_parameters()]:
        assert tensor.grad.isfinite().all() and tensor.grad.abs().sum() > 0, name


@pytest.mark.parametrize("compiled", [False, True])
def test_saving_memory_keeps_less_and_changes_nothing(compiled):
    def run(sparing):
        decoder, latent, appearance = make(doublings=1)
        if sparing:
            decoder.save_memory()
        call = torch.compile(decoder, backend="aot_eager", fullgraph=True) if compiled else decoder
        kept = {}

        def keep(tensor):
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        # A second step would see a statistic that had moved twice.
        for _ in range(2):
            kept.clear()
            with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
                picture = call(latent, appearance)
            gradients = torch.autograd.grad(picture.square().sum(), list(decoder.parameters()))
        return sum(kept.values()), picture.detach(), gradients, decoder.state_dict()

    torch._dynamo.reset()
    (less, *found), (more, *wanted) = run(True), run(False)
    assert less < 0.75 * more
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)


def test_a_quiet_start_paints_little_and_like_for_all_styles():
    decoder, latent, _ = make(base=16, doublings=1)
    one, other = (decoder(latent, torch.randn(2, 3, 4)).detach() for _ in range(2))
    decoder.start_quiet()
    quiet_one, quiet_other = (decoder(latent, torch.randn(2, 3, 4)).detach() for _ in range(2))
    assert (quiet_one - 0.5).square().mean() < 0.05 * (one - 0.5).square().mean()
    # How much of the picture is the style's.
    loud, quiet = (
        ((a - b).square().mean() / (a - 0.5).square().mean()) for a, b in ((one, other), (quiet_one, quiet_other))
    )
    assert quiet < 0.2 * loud


def test_activations_stay_near_unit_size_at_the_start():
    decoder, latent, appearance = make(base=16)
    sizes = []
    for module in decoder.merge:
        module.register_forward_hook(lambda _, __, out: sizes.append(out.square().mean().sqrt().item()))
    decoder(latent, appearance)
    assert all(0.3 < size < 3 for size in sizes), sizes


def test_channels_last_gives_the_same_picture():
    decoder, latent, appearance = make(doublings=1)
    wanted = decoder.eval()(latent, appearance)
    found = decoder.to(memory_format=torch.channels_last)(latent.to(memory_format=torch.channels_last), appearance)
    assert found.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


def test_autocast_costs_little_more_than_half_precision_weights_do():
    decoder, latent, appearance = make(doublings=1)
    with torch.no_grad():
        decoder(latent, appearance)
        wanted = decoder.eval()(latent, appearance)
        with torch.autocast("cpu", torch.bfloat16):
            found = decoder(latent, appearance)
        # A random network amplifies any rounding, so the measure is what rounding the weights and nothing else does.
        for parameter in decoder.parameters():
            parameter.copy_(parameter.bfloat16())
        rounded = decoder(latent, appearance)
    assert found.dtype == torch.float32
    assert (found - wanted).norm() < 2 * (rounded - wanted).norm()


def test_statistics_stay_float32_under_autocast():
    decoder, latent, appearance = make()
    with torch.autocast("cpu", torch.bfloat16):
        decoder(latent, appearance)
    assert {layer.moment.mean_square.dtype for layer in decoder.merge} == {torch.float32}


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
def test_compiles_as_one_graph(training):
    decoder, latent, appearance = make(doublings=1)
    reference, _, _ = make(doublings=1)
    decoder.train(training), reference.train(training)
    compiled = torch.compile(decoder, backend="aot_eager", fullgraph=True)
    for _ in range(2):
        torch.testing.assert_close(compiled(latent, appearance), reference(latent, appearance), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(decoder.up[0].moment.mean_square, reference.up[0].moment.mean_square)
