"""Broken files: told once each by the first process, and too many end all."""

from types import SimpleNamespace

import pytest
import torch

from hvs import distribute
from hvs.runtime import UserError
from hvs.training.faults import Faults


class Data:
    """A hundred views of frames."""

    index = SimpleNamespace(counts=torch.full((10,), 10))


DATASET = Data()


def test_each_is_told_once(capsys):
    faults = Faults("capture", 0.05)
    faults.note(["b", "a", "b"], DATASET)
    faults.note(["a", "c"], DATASET)
    faults.note([], DATASET)
    told = capsys.readouterr().err.splitlines()
    assert told == [f"note: skipped {name}" for name in "abc"] and len(faults) == 3


def test_too_many_end_the_training():
    faults = Faults("capture", 0.02)
    faults.note(["a", "b"], DATASET)
    with pytest.raises(UserError, match="^capture: more than 2 broken files, the last one c; python -m hvs.data check"):
        faults.note(["a", "c"], DATASET)


def test_each_data_set_may_have_its_part(capsys):
    """A few test frames are not to end what many training frames have been through."""
    faults, test = Faults("capture", 0.02), Data()
    faults.note(["a", "b"], DATASET)
    faults.note(["c", "a"], test)
    assert len(faults) == 3 and capsys.readouterr().err.count("skipped a") == 1
    with pytest.raises(UserError, match="more than 2 broken files, the last one d"):
        faults.note(["d"], test)


def test_one_is_always_allowed():
    faults = Faults("capture", 0.001)
    faults.note(["a"], DATASET)
    faults.note(["a"], DATASET)
    with pytest.raises(UserError, match="more than 1 broken files"):
        faults.note(["b"], DATASET)


def test_unless_none_is():
    faults = Faults("capture", 0.0)
    faults.note([], DATASET)
    with pytest.raises(UserError, match="more than 0 broken files, the last one a;"):
        faults.note(["a"], DATASET)


@pytest.mark.parametrize("first", [True, False])
def test_of_many_processes_the_first_tells_what_all_have_noted(monkeypatch, capsys, first):
    monkeypatch.setattr(distribute, "world", lambda: 2)
    monkeypatch.setattr(distribute, "is_first", lambda: first)
    monkeypatch.setattr(distribute, "gather", lambda own: [own, {"theirs"}])
    faults = Faults("capture", 0.02)
    faults.note(["own"], DATASET)
    # Of another data set, whose turn it is not.
    faults.note(["a", "b", "c"], Data())
    assert not capsys.readouterr().err
    faults.tell(DATASET)
    wanted = ["note: skipped own", "note: skipped theirs"] if first else []
    assert capsys.readouterr().err.splitlines() == wanted and len(faults) == 2
    faults.note(["another"], DATASET)
    with pytest.raises(UserError, match="more than 2"):
        faults.tell(DATASET)
