import pytest

from hvs.data.commands import run
from hvs.data.stores import DataError


@pytest.mark.parametrize("code", [None, 0, 2])
def test_the_exit_code_is_the_commands(code, capsys):
    assert run(lambda: code) == (code or 0)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (DataError("a.json: broken"), 2, "error: a.json: broken"),
        (ValueError("views: got 0,\nwanted 1"), 2, "error: views: got 0, wanted 1"),
        (OSError(28, "No space left on device", "a.npz"), 2, "error: [Errno 28] No space left on device: 'a.npz'"),
        (ModuleNotFoundError("needs anny"), 2, "error: needs anny"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_errors_are_one_line(error, code, line, capsys):
    def fail():
        raise error

    assert run(fail) == code
    assert capsys.readouterr().err == line + "\n"
