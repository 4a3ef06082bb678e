"""The bench of decoding runs on any capture, and refuses to time pictures that differ."""

import json

import pytest
import torch

from bench import decoding


@pytest.fixture(autouse=True)
def one_thread():
    # The bench sets it too, for all that come after it.
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def test_a_row_per_resolution(capture, tmp_path, capsys):
    file = tmp_path / "rows.json"
    decoding.main(decoding.Settings(capture.root, resolutions=(16, 32), pictures=5, json=file))
    lines = capsys.readouterr().out.splitlines()
    rows = json.loads(file.read_text())
    assert len(lines) == 3 and [row["resolution"] for row in rows] == [16, 32]
    for row in rows:
        assert row["ratio"] == pytest.approx(row["hvs_per_s"] / row["pillow_per_s"])
        assert row["views_per_s"] > 0


def test_different_pictures_are_not_timed(capture, monkeypatch):
    monkeypatch.setattr(decoding, "with_pillow", lambda data, box, resolution: torch.zeros(3, resolution, resolution))
    with pytest.raises(SystemExit, match="view 0., frame .: the two decode to different pictures"):
        decoding.main(decoding.Settings(capture.root, resolutions=(16,), pictures=2))


def test_noise_is_seeded(write_jpeg):
    data = write_jpeg(torch.full((40, 60, 3), 128).numpy())
    one, same, other = (decoding.add_noise(data, seed) for seed in (1, 1, 2))
    assert one == same != other
