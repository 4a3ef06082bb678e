import json
import math

import pytest

from hvs.training.history import FILE, History


@pytest.fixture
def history(tmp_path):
    return History(tmp_path)


def fill(history, *places):
    for stage, step in places:
        history.append({"stage": stage, "step": step, "losses": {"pixel": 1 / step}})


def places(history):
    return [(entry["stage"], entry["step"]) for entry in history.read()]


def test_there_is_none_at_first(history):
    assert list(history.read()) == []
    history.cut("lifter", 0)
    assert not history.file.exists()


def test_entries_come_back_with_six_digits(history):
    entry = {"stage": "lifter", "step": 12_345_678, "losses": {"pose": 0.123456789, "total": 1e-12}, "faults": 2}
    history.append(entry)
    assert list(history.read()) == [entry | {"losses": {"pose": 0.123457, "total": 1e-12}}]


def test_what_is_not_finite_is_json_all_the_same(history):
    history.append({"stage": "lifter", "step": 1, "losses": {"pose": math.nan}, "speed": math.inf})

    def refuse(name):
        raise AssertionError(name)

    (line,) = history.file.read_text().splitlines()
    assert json.loads(line, parse_constant=refuse) == {
        "stage": "lifter",
        "step": 1,
        "losses": {"pose": None},
        "speed": None,
    }


def test_a_full_disk_is_told_with_the_name_of_the_file(history):
    history.file.symlink_to("/dev/full")
    with pytest.raises(OSError, match=f"No space left on device: '{history.file}'"):
        fill(history, ("lifter", 10))


ALL = [("lifter", 10), ("lifter", 20), ("synthesis", 5), ("synthesis", 10), ("synthesis", 15)]


@pytest.mark.parametrize(
    ("stage", "step", "kept"),
    [
        ("lifter", 0, 0),
        ("lifter", 12, 1),
        ("lifter", 20, 2),
        ("synthesis", 0, 2),
        ("synthesis", 10, 4),
        ("synthesis", 99, 5),
        ("other", 0, 5),
    ],
)
def test_what_is_done_again_is_dropped(history, stage, step, kept):
    fill(history, *ALL)
    history.cut(stage, step)
    assert places(history) == ALL[:kept]
    assert [path.name for path in history.file.parent.iterdir()] == [FILE]


def test_half_a_line_is_dropped_and_not_written_behind(history):
    fill(history, *ALL[:2])
    with open(history.file, "a") as file:
        file.write('{"stage": "lifter", "st')
    assert places(history) == ALL[:2]
    history.cut("lifter", 20)
    fill(history, ("lifter", 30))
    assert places(history) == [*ALL[:2], ("lifter", 30)]


@pytest.mark.parametrize(
    "line",
    [
        *("", "[]", "7", "null", "[" * 9**5),
        *(
            '{"stage": 1, "step": 1}',
            '{"stage": "a"}',
            '{"stage": "a", "step": 1.5}',
            f'{{"stage": "a", "step": {2**53}}}',
        ),
    ],
)
def test_lines_that_are_no_entries_are_passed_over(history, line):
    fill(history, ALL[0])
    with open(history.file, "ab") as file:
        file.write(line.encode() + b"\n\xff\xfe\n")
    fill(history, ALL[1])
    assert places(history) == ALL[:2]
