"""Losses of a batch by name, beside their formulas, and who takes which gradient."""

import warnings
from dataclasses import replace

import pytest
import torch

from hvs.data import PairDataset, PoseDataset, collate
from hvs.losses import (
    TERMS,
    WEIGHTS,
    AdaptiveAugmentation,
    PerceptualLoss,
    discriminator_loss,
    feature_matching_loss,
    generator_loss,
    r1_penalty,
)
from hvs.models import Discriminator, HumanViewSynthesis
from hvs.presets import PRESETS
from hvs.training.objectives import Critic, LifterObjective, SynthesisObjective, total


@pytest.fixture
def model():
    torch.manual_seed(0)
    return HumanViewSynthesis(PRESETS["tiny"].model)


@pytest.fixture
def batch(capture):
    return read_batch(capture, 32)


def read_batch(capture, resolution):
    dataset = PairDataset(capture.root, input_resolution=32, target_resolution=resolution, same_view=False)
    return collate([dataset[i] for i in (0, 5)])


@pytest.fixture
def perceptual():
    """Without its weights, which is all the same to a compiler."""
    from lpips import LPIPS

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return PerceptualLoss(LPIPS(net="vgg", pnet_rand=True, verbose=False).eval().requires_grad_(False))


def losses_and_gradients(call, parameters):
    """Of a call that gives losses by name, with the same random numbers every time."""
    torch.manual_seed(1)
    losses = call()
    return losses, torch.autograd.grad(total(losses), list(parameters), allow_unused=True)


def test_every_term_has_a_weight():
    assert {term for terms in TERMS.values() for term in terms} < set(WEIGHTS)


def test_total_is_the_weighted_sum():
    losses = {"pixel": torch.tensor(0.5), "pose": torch.tensor(2.0), "appearance": torch.tensor(100.0)}
    assert total(losses).item() == pytest.approx(5 + 2 + 0.1)
    with pytest.raises(KeyError):
        total({"unheard of": torch.ones(())})


@pytest.mark.parametrize("weigh_parts", [True, False])
def test_the_pose_loss_can_weigh_every_joint_alike(model, weigh_parts):
    objective = LifterObjective(model, weigh_parts)
    relative = torch.randn(2, 117, 3)
    relative -= relative[:, model.skeleton.root, None].clone()
    valid = torch.ones(2, 117, dtype=torch.bool)
    assert objective.distance(relative, relative, valid) == pytest.approx(0, abs=1e-6)
    lifted = relative.clone()
    lifted[:, 30] += torch.tensor([0.0, 0.3, 0.4])
    # Joint 30 is one of the left hand's twenty.
    wanted = 10 * 0.5 / 20 if weigh_parts else 0.5 / 117
    assert objective.distance(lifted, relative, valid).item() == pytest.approx(wanted, rel=1e-4)


@pytest.mark.parametrize("weigh_parts", [True, False])
def test_lifter(model, capture, weigh_parts):
    dataset = PoseDataset(capture.root)
    losses = LifterObjective(model, weigh_parts)(collate([dataset[i] for i in range(4)]))
    assert list(losses) == ["pose"]
    losses["pose"].backward()
    assert all(parameter.grad is not None for parameter in model.lifter.parameters())
    assert all(parameter.grad is None for parameter in model.decoder.parameters())


def test_synthesis_without_a_critic(model, batch):
    losses, found = SynthesisObjective(model, True)(batch)
    assert set(losses) == {"pixel", "appearance", "pose"} and found["image"].shape == (2, 3, 32, 32)
    total(losses).backward()
    for part in (model.lifter, model.encoder, model.decoder):
        assert any(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in part.parameters())


@pytest.mark.parametrize("augmented", [False, True])
def test_model_and_critic_take_each_their_own_gradients(model, batch, augmented):
    augmentation = AdaptiveAugmentation() if augmented else None
    if augmented:
        augmentation.probability.fill_(0.5)
    critic = Critic(Discriminator(), augmentation)
    objective = SynthesisObjective(model, True, critic=critic)
    assert not any(name.startswith(("critic", "_critic", "discriminator")) for name in objective.state_dict())
    losses, found = objective(batch)
    assert set(losses) == {"pixel", "appearance", "pose", "adversarial", "matching"}
    total(losses).backward()
    assert all(parameter.grad is None for parameter in critic.parameters())
    assert all(parameter.requires_grad for parameter in critic.parameters())
    model.zero_grad(set_to_none=True)

    judged = critic(found["image"], batch["image_b"], penalise=False)
    assert set(judged) == {"discriminator"}
    judged = critic(found["image"], batch["image_b"], penalise=True)
    assert set(judged) == {"discriminator", "r1"}
    total(judged).backward()
    assert all(parameter.grad is not None for parameter in critic.parameters())
    assert all(parameter.grad is None for parameter in model.parameters())
    if augmented:
        assert augmentation.probability != 0.5


def test_the_losses_of_model_and_critic_are_those_of_their_formulas():
    torch.manual_seed(0)
    critic, (fake, real) = Critic(Discriminator()), torch.rand(2, 2, 3, 32, 32)

    def logits(pictures):
        return critic.discriminator(pictures)[0]

    activations = [critic.discriminator(pictures)[1] for pictures in (fake, real)]
    wanted = {"adversarial": generator_loss(logits(fake)), "matching": feature_matching_loss(*activations)}
    torch.testing.assert_close(critic.judge(fake, real), wanted)
    # As the penalty is left out of fifteen steps of sixteen.
    wanted = {"discriminator": discriminator_loss(logits(real), logits(fake)), "r1": 16 * r1_penalty(logits, real)}
    torch.testing.assert_close(critic(fake, real, penalise=True), wanted)


def test_compiles_as_one_graph(capture, perceptual):
    """Losses and gradients are the uncompiled ones, and another batch needs no other graph."""
    torch._dynamo.reset()
    torch.manual_seed(0)
    # The smallest that VGG can look at in three scales, and a lifter that is not normalised to mere signs.
    model = HumanViewSynthesis(replace(PRESETS["tiny"].model, d_embedding=128, target_resolution=64))
    batch = read_batch(capture, 64)
    augmentation = AdaptiveAugmentation()
    augmentation.probability.fill_(0.5)
    objective = SynthesisObjective(model, True, perceptual, Critic(Discriminator(), augmentation))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    wanted = losses_and_gradients(lambda: objective(batch)[0], model.parameters())
    model.load_state_dict(before)
    objective.compile(backend="aot_eager", fullgraph=True)
    found = losses_and_gradients(lambda: objective(batch)[0], model.parameters())
    torch.testing.assert_close(found[0], wanted[0], rtol=1e-5, atol=1e-6)
    for (name, _), one, other in zip(model.named_parameters(), found[1], wanted[1], strict=True):
        assert (one - other).norm() <= 1e-4 * other.norm(), name
    other = {name: value.flip(0) if torch.is_tensor(value) else value for name, value in batch.items()}
    with torch.compiler.set_stance("fail_on_recompile"):
        losses, _ = objective(other | {"name": ["another", "name"]})
    assert all(value.isfinite() for value in losses.values())


def test_the_critic_compiles_but_for_its_penalty():
    torch._dynamo.reset()
    torch.manual_seed(0)
    critic, pictures = Critic(Discriminator(), AdaptiveAugmentation()), torch.rand(2, 2, 3, 32, 32)

    def call(penalise):
        critic.augmentation.probability.fill_(0.5)
        return losses_and_gradients(lambda: critic(*pictures, penalise), critic.parameters())

    wanted = [call(penalise) for penalise in (False, True)]
    critic.compile(backend="aot_eager", fullgraph=True)
    found = [call(penalise) for penalise in (False, True)]
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)
    assert critic.augmentation.probability != 0.5
