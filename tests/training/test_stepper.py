"""Steps: those of the optimiser alone, left out where something is not finite, and told."""

import copy

import pytest
import torch
from torch import nn

from hvs.runtime import UserError
from hvs.training import stepper as module
from hvs.training.optimizers import set_rates
from hvs.training.stepper import Stepper


def make(seed=0, **options):
    torch.manual_seed(seed)
    layer = nn.Linear(4, 3)
    optimizer = torch.optim.AdamW(layer.parameters(), 1e-2, betas=(0.0, 0.99), amsgrad=True, fused=True)
    return layer, Stepper("layer", optimizer, **options)


def take(layer, stepper, step, factor=1.0, samples=("a", "b")):
    loss = (layer(torch.full((2, 4), 0.1 * (step + 1))) * factor).square().mean()
    stepper.backward(loss)
    stepper.step(step, {"first": loss, "second": torch.zeros(())}, samples)


def values(layer, stepper):
    state = stepper.optimizer.state_dict()["state"]
    return [*layer.state_dict().values(), *(value for part in state.values() for value in part.values())]


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(values(*one), values(*other), strict=True))


def test_steps_are_those_of_the_optimiser():
    one, (layer, stepper) = make(), make()
    for step in range(3):
        take(*one, step)
        loss = layer(torch.full((2, 4), 0.1 * (step + 1))).square().mean()
        loss.backward()
        stepper.optimizer.step()
        stepper.optimizer.zero_grad()
    assert same(one, (layer, stepper))


def test_gradients_are_clipped_together():
    layer, stepper = make(clip_norm=0.5)
    stepper.backward(1000 * layer(torch.ones(1, 4)).square().sum())
    norms = []
    stepper.optimizer.register_step_pre_hook(
        lambda *_: norms.append(torch.cat([p.grad.flatten() for p in layer.parameters()]).norm().item())
    )
    stepper.step(0, {"loss": torch.ones(())})
    assert norms == [pytest.approx(0.5, rel=1e-4)]


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("when", [0, 1, 2])
def test_a_step_that_is_not_finite_changes_nothing(bad, when):
    one, other = make(), make()
    for step in range(3):
        take(*one, step)
        if step == when:
            before = [value.clone() for value in values(*other)]
            take(*other, step, factor=bad)
            # The first step makes the moments.
            after = values(*other)
            assert all(torch.equal(a, b) for a, b in zip(before, after, strict=False))
        take(*other, step)
    assert same(one, other)
    assert other[1].check() == 1 and other[1].skipped == 1 and one[1].check() == 0


@pytest.mark.parametrize("scaled", [False, True])
def test_a_loss_that_is_not_finite_leaves_the_step_out_though_its_gradient_is(scaled):
    layer, stepper = make(scaled=scaled)
    before = [parameter.clone() for parameter in layer.parameters()]
    stepper.backward(layer(torch.ones(1, 4)).sum())
    stepper.step(0, {"loss": torch.tensor(torch.nan)})
    assert stepper.check() == 1
    assert all(torch.equal(a, b) for a, b in zip(before, layer.parameters(), strict=True))


def test_too_many_are_reported_with_losses_and_samples(monkeypatch):
    monkeypatch.setattr(module, "MOST_SKIPPED", 2)
    layer, stepper = make()
    for step in range(2):
        take(layer, stepper, step, factor=float("nan"))
    assert stepper.check() == 2
    for step in range(5, 8):
        take(layer, stepper, step, factor=float("nan"), samples=[f"pair {n}" for n in range(20)])
    with pytest.raises(UserError) as caught:
        stepper.check()
    assert str(caught.value) == (
        "layer: 5 of the last 8 steps were not finite; in step 7 it was first, the gradient, with "
        "pair 0, pair 1, pair 2, pair 3, pair 4, pair 5, pair 6, pair 7 ..."
    )


def test_too_many_in_all_are_reported_however_often_one_looks(monkeypatch):
    monkeypatch.setattr(module, "MOST_SKIPPED", 2)
    monkeypatch.setattr(module, "REMEMBERED", 10)
    layer, stepper = make()
    # Two in any ten steps are nothing.
    for step in range(0, 60, 5):
        take(layer, stepper, step, factor=float("nan"))
        assert stepper.check() == 1
    take(layer, stepper, 56, factor=float("nan"))
    # Nor does a stop in between make them fewer.
    layer, other = make()
    other.load_state_dict(stepper.state_dict())
    take(layer, other, 57, factor=float("nan"))
    for one in (stepper, other):
        with pytest.raises(UserError, match="layer: 3 of the last 10 steps were not finite"):
            one.check()


def test_with_nothing_left_to_scale_an_overflow_is_told():
    layer, stepper = make(scaled=True)
    for step in range(40):
        stepper.backward(layer(torch.ones(1, 4)).sum() * torch.nan)
        stepper.step(step, {"loss": torch.ones(())})
    # The scale begins at 2^16, and is halved every time.
    with pytest.raises(
        UserError, match="layer: 24 of the last 40 steps were not finite; in step 39 it was the gradient"
    ):
        stepper.check()


def test_a_state_brings_moments_and_no_settings():
    layer, stepper = make()
    take(layer, stepper, 0)
    state = stepper.state_dict()
    layer, other = make()
    other.optimizer.param_groups[0].update(lr=0.5, weight_decay=0.25)
    other.load_state_dict(state)
    assert (other.optimizer.param_groups[0]["lr"], other.optimizer.param_groups[0]["weight_decay"]) == (0.5, 0.25)
    # A schedule begins with the new rate.
    set_rates(stepper.optimizer, 0, 100)
    layer, third = make()
    third.optimizer.param_groups[0].update(lr=0.5)
    third.load_state_dict(stepper.state_dict())
    set_rates(third.optimizer, 1, 100)
    assert third.optimizer.param_groups[0]["lr"] == 0.5
    take(layer, third, 1)
    moments = (part.optimizer.state_dict()["state"][0]["exp_avg_sq"] for part in (stepper, other))
    assert torch.equal(*moments)
    # Other moments cannot be made of them.
    layer, fourth = make()
    fourth.optimizer.param_groups[0].update(amsgrad=False)
    with pytest.raises(ValueError, match="amsgrad: got False, but the state's moments are those of True"):
        fourth.load_state_dict(state)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda state: state["optimizer"]["state"][0].update(exp_avg=torch.zeros(7)),
        lambda state: state["optimizer"]["state"][0].update(exp_avg="1"),
        lambda state: state["optimizer"]["state"][0].pop("exp_avg_sq"),
        lambda state: state.update(skipped="3"),
        lambda state: state.update(faults=[None]),
        lambda state: state["scaler"].update(scale={}),
        lambda state: state["scaler"].update(_growth_tracker=2**64),
    ],
    ids=["shape", "text", "missing", "skipped", "faults", "scale", "huge"],
)
def test_what_would_fail_only_later_is_told_at_once(spoil):
    layer, stepper = make(scaled=True)
    take(layer, stepper, 0)
    state = copy.deepcopy(stepper.state_dict())
    spoil(state)
    with pytest.raises(ValueError, match="its moments are not|it has no numbers"):
        make(scaled=True)[1].load_state_dict(state)


@pytest.mark.parametrize("scaled", [False, True])
def test_a_run_may_go_on_in_another_precision(scaled):
    """A scale is looked for anew if the state has none."""
    layer, stepper = make(scaled=not scaled)
    take(layer, stepper, 0)
    other, resumed = make(seed=5, scaled=scaled)
    other.load_state_dict(layer.state_dict())
    resumed.load_state_dict(copy.deepcopy(stepper.state_dict()))
    fresh = torch.amp.GradScaler("cpu", enabled=scaled)
    assert resumed.scaler.get_scale() == fresh.get_scale()
    for each, steps in ((layer, stepper), (other, resumed)):
        take(each, steps, 1)
    for one, two in zip(layer.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(one, two)


def test_state_goes_on_where_it_was():
    one, other = make(), make()
    for step in range(4):
        take(*one, step)
    for step in range(2):
        take(*other, step)
    state, weights = other[1].state_dict(), other[0].state_dict()
    layer, stepper = make(seed=5)
    layer.load_state_dict(weights)
    stepper.load_state_dict(state)
    for step in range(2, 4):
        take(layer, stepper, step)
    assert same(one, (layer, stepper))


def test_a_scale_goes_on_where_it_was():
    layer, stepper = make(scaled=True)
    take(layer, stepper, 0, factor=float("nan"))
    _, other = make(scaled=True)
    other.load_state_dict(copy.deepcopy(stepper.state_dict()))
    assert other.scaler.get_scale() == stepper.scaler.get_scale() == 2**15


def test_scaled_losses_have_the_same_steps():
    """A power of two leaves the bits as they are; an overflow lowers the scale and is not told."""
    one, other = make(clip_norm=1.0), make(clip_norm=1.0, scaled=True)
    for step in range(3):
        take(*one, step)
        take(*other, step)
    assert same(one, other)
    scale = other[1].scaler.get_scale()
    layer, stepper = other
    before = [value.clone() for value in layer.state_dict().values()]
    stepper.backward(layer(torch.full((1, 4), 1e38)).square().sum().clamp(max=1e30) * 0 + layer.weight.sum() * 1e36)
    stepper.step(3, {"loss": torch.ones(())})
    assert stepper.scaler.get_scale() < scale and stepper.check() == 0
    assert all(torch.equal(a, b) for a, b in zip(before, layer.state_dict().values(), strict=True))
