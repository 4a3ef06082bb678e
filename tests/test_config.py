import pytest

from hvs import HumanViewSynthesis
from hvs.config import DESCRIPTIONS, PRESETS


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_valid_and_described(name):
    settings = PRESETS[name]
    assert DESCRIPTIONS[name] and settings.run.name == name
    assert HumanViewSynthesis.__init__ and settings.model.target_resolution >= settings.model.rendering_resolution
    assert set(settings.stages) == {"lifter", "synthesis"}


def test_sample_512_is_the_full_size_model():
    model = PRESETS["sample-512"].model
    assert (model.target_resolution, model.base_channels, model.encoder_depth, model.d_embedding) == (512, 64, 50, 2048)
