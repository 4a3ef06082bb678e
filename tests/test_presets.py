from pathlib import Path

import pytest

from hvs.presets import DESCRIPTIONS, PRESETS


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_valid_and_described(name):
    settings = PRESETS[name]
    assert DESCRIPTIONS[name] and settings.run.name == name
    assert settings.model.target_resolution >= settings.model.rendering_resolution
    assert settings.stages and set(settings.stages) <= {"lifter", "synthesis"}


def test_experiments_do_not_train_on_the_sample():
    for name, settings in PRESETS.items():
        skeleton = name.partition("-")[0]
        wanted = Path("data") / skeleton if skeleton in ("panoptic", "human36m") else None
        assert settings.data.root == wanted
        assert wanted is None or settings.model.skeleton == skeleton


def test_sample_512_is_the_full_size_model():
    model = PRESETS["sample-512"].model
    assert (model.target_resolution, model.base_channels, model.encoder_depth, model.d_embedding) == (512, 64, 50, 2048)


def test_sample_512_learns_from_a_few_people_as_the_sample_does():
    """The paper's settings, which are the defaults, are for many times as many poses and pictures."""
    large, sample = PRESETS["sample-512"], PRESETS["sample"]
    assert large.lifter == sample.lifter and large.model.dropout == sample.model.dropout
    assert large.synthesis.recolour == sample.synthesis.recolour and large.synthesis.cosine


def test_the_sample_is_fine_tuned_from_what_it_has_left():
    sample, tuned = PRESETS["sample"], PRESETS["sample-adaptive"]
    assert tuned.start_from == sample.run / "model.safetensors" and tuned.stages == ("synthesis",)
    assert tuned.data == sample.data and tuned.model == sample.model and tuned.synthesis.adversarial
