import pytest

from hvs.data.plain.note import Note, read_note
from hvs.data.stores import DataError


def test_what_is_told_and_what_is_not(tmp_path):
    file = tmp_path / "capture.json"
    assert read_note(file) == Note()
    file.write_text('{"scale": 0.001, "up": [0, -3, 4]}')
    assert read_note(file) == Note(0.001, (0, -0.6, 0.8))


@pytest.mark.parametrize(
    "text",
    ["", '{"scale": "1"}', '{"scale": true}']
    + ["3", '{"sclae": 1}', '{"scale": 0}', '{"scale": -1}', '{"scale": NaN}', '{"scale": 1e999}', '{"scale": "big"}']
    + ['{"scale": [1, 2]}', '{"scale": {}}', '{"up": [0, 0, 0]}', '{"up": [1, 2]}', '{"up": null}', " " * 70_000],
)
def test_faults(tmp_path, text):
    file = tmp_path / "capture.json"
    file.write_text(text)
    with pytest.raises(DataError, match="capture.json: ") as caught:
        read_note(file)
    assert "\n" not in str(caught.value)
