from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch

from hvs.checkpoint import save_model
from hvs.config import SynthesisSettings
from hvs.models import Discriminator, HumanViewSynthesis
from hvs.presets import PRESETS
from hvs.runtime import UserError
from hvs.training.making import check_settings, make_critic, make_perceptual, make_terms, warn_of_unheeded

CPU = torch.device("cpu")


def test_weights_are_asked_for_before_a_run_begins(settings, tmp_path):
    """A run that has come to the synthesis has read those that it began with."""
    begun = replace(settings, resume="auto")
    for name, again in (("lifter", False), ("encoder", False), ("perceptual", True)):
        weights = {f"{name}_weights": tmp_path / "missing.pth"}
        for chosen in (settings, begun):
            with pytest.raises(UserError, match="missing.pth: no such file"):
                check_settings(replace(chosen, synthesis=replace(chosen.synthesis, **weights)))
        for stage in ("lifter", "synthesis"):
            state = settings.run / f"checkpoints/{stage}-0000002.pt"
            state.parent.mkdir(parents=True, exist_ok=True)
            state.touch()
            asked = again or stage == "lifter"
            with pytest.raises(UserError, match="missing.pth: no such file") if asked else nullcontext():
                check_settings(replace(begun, synthesis=replace(begun.synthesis, **weights)))
            state.unlink()


def test_batches_that_cannot_be_shared_are_refused_before_a_run_begins(settings, monkeypatch):
    """That of the lifter only while there is a lifter to train."""
    monkeypatch.setattr("hvs.distribute.world", lambda: 2)
    check_settings(settings)
    for stage in ("lifter", "synthesis"):
        odd = replace(settings, **{stage: replace(getattr(settings, stage), batch_size=15)})
        for chosen in (odd, replace(odd, stages=("lifter",))):
            refused = stage in chosen.stages
            wanted = f"^{stage}.batch_size: got 15, wanted a multiple of the 2 processes"
            with pytest.raises(UserError, match=wanted) if refused else nullcontext():
                check_settings(chosen)
    state = settings.run / "checkpoints/synthesis-0000002.pt"
    state.parent.mkdir(parents=True)
    state.touch()
    check_settings(replace(settings, lifter=replace(settings.lifter, batch_size=15), resume="auto"))


def test_a_synthesis_alone_needs_a_lifter_from_somewhere(settings, tmp_path):
    alone, weights = replace(settings, stages=("synthesis",)), tmp_path / "weights.safetensors"
    weights.touch()
    check_settings(replace(alone, start_from=weights))
    check_settings(replace(alone, synthesis=replace(alone.synthesis, lifter_weights=weights)))
    wanted = "stages: got only the synthesis, but its lifter has not been trained"
    with pytest.raises(UserError, match=wanted):
        check_settings(replace(alone, resume="auto"))
    state = settings.run / "checkpoints/lifter-0000002.pt"
    state.parent.mkdir(parents=True)
    state.touch()
    check_settings(replace(alone, resume="auto"))
    # A new run begins without what is in its folder.
    with pytest.raises(UserError, match=wanted):
        check_settings(alone)


def test_typed_settings_that_are_not_heeded_are_told(recwarn):
    given, found = PRESETS["sample"].model, PRESETS["tiny"].model
    arguments = ["train.py", "sample", "--model.alpha", "0.1", "--start-from", "x"]
    # What the preset has is not told of, nor what is the same.
    warn_of_unheeded(arguments, given, found)
    assert not recwarn
    warn_of_unheeded([*arguments, "--model.d-embedding=512", "--model.base_channels", "24"], given, found)
    (warning,) = recwarn
    wanted = "--start-from brings its own model settings, in place of --model.d-embedding, --model.base_channels"
    assert str(warning.message) == wanted


def test_pixels_alone_need_no_classifier():
    assert make_perceptual(SynthesisSettings(image_loss="pixel"), CPU) is None


def test_weights_that_were_given_must_be_there(tmp_path):
    settings = SynthesisSettings(image_loss="vgg", perceptual_weights=tmp_path / "vgg16.pth")
    with pytest.raises(UserError, match="vgg16.pth"):
        make_perceptual(settings, CPU)


def test_a_state_of_other_terms_is_refused():
    """Of a training whose classifier had no weights, or that had them."""
    with_weights = make_terms(SynthesisSettings(image_loss="lpips"), torch.nn.Identity())
    without = make_terms(SynthesisSettings(image_loss="lpips"), None)
    pixels = make_terms(SynthesisSettings(image_loss="pixel"), None)
    pixels.load_state_dict(without.state_dict())
    with pytest.raises(ValueError, match="it minimised pixel, lpips, and now it would be pixel"):
        without.load_state_dict(with_weights.state_dict())
    with pytest.raises(ValueError, match="it minimised pixel, and now it would be pixel, lpips"):
        with_weights.load_state_dict(without.state_dict())
    against = make_terms(SynthesisSettings(image_loss="adaptive"), None)
    assert against.names == ["pixel", "matching", "adversarial"]


def test_a_critic_is_made_where_the_loss_has_one():
    settings = PRESETS["sample"]
    assert make_critic(settings, CPU) is None
    for loss, augmented in (("adversarial", False), ("adaptive", True)):
        critic = make_critic(replace(settings, synthesis=replace(settings.synthesis, image_loss=loss)), CPU)
        assert isinstance(critic.discriminator, Discriminator)
        assert (critic.augmentation is not None) == augmented


def test_a_critic_goes_on_from_the_checkpoint_to_start_from(settings, tmp_path):
    path, wanted = tmp_path / "start.safetensors", Discriminator()
    settings = replace(settings, start_from=path, synthesis=replace(settings.synthesis, image_loss="adversarial"))
    save_model(path, HumanViewSynthesis(settings.model), discriminator=wanted)
    found = make_critic(settings, CPU).discriminator.state_dict()
    assert all(torch.equal(found[name], value) for name, value in wanted.state_dict().items())
    # Of a training without one there is none to go on from.
    save_model(path, HumanViewSynthesis(settings.model))
    assert isinstance(make_critic(settings, CPU).discriminator, Discriminator)
