import math
from pathlib import Path

import pytest

from hvs.config import DataSettings, LifterSettings, SynthesisSettings, TrainSettings


@pytest.mark.parametrize(
    ("settings", "name", "value"),
    [
        (LifterSettings, "steps", 0),
        (LifterSettings, "virtual_views", 1.5),
        (SynthesisSettings, "batch_size", -1),
        (SynthesisSettings, "learning_rate", 0.0),
        (SynthesisSettings, "encoder_rate", -0.1),
        (SynthesisSettings, "learning_rate", math.nan),
        (SynthesisSettings, "learning_rate", math.inf),
        (SynthesisSettings, "momentum", 1.5),
        (SynthesisSettings, "weight_decay", -1.0),
        (LifterSettings, "epochs", -1),
        (DataSettings, "workers", -1),
        (DataSettings, "validation_pairs", -1),
        (DataSettings, "evaluation_pairs", 0),
        (DataSettings, "max_faults", math.nan),
        (LifterSettings, "batch_size", 0),
        (LifterSettings, "learning_rate", 0.0),
        (LifterSettings, "weight_decay", 1.5),
        (SynthesisSettings, "steps", 0),
        (SynthesisSettings, "log_every", 0),
        (SynthesisSettings, "most_at_once", 0),
        (SynthesisSettings, "recolour", 1.5),
        (SynthesisSettings, "lifter_rate", math.inf),
        (TrainSettings, "checkpoint_every", 0),
        (TrainSettings, "keep", 0),
        (TrainSettings, "seed", -1),
        # numpy's generators take no larger ones, and every process adds its number.
        (TrainSettings, "seed", 2**32 - 1),
    ],
)
def test_settings_out_of_range_are_named(settings, name, value):
    with pytest.raises(ValueError, match=f"{name}: got {value}, wanted"):
        settings(**{name: value})


def test_settings_that_do_not_go_together_are_named():
    with pytest.raises(ValueError, match="stages: got synthesis before lifter, wanted the lifter first"):
        TrainSettings(stages=("synthesis", "lifter"))
    with pytest.raises(ValueError, match="stages: got none"):
        TrainSettings(stages=())
    with pytest.raises(ValueError, match="stages: got lifter lifter, wanted each of them once"):
        TrainSettings(stages=("lifter", "lifter"))
    weights = SynthesisSettings(lifter_weights=Path("a.ckpt"), encoder_weights=Path("b.pth"))
    with pytest.raises(ValueError, match="no use for lifter_weights and encoder_weights"):
        TrainSettings(start_from=Path("c.safetensors"), synthesis=weights)


def test_epochs_count_the_poses_of_the_capture():
    """Whatever is added to a batch."""
    assert LifterSettings(steps=7).count_steps(1000) == 7
    for virtual, steps in ((0.0, 30), (0.75, 120), (0.5, 60)):
        settings = LifterSettings(epochs=3, batch_size=100, virtual_views=virtual)
        assert settings.count_steps(1000) == steps
        assert steps * (settings.batch_size - settings.virtual) == 3 * 1000
    assert LifterSettings(epochs=1, batch_size=100).count_steps(101) == 2
    with pytest.raises(ValueError, match="epochs: got 2, wanted none: virtual_views leaves no pose"):
        LifterSettings(epochs=2, virtual_views=1.0)


def test_weights_are_averaged_against_a_discriminator_or_where_it_is_asked_for():
    assert SynthesisSettings(image_loss="lpips").decay == 0 and not SynthesisSettings(image_loss="lpips").adversarial
    for loss in ("adversarial", "adaptive"):
        assert SynthesisSettings(image_loss=loss).decay == 0.999 and SynthesisSettings(image_loss=loss).adversarial
        assert SynthesisSettings(image_loss=loss, average=0.0).decay == 0
    assert SynthesisSettings(average=0.9).decay == 0.9
    with pytest.raises(ValueError, match="average: got 1.0, wanted"):
        SynthesisSettings(average=1.0)
