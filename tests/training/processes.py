"""What test_distribute.py lets one process do, and two that torchrun starts, to compare them.

python -m tests.training.processes FOLDER
"""

import sys
import warnings
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

import train
from hvs import distribute
from hvs.data import PairDataset, PoseDataset, collate
from hvs.evaluation import average, evaluate, score
from hvs.losses import AdaptiveAugmentation
from hvs.models import Discriminator, HumanViewSynthesis
from hvs.models.layers import SecondMoment
from hvs.presets import PRESETS
from hvs.runtime import UserError, show_warning
from hvs.training import stepper as stepper_module
from hvs.training.making import make_critic
from hvs.training.objectives import Critic, LifterObjective
from hvs.training.stepper import Stepper
from tests.quick import quick_trainings


def settings(folder):
    """Small trainings of every stage, by name; passes hold the same pairs whatever the number of processes."""
    tiny = PRESETS["tiny"]
    base = replace(
        tiny,
        device="cpu",
        start_from=folder / "start.safetensors",
        checkpoint_every=1000,
        data=replace(tiny.data, root=folder / "capture", validation_pairs=0),
    )

    def lifter(**options):
        return replace(base, stages=("lifter",), lifter=replace(base.lifter, steps=5, **options))

    def synthesis(**options):
        synthesis = replace(base.synthesis, steps=3, batch_size=4, log_every=1, **options)
        return replace(base, stages=("synthesis",), synthesis=synthesis)

    return {
        "lifter": lifter(),
        "lifter by parts": lifter(weigh_parts=True, virtual_views=0.0),
        "synthesis": synthesis(image_loss="pixel"),
        "adversarial, in passes": synthesis(
            image_loss="adversarial", most_at_once=2 // distribute.world(), lifter_rate=0.0, average=0.9
        ),
    }


class DoubleCritic(Critic):
    def forward(self, fake, real, penalise, part):
        return super().forward(fake.double(), real, penalise, part)


class Curve(train.Watch):
    """Keeps the losses of every pass, by name, as means over the processes; draws nothing."""

    passes = []

    def add(self, losses, **others):
        super().add(losses, **others)
        self.passes.append({name: distribute.average(value).item() for name, value in losses.items()})

    def show(self, *_):
        pass


class Double(train.Trainer):
    """A training in float64, whose sums hardly depend on their order."""

    def __init__(self, chosen):
        super().__init__(chosen)
        self.model.double()


def critic_in_double(*arguments):
    critic = make_critic(*arguments)
    return critic and DoubleCritic(critic.discriminator, critic.augmentation).double()


def batch_in_double(batch, device):
    found = {}
    for name, value in batch.items():
        whole = isinstance(value, torch.Tensor) and not value.is_floating_point()
        found[name] = value.to(device, torch.float64) if hasattr(value, "to") and not whole else value
    return found


@contextmanager
def no_less_than_double(*_):
    """In place of autocast: what the losses bring to float32 stays as it is."""
    to_single = torch.Tensor.float
    torch.Tensor.float = lambda x: x if x.dtype is torch.float64 else to_single(x)
    try:
        yield
    finally:
        torch.Tensor.float = to_single


def train_all(folder):
    """Loss curves and weights of all trainings, by name, and which numbers come up next at random."""
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "to_device", batch_in_double)
        patch.setattr(train, "autocast", no_less_than_double)
        patch.setattr(train, "Watch", Curve)
        patch.setattr(train, "make_critic", critic_in_double)
        patch.setattr(train, "finish", lambda *_: None)
        for name, chosen in settings(folder).items():
            patch.setattr(Curve, "passes", [])
            trainer = Double(replace(chosen, run=folder / f"{name} of {distribute.world()}"))
            trainer.run()
            parts = [trainer.model, trainer.critic, trainer.average]
            states = [part.state_dict() for part in parts if part]
            found[name] = {"curve": Curve.passes, "states": states, "random": torch.rand(3)}
    return found


def check_together():
    """What two processes agree on."""
    rank = distribute.rank()
    assert distribute.world() == 2 and distribute.is_first() == (rank == 0)
    assert distribute.gather({"rank": rank}) == [{"rank": 0}, {"rank": 1}]
    own = torch.tensor([1.0, 2.0]) * (rank + 1)
    assert distribute.average(own).tolist() == [1.5, 3.0] and own.tolist() == [rank + 1, 2 * (rank + 1)]
    assert distribute.everywhere(torch.tensor([True, rank == 0, False])).tolist() == [True, False, False]
    assert distribute.anywhere(rank == 1) and not distribute.anywhere(False)
    assert distribute.share(torch.arange(6)).tolist() == [3 * rank, 3 * rank + 1, 3 * rank + 2]
    assert sum(distribute.gather(list(distribute.part(5))), []) == [0, 1, 2, 3, 4]
    assert sum(distribute.gather(list(distribute.part(1))), []) == [0]
    distribute.agree(same=[1, 2])
    with pytest.raises(UserError, match="seed: is 1 in process 1, but 0 in process 0"):
        distribute.agree(same=1, seed=rank)


def check_second_moments():
    """Of a batch in two parts they are those of the whole batch, whose pictures differ in size."""
    whole = (
        torch.randn(4, 5, 6, 6, generator=torch.Generator().manual_seed(0)) * torch.arange(1, 5)[:, None, None, None]
    )
    own = distribute.share(whole)
    wanted = torch.ones(5)
    moment = SecondMoment(5)
    for step in range(3):
        moment(own + step)
        batch = (whole + step).square().mean((0, 2, 3))
        wanted = batch.lerp(wanted, SecondMoment.MOMENTUM) if step else batch
    torch.testing.assert_close(moment.mean_square, wanted)
    first, second = distribute.gather(moment.mean_square.tolist())
    assert first == second


def check_uneven_joints(folder):
    """Loss and gradient are those of the whole batch, where one process has far fewer valid joints than the other."""
    dataset = PoseDataset(folder / "capture")
    whole = batch_in_double(collate([dataset[item] for item in range(4)]), "cpu")
    whole["valid"][2:, 5:] = False
    whole["valid"][3] = False
    own = {name: distribute.share(value) for name, value in whole.items()}
    for weigh_parts in (True, False):
        torch.manual_seed(0)
        model = HumanViewSynthesis(PRESETS["tiny"].model).double()
        with pytest.MonkeyPatch.context() as patch:
            # As if there were no group.
            patch.setattr("hvs.training.objectives.average", lambda value: value)
            loss = LifterObjective(model, weigh_parts)(whole)["pose"]
            wanted = torch.autograd.grad(loss, model.lifter.parameters())
        objective = distribute.wrap(LifterObjective(model, weigh_parts))
        losses = objective(own)
        losses["pose"].backward()
        torch.testing.assert_close(distribute.average(losses["pose"]), loss.detach())
        for parameter, gradient in zip(model.lifter.parameters(), wanted, strict=True):
            torch.testing.assert_close(parameter.grad, gradient, rtol=1e-9, atol=1e-12)


def check_left_out_steps():
    """A loss that is not finite in one process leaves the step out in both, and the report names its samples."""
    rank = distribute.rank()
    torch.manual_seed(0)
    layer = nn.Linear(3, 2)
    stepper = Stepper("layer", torch.optim.AdamW(layer.parameters(), 1e-2, fused=True))
    module = distribute.wrap(layer)
    before = layer.weight.detach().clone()
    for step in range(3):
        stepper.backward(module(torch.ones(1, 3)).sum())
        stepper.step(step, {"loss": torch.tensor(float("nan") if rank == 1 else 1.0)}, [f"pair of {rank}"])
    assert torch.equal(layer.weight, before)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stepper_module, "MOST_SKIPPED", 2)
        with pytest.raises(
            UserError, match="3 of the last 3 steps were not finite; in step 2 it was loss, with pair of 1"
        ):
            stepper.check()
    stepper.backward(module(torch.full((1, 3), 1.0 + rank)).sum())
    assert torch.allclose(layer.weight.grad, torch.tensor(1.5))
    stepper.step(3, {"loss": torch.tensor(1.0)})
    assert not torch.equal(layer.weight, before) and stepper.check() == 0


def check_passes_send_gradients_once():
    rank = distribute.rank()
    layer = nn.Linear(1, 1, bias=False)
    module = distribute.wrap(layer)
    for last, value in ((False, 1.0), (True, 2.0)):
        with distribute.accumulating(module, last):
            module(torch.tensor([[value + 10 * rank]])).sum().backward()
        assert layer.weight.grad.item() == (13 if last else 1 + 10 * rank)


def check_the_augmentation_follows_both():
    torch.manual_seed(0)
    critic = Critic(Discriminator(), AdaptiveAugmentation())
    # Real pictures look real to one process and not to the other: the mean sign is 0.
    critic.discriminator.head.bias.data.fill_(1e6 if distribute.is_first() else -1e6)
    critic.augmentation.probability.fill_(0.5)
    critic(torch.rand(2, 3, 32, 32), torch.rand(2, 3, 32, 32), penalise=False)
    assert critic.augmentation.sign == 0 and critic.augmentation.probability < 0.5


def check_scores(folder):
    """Those of both processes together are those of one with all pairs."""
    dataset = PairDataset(folder / "capture", "test", "unknown", 32, 32, same_view=False)
    torch.manual_seed(0)
    model = HumanViewSynthesis(PRESETS["tiny"].model)
    chosen = list(range(0, len(dataset), 9))
    wanted = evaluate(model, [collate([dataset[item] for item in chosen])])
    own = [collate([dataset[chosen[place]]]) for place in distribute.part(len(chosen))]
    found = average(distribute.gather(score(model, own)))
    assert list(found) == list(wanted) and found == pytest.approx(wanted, rel=1e-4)


def check_weights_that_only_one_machine_has_are_told(folder):
    """As the networks that compare pictures differ then, which nothing else would notice."""
    chosen = replace(PRESETS["tiny"], device="cpu", run=folder / "unequal")
    chosen = replace(chosen, data=replace(chosen.data, root=folder / "capture"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "make_perceptual", lambda *_: nn.Identity() if distribute.is_first() else None)
        # Before anything is trained.
        with pytest.raises(UserError, match="vgg16_weights: is missing in process 1, but found in process 0"):
            train.Trainer(chosen)


def main():
    folder = Path(sys.argv[1])
    warnings.showwarning = show_warning
    with quick_trainings(), distribute.one_voice():
        distribute.start("cpu")
        check_together()
        check_second_moments()
        check_uneven_joints(folder)
        check_left_out_steps()
        check_passes_send_gradients_once()
        check_the_augmentation_follows_both()
        check_scores(folder)
        check_weights_that_only_one_machine_has_are_told(folder)
        torch.save(train_all(folder), folder / f"found.{distribute.rank()}.pt")


if __name__ == "__main__":
    main()
