import socket
import warnings

import pytest
import torch
from torchvision.models import alexnet, vgg16

from hvs.losses import PerceptualLoss, load_lpips, load_perceptual, pixel_loss
from hvs.losses.perceptual import pyramid


def test_pyramid_averages_neighbours():
    image = torch.arange(64.0).view(1, 1, 8, 8)
    scales = pyramid(image)
    assert [tuple(s.shape[-2:]) for s in scales] == [(8, 8), (4, 4), (2, 2)]
    torch.testing.assert_close(scales[1], torch.nn.functional.avg_pool2d(image, 2))


def test_pixel_loss_sums_three_scales():
    target = torch.rand(2, 3, 8, 8)
    assert pixel_loss(target, target) == 0
    assert pixel_loss(target + 0.1, target).item() == pytest.approx(0.3, rel=1e-5)
    # One pixel that is off by 1 is off by 1/4 and 1/16 in the halves, of which there are 1/4 and 1/16 as many.
    spot = torch.zeros(1, 1, 8, 8)
    spot[..., 3, 4] = 1
    assert pixel_loss(spot, torch.zeros_like(spot)).item() == pytest.approx(3 / 64)


@pytest.fixture
def offline(monkeypatch, tmp_path):
    """An empty download cache, and a network on which any connection fails the test."""

    def refuse(*_):
        pytest.fail("tried to reach the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    return tmp_path / "hub" / "checkpoints"


@pytest.mark.parametrize(("net", "file"), [("vgg", "vgg16-397923af.pth"), ("alex", "alexnet-owt-7be5be79.pth")])
def test_without_weights_there_is_one_warning_and_no_network(offline, net, file):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert load_lpips(net) is None
    assert len(caught) == 1
    message = str(caught[0].message)
    assert file in message and str(offline / file) in message and "\n" not in message


def test_without_weights_there_is_no_perceptual_loss(offline):
    with pytest.warns(UserWarning, match="training goes on with the pixel loss"):
        assert load_perceptual() is None


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """Random weights in torchvision's layout stand in for the published ones: what is tested is where they go."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "alexnet-owt-7be5be79.pth"
    # The layers behind the features, which nothing reads, take most of such a file.
    states = alexnet(weights=None).state_dict().items()
    torch.save({name: value if name.startswith("features.") else value[:1].clone() for name, value in states}, path)
    return path


@pytest.fixture(scope="module")
def vgg():
    """LPIPS on a VGG with random weights; making it takes a second."""
    from lpips import LPIPS

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return LPIPS(net="vgg", pnet_rand=True, verbose=False).eval()


class TestWithWeights:
    def test_the_files_weights_are_used(self, offline, file):
        distance = load_lpips("alex", file)
        state = torch.load(file, weights_only=True)
        for name, value in distance.net.state_dict().items():
            torch.testing.assert_close(value, state["features." + name.partition(".")[2]])
        assert not distance.training and not any(p.requires_grad for p in distance.parameters())

    def test_the_cache_is_found(self, offline, file):
        offline.mkdir(parents=True)
        (offline / file.name).symlink_to(file)
        assert load_lpips("alex") is not None

    def test_the_loss_sums_three_scales_and_has_gradients(self, offline, file):
        distance = load_lpips("alex", file)
        loss = PerceptualLoss(distance)
        target = torch.rand(2, 3, 128, 128)
        predicted = torch.rand(2, 3, 128, 128, requires_grad=True)
        assert loss(target, target) == 0
        found = loss(predicted, target)
        wanted = sum(
            distance(2 * a - 1, 2 * b - 1).mean() for a, b in zip(pyramid(predicted), pyramid(target), strict=True)
        )
        torch.testing.assert_close(found, wanted)
        found.backward()
        assert predicted.grad.abs().sum() > 0

    def test_the_target_takes_no_gradient_and_one_pass_per_scale(self, offline, file):
        distance = load_lpips("alex", file)
        passes = []
        distance.net.register_forward_hook(lambda _, inputs, __: passes.append(torch.is_grad_enabled()))
        predicted, target = (torch.rand(1, 3, 128, 128, requires_grad=True) for _ in range(2))
        PerceptualLoss(distance)(predicted, target).backward()
        assert target.grad is None
        assert passes == [False, True] * 3

    def test_gradients_are_those_of_the_package(self, offline, file):
        distance = load_lpips("alex", file).double()
        target = torch.rand(1, 3, 128, 128, dtype=torch.float64)
        predicted = torch.rand(1, 3, 128, 128, dtype=torch.float64, requires_grad=True)
        (found,) = torch.autograd.grad(PerceptualLoss(distance)(predicted, target), predicted)
        pairs = zip(pyramid(predicted), pyramid(target), strict=True)
        (wanted,) = torch.autograd.grad(sum(distance(a, b, normalize=True).mean() for a, b in pairs), predicted)
        assert (found - wanted).norm() < 1e-4 * wanted.norm()

    def test_gradients_are_finite_where_there_are_no_features(self, offline, file):
        distance = load_lpips("alex", file)
        with torch.no_grad():
            for parameter in distance.net.parameters():
                parameter.zero_()
        predicted = torch.rand(1, 3, 128, 128, requires_grad=True)
        PerceptualLoss(distance)(predicted, torch.rand(1, 3, 128, 128)).backward()
        assert predicted.grad.isfinite().all()

    def test_features_of_vgg_are_weighted_from_fine_to_coarse(self, offline, file):
        distance = load_lpips("alex", file)
        loss = PerceptualLoss(distance, "vgg")
        target, predicted = torch.rand(2, 2, 3, 128, 128).unbind()
        wanted = 0
        for a, b in zip(pyramid(predicted), pyramid(target), strict=True):
            a, b = (distance.net(distance.scaling_layer(2 * image - 1)) for image in (a, b))
            for power, x, y in zip((5, 4, 3, 2, 0), a, b, strict=True):
                wanted += (x - y).abs().mean() / 2**power
        torch.testing.assert_close(loss(predicted, target), wanted)
        with pytest.raises(ValueError, match="kind: got 'l2', wanted"):
            PerceptualLoss(distance, "l2")

    @pytest.mark.parametrize("content", ["truncated", "empty", "other", "missing"])
    def test_a_given_file_that_is_not_right_is_named(self, offline, file, tmp_path, content):
        path = tmp_path / "mine.pth"
        if content == "other":
            torch.save({"features.0.weight": torch.zeros(1)}, path)
        elif content != "missing":
            path.write_bytes(file.read_bytes()[: 5000 if content == "truncated" else 0])
        with pytest.raises(ValueError, match=r"mine\.pth: (not torchvision's|no such file)") as error:
            load_lpips("alex", path)
        assert "\n" not in str(error.value)


def test_vgg_weights_fit(offline, tmp_path):
    path = tmp_path / "vgg.pth"
    with torch.device("meta"):
        names = vgg16(weights=None).features.state_dict()
    torch.save({f"features.{name}": torch.full(value.shape, 0.01) for name, value in names.items()}, path)
    loss = load_perceptual(path)
    assert loss.distance.net.slice5.get_submodule("28").weight.unique().item() == pytest.approx(0.01)


@pytest.mark.parametrize(("side", "scales"), [(64, 3), (63, 2), (32, 2), (16, 1)])
def test_scales_too_small_for_the_classifier_are_left_out(vgg, side, scales):
    predicted, target = torch.rand(2, 1, 3, side, side)
    pairs = zip(pyramid(predicted, scales), pyramid(target, scales), strict=True)
    wanted = sum(vgg(a, b, normalize=True).mean() for a, b in pairs)
    torch.testing.assert_close(PerceptualLoss(vgg)(predicted, target), wanted)


def test_training_mode_does_not_make_the_distance_a_matter_of_chance(vgg):
    """LPIPS has dropout in the layers that weigh its features."""
    loss = PerceptualLoss(vgg)
    pictures = torch.rand(2, 1, 3, 64, 64)
    wanted = loss(*pictures)
    module = torch.nn.ModuleList([loss]).train()
    assert module[0].training and torch.equal(loss(*pictures), wanted)
