import pytest

from hvs.data import DataError
from hvs.data.layouts import MASKS
from hvs.data.preparation.databases import Clip


@pytest.mark.parametrize("note", ["[3]", "3", '{"no mask": "3"}', '{"no mask": true}', "{"])
def test_a_damaged_note_is_named(note, tmp_path):
    file = tmp_path / "s" / "Preparation" / MASKS / "00.json"
    file.parent.mkdir(parents=True)
    file.write_text(note)
    with pytest.raises(DataError, match="Preparation/Masks/SOLO/00.json: "):
        Clip(tmp_path, "s", "panoptic", 0, 1).dropped(MASKS, "00")
