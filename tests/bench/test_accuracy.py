import sys

import pytest
from PIL import Image

from bench import accuracy


@pytest.fixture(scope="module")
def body():
    return accuracy.body(0, 64)


def test_the_textbook_form_loses_digits(body):
    found = accuracy.errors(body)
    for way in ("reference", "torch"):
        latent, pixel, gradient = found[way]
        assert 0 < latent < 1e-5 and 0 < pixel < 1e-3 and 0 < gradient < 1e-3
        assert found["textbook"][0] > 100 * latent and found["textbook"][2] > 100 * gradient


def test_a_body_far_away_is_as_large_and_less_exact():
    near, far = (accuracy.body_at(distance, 64) for distance in (3.0, 24.0))
    centre = (slice(None), slice(28, 36), slice(28, 36), 2)
    assert far["rays"][centre].mean() > near["rays"][centre].mean()
    errors = [accuracy.errors(inputs, backward=False)["textbook"][0] for inputs in (near, far)]
    assert errors[1] > 10 * errors[0]


@pytest.mark.parametrize("tolerance", [1e-2, 1e-6])
def test_skipped_pairs_change_less_than_the_bound(body, tolerance):
    change, bound = accuracy.skipping(body, tolerance)
    assert 0 < change < bound


def test_little_is_left_to_compute(body):
    found = accuracy.work(body)
    assert 0 < found["matter"] < found["computed"] < 0.2
    assert found["mean"] == pytest.approx(found["computed"] * accuracy.LIMBS)
    assert found["contrast"] > 10
    assert 0 < found["empty"] < 1 and 0 < found["searched"] < 16 * accuracy.LIMBS and found["most"] <= accuracy.LIMBS


def test_the_command(monkeypatch, capsys, tmp_path):
    arguments = ["--poses", "1", "--side", "32", "--plot", str(tmp_path / "a.png")]
    monkeypatch.setattr(sys, "argv", ["accuracy", *arguments])
    monkeypatch.setattr(accuracy, "DISTANCES", (3.0, 6.0))
    accuracy.main()
    printed = capsys.readouterr().out
    for word in (*accuracy.WAYS, "1e-08", "tiles without limbs", "of 432 pairs searched"):
        assert word in printed
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.width > 600
