import json

import pytest
import torch

from bench.record import Record, WrongResultsError


def test_rows_are_written_as_they_come(tmp_path):
    file = tmp_path / "new" / "rows.json"
    record = Record("cpu", file)
    with record.trying("a"):
        record.rows.append(dict(name="a"))
    assert json.loads(file.read_text())["rows"] == [dict(name="a")]
    with record.trying("b"):
        record.rows.append(dict(name="b"))
    found = json.loads(file.read_text())
    assert [row["name"] for row in found["rows"]] == ["a", "b"] and found["failed"] == {}
    assert {"device", "torch", "triton", "commit", "date"} <= set(found["machine"])
    record.close()


def test_an_error_is_one_line_and_the_unexpected_one_also_says_where(tmp_path, capsys):
    record = Record("cpu", None)
    with record.trying("a"):
        raise WrongResultsError("wrong")
    assert capsys.readouterr().err == "a: wrong\n"
    with record.trying("b"):
        raise AssertionError
    found = capsys.readouterr().err.splitlines()
    assert found[0].startswith("Traceback") and found[-1] == "b: AssertionError"
    with pytest.raises(SystemExit, match="not timed: a, b"):
        record.close()


def test_an_interrupted_run_ends():
    with pytest.raises(KeyboardInterrupt), Record("cpu", None).trying("a"):
        raise KeyboardInterrupt


def test_a_copy_without_history_can_be_told_its_commit(monkeypatch):
    monkeypatch.setenv("COMMIT", "0123abc")
    assert Record("cpu", None).machine["commit"] == "0123abc"
    assert Record("cpu", None).machine["torch"] == torch.__version__
