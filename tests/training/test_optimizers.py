"""Which parts are trained at which rates, and how the rates go."""

from dataclasses import replace

import pytest
import torch

from hvs import HumanViewSynthesis
from hvs.config import LifterSettings, SynthesisSettings
from hvs.models import Discriminator
from hvs.presets import PRESETS
from hvs.training.optimizers import critic_optimizer, lifter_optimizer, set_rates, synthesis_optimizer, train_mode


@pytest.fixture
def model():
    return HumanViewSynthesis(PRESETS["tiny"].model)


def trained(model):
    return [name for name, part in model.named_children() if all(p.requires_grad for p in part.parameters())]


def rates(optimizer):
    return {group["name"]: group["lr"] for group in optimizer.param_groups}


def test_every_part_has_its_rate(model):
    found = rates(synthesis_optimizer(model, SynthesisSettings()))
    assert found == pytest.approx({"decoder": 2e-3, "encoder": 2e-4, "lifter": 5e-6})
    assert trained(model) == ["lifter", "encoder", "decoder"]


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        (dict(encoder_rate=0.0), ["lifter", "decoder"]),
        (dict(encoder_rate=0.0, lifter_rate=0.0), ["decoder"]),
        (dict(image_loss="adversarial"), ["encoder", "decoder"]),
        (dict(image_loss="adaptive", lifter_rate=1.0), ["encoder", "decoder"]),
    ],
    ids=str,
)
def test_parts_without_a_rate_and_the_lifter_against_a_discriminator_are_held(model, changes, wanted):
    optimizer = synthesis_optimizer(model, SynthesisSettings(**changes))
    assert trained(model) == wanted and set(rates(optimizer)) == set(wanted)
    train_mode(model.train())
    assert [name for name, part in model.named_children() if all(p.training for p in part.modules())] == wanted
    held = [part for name, part in model.named_children() if name not in wanted]
    assert not any(part.training for whole in held for part in whole.modules())


def test_options_reach_the_optimisers(model):
    settings = SynthesisSettings(image_loss="adaptive", momentum=0.5, amsgrad=False, weight_decay=0.3)
    for optimizer in (synthesis_optimizer(model, settings), critic_optimizer(Discriminator(), settings)):
        (found,) = {(group["betas"], group["amsgrad"], group["weight_decay"]) for group in optimizer.param_groups}
        assert found == ((0.5, 0.99), False, 0.3) and optimizer.defaults["fused"]
    (group,) = lifter_optimizer(model, LifterSettings(learning_rate=0.2)).param_groups
    assert group["lr"] == 0.2 and group["amsgrad"] and len(group["params"]) == len(list(model.lifter.parameters()))


def test_rates_warm_up_and_go_down_to_a_part():
    optimizer = torch.optim.SGD([{"params": [torch.ones(1)], "lr": rate} for rate in (1.0, 0.1)])
    seen = []
    for step in range(100):
        set_rates(optimizer, step, 100)
        seen.append([group["lr"] for group in optimizer.param_groups])
    first = [rate for rate, _ in seen]
    assert first[:2] == pytest.approx([0.5, 1.0]) and first[1:] == sorted(first[1:], reverse=True)
    assert first[51] == pytest.approx((1 + 0.05) / 2) and first[-1] == pytest.approx(0.05, abs=1e-3)
    assert all(other == pytest.approx(rate / 10) for rate, other in seen)
    # Of the step alone: one that goes on has the rates that it would have had.
    set_rates(optimizer, 30, 100)
    assert [group["lr"] for group in optimizer.param_groups] == seen[30]
    set_rates(optimizer, 0, 1)
    assert optimizer.param_groups[0]["lr"] == 1.0


def test_one_epoch_warms_up():
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.AdamW([weight], 2.0)
    rates = []
    for step in (0, 4, 9, 10):
        set_rates(optimizer, step, 2000, epochs=200)
        rates.append(optimizer.param_groups[0]["lr"])
    assert rates == pytest.approx([0.2, 1.0, 2.0, 2.0], rel=1e-4)


def test_epochs_count_poses():
    settings = LifterSettings(steps=7, batch_size=10)
    assert settings.count_steps(1000) == 7
    assert replace(settings, epochs=3).count_steps(25) == 8
