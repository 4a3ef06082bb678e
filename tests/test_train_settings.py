"""A training does what its settings ask for."""

from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch

import hvs
import train
from hvs.checkpoint import save_model
from hvs.data.recolouring import draw_colours
from hvs.losses import AdaptiveAugmentation, pose_loss
from hvs.training import objectives
from hvs.training.history import History
from hvs.training.state import Checkpoints
from hvs.training.validation import Validation
from tests.training.states import same

pytestmark = pytest.mark.usefixtures("quick")


def brief(settings, **changes):
    """A training of few steps that logs each of them and saves the last one, without validation."""
    synthesis = replace(settings.synthesis, log_every=1, batch_size=4, most_at_once=2, **changes)
    return replace(settings, synthesis=synthesis, checkpoint_every=99, data=replace(settings.data, validation_pairs=0))


def test_a_part_of_a_lifters_batch_is_virtual(settings, monkeypatch):
    batches, forward = [], train.LifterObjective.forward

    def see(self, batch):
        batches.append(batch)
        return forward(self, batch)

    monkeypatch.setattr(train.LifterObjective, "forward", see)
    lifter = replace(settings.lifter, steps=2, batch_size=8, virtual_views=0.25)
    trainer = train.Trainer(replace(settings, lifter=lifter))
    poses = trainer.capture.tensors(trainer.poses).items["relative"]
    trainer.train_lifter()
    for batch in batches:
        known = [any(torch.equal(pose, other) for other in poses) for pose in batch["relative"]]
        assert known == [True] * 6 + [False] * 2


def test_the_mean_of_a_steps_passes_is_minimised(settings, monkeypatch):
    """By the model and the discriminator; each adapts the augmentation by its share."""
    passes, shares, backward = {"synthesis": [], "discriminator": []}, [], train.Stepper.backward

    def see(self, loss):
        passes[self.name].append(loss.item())
        backward(self, loss)

    monkeypatch.setattr(train.Stepper, "backward", see)
    monkeypatch.setattr(AdaptiveAugmentation, "adapt", lambda self, sign, part: shares.append(part))
    settings = brief(settings, image_loss="adaptive", steps=1)
    train.Trainer(settings).train_synthesis()
    (losses,) = (entry["losses"] for entry in History(settings.run).read() if "losses" in entry)
    assert sum(passes["synthesis"]) == pytest.approx(losses["total"], rel=1e-4)
    assert sum(passes["discriminator"]) == pytest.approx(losses["discriminator"] + losses["r1"], rel=1e-4)
    assert len(passes["synthesis"]) == len(passes["discriminator"]) == 2 and shares == [0.5] * 2


def test_only_a_model_from_nowhere_is_initialised(settings, monkeypatch):
    """One to continue from stays as it is, and so does an encoder that has weights from a file."""
    path, begun = settings.run.parent / "start.safetensors", []
    save_model(path, hvs.HumanViewSynthesis(settings.model))
    monkeypatch.setattr(train.Trainer, "start_synthesis", lambda self, _: begun.append(self.settings.start_from))
    for start_from in (path, None):
        chosen = brief(replace(settings, start_from=start_from, run=settings.run / str(start_from is None)), steps=1)
        trainer = train.Trainer(chosen)
        trainer.train_synthesis()
    assert begun == [None]
    monkeypatch.undo()
    for given in (path, None):
        before = [weight.clone() for weight in trainer.model.encoder.parameters()]
        trainer.settings = replace(chosen, synthesis=replace(chosen.synthesis, encoder_weights=given))
        trainer.start_synthesis(trainer.pairs)
        assert same(before, list(trainer.model.encoder.parameters())) == (given is not None)


def test_weights_from_files_take_the_place_of_a_states(settings):
    """Of a run that has trained its lifter, and goes on with another one."""
    train.Trainer(replace(settings, stages=("lifter",))).train()
    path, source = settings.run.parent / "lifter.safetensors", hvs.HumanViewSynthesis(settings.model)
    save_model(path, source)
    trainer = train.Trainer(replace(brief(settings, steps=1, lifter_weights=path, lifter_rate=0.0), resume="auto"))
    trainer.train()
    assert same(dict(trainer.model.lifter.state_dict()), dict(source.lifter.state_dict()))


def test_another_seed_makes_another_model(settings):
    one, again, other = (dict(train.Trainer(replace(settings, seed=seed)).model.state_dict()) for seed in (1, 1, 2))
    assert same(one, again) and not same(one, other)


def test_what_a_lifter_is_asked_for_is_done(settings, monkeypatch):
    """Epochs instead of steps, rates along a cosine, and its joints weighed, as they are in the synthesis, too."""
    dropout, path = [], settings.run.parent / "start.safetensors"
    save_model(path, hvs.HumanViewSynthesis(settings.model))

    def weigh(*arguments):
        dropout.append(trainer.model.lifter.training)
        return pose_loss(*arguments)

    monkeypatch.setattr(objectives, "pose_loss", weigh)
    # Two epochs of twelve poses.
    lifter = replace(settings.lifter, epochs=2, batch_size=8, virtual_views=0.0, weigh_parts=True)
    trainer = train.Trainer(brief(replace(settings, lifter=lifter, start_from=path), steps=1))
    trainer.train_lifter()
    state = Checkpoints(settings.run).load()
    (group,) = state["parts"]["lifter"]["optimizer"]["param_groups"]
    assert state["step"] == 3 and dropout == [True] * 3
    assert group["lr"] == pytest.approx(0.7625 * group["initial_lr"])
    trainer.train_synthesis()
    assert len(dropout) == 3 + 2


def test_networks_compute_in_half_precision_with_scaled_losses(settings, monkeypatch):
    seen = []
    monkeypatch.setattr(train, "autocast", lambda device, precision: seen.append(precision) or nullcontext())
    train.Trainer(brief(replace(settings, precision="fp16"), steps=1, image_loss="adversarial")).train_synthesis()
    # Model and discriminator, in two passes.
    assert seen == [torch.float16] * 4
    parts = Checkpoints(settings.run).load()["parts"]
    assert parts["synthesis"]["scaler"] and parts["critic"]["scaler"]


def test_averaged_weights_are_shown_validated_and_evaluated(settings, monkeypatch):
    models = []
    monkeypatch.setattr(train.Watch, "show", lambda self, done, model, examples: models.append(model))
    monkeypatch.setattr(Validation, "__call__", lambda self, done, model, discriminator: models.append(model) or {})
    monkeypatch.setattr(train, "finish", lambda settings, capture, progress, model, *others: models.append(model))
    trainer = train.Trainer(brief(settings, steps=1, average=0.5))
    trainer.run()
    # Shown before and after the step.
    assert len(models) == 4 and all(model is trainer.average.module for model in models)


def test_what_a_synthesis_is_asked_for_is_done(settings, monkeypatch):
    """New colours in every pass, rates along a cosine, a penalty now and then, and an average of the weights."""
    maps = []
    monkeypatch.setattr(train, "recolour", lambda batch, part, skeleton: maps.append(part))
    monkeypatch.setattr(train, "R1_INTERVAL", 2)
    monkeypatch.setattr(train.Watch, "show", lambda *_: None)
    settings = brief(settings, steps=3, image_loss="adversarial", recolour=0.5, cosine=True, average=0.5)
    trainer = train.Trainer(settings)
    trainer.train_synthesis()
    assert torch.equal(torch.cat(maps), torch.cat([draw_colours(4, 0.5, settings.seed, step) for step in range(3)]))
    parts = Checkpoints(settings.run).load()["parts"]
    for name in ("synthesis", "critic"):
        for group in parts[name]["optimizer"]["param_groups"]:
            assert group["lr"] == pytest.approx(0.525 * group["initial_lr"])
    penalised = [entry["step"] for entry in History(settings.run).read() if "r1" in entry.get("losses", ())]
    assert penalised == [1, 3]
    assert parts["average"]["n_averaged"] == 3
