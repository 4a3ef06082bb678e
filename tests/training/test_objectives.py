"""Losses of a batch by name, beside their formulas, and who takes which gradient."""

import pytest
import torch

from hvs.config import PRESETS
from hvs.data import PairDataset, PoseDataset, collate
from hvs.losses import TERMS, WEIGHTS, AdaptiveAugmentation
from hvs.models import Discriminator, HumanViewSynthesis
from hvs.training.objectives import Critic, LifterObjective, SynthesisObjective, total


@pytest.fixture
def model():
    torch.manual_seed(0)
    return HumanViewSynthesis(PRESETS["tiny"].model)


@pytest.fixture
def batch(capture):
    dataset = PairDataset(capture.root, input_resolution=32, target_resolution=32, same_view=False)
    return collate([dataset[i] for i in (0, 5)])


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
