import pytest

from hvs.config import DESCRIPTIONS, PRESETS, LifterSettings, SynthesisSettings


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_valid_and_described(name):
    settings = PRESETS[name]
    assert DESCRIPTIONS[name] and settings.run.name == name
    assert settings.model.target_resolution >= settings.model.rendering_resolution
    assert settings.stages and set(settings.stages) <= {"lifter", "synthesis"}


def test_sample_512_is_the_full_size_model():
    model = PRESETS["sample-512"].model
    assert (model.target_resolution, model.base_channels, model.encoder_depth, model.d_embedding) == (512, 64, 50, 2048)


@pytest.mark.parametrize(
    ("settings", "name", "value"),
    [
        (LifterSettings, "steps", 0),
        (LifterSettings, "virtual_views", 1.5),
        (SynthesisSettings, "batch_size", -1),
        (SynthesisSettings, "learning_rate", 0.0),
        (SynthesisSettings, "encoder_rate", -0.1),
    ],
)
def test_settings_out_of_range_are_named(settings, name, value):
    with pytest.raises(ValueError, match=f"{name}: got {value}, wanted"):
        settings(**{name: value})
