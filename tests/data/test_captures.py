"""Which sequences a capture has, how layouts are told apart, and splits."""

import json

import pytest

from hvs.data.captures import PUBLISHED_SPLITS, find_sequences
from hvs.data.layouts import LAYOUTS
from hvs.data.stores import DataError

BOTH = pytest.mark.parametrize("layout", ["panoptic", "human36m"])


@pytest.fixture
def written(request, layout):
    return request.getfixturevalue({"panoptic": "capture", "human36m": "human36m"}[layout])


@BOTH
def test_sequences_are_found_and_told_apart(written, layout):
    (known,) = find_sequences(written.root)
    (unknown,) = find_sequences(written.root, "unknown", layout)
    assert known.layout is unknown.layout is LAYOUTS[layout]
    assert [s.name for s in find_sequences(written.root, "all")] == written.names == [known.name, unknown.name]
    assert known.views == ("00", "01", "02")
    assert known.frames("train") == [0, 1, 2, 3] and unknown.frames("train") == []


def test_layout_does_not_depend_on_the_path(capture):
    root = capture.root.rename(capture.root.with_name("Human36M-Sequences"))
    assert find_sequences(root)[0].layout is LAYOUTS["panoptic"]


def test_intervals_are_inclusive_and_inverted_ones_empty(capture):
    capture.entry["known"][0] |= {"train": [[4, 6], [7, 6], [1, 1]], "val": [[3, 2]]}
    capture.write_splits()
    sequence = find_sequences(capture.root)[0]
    assert sequence.frames("train") == [1, 4, 5, 6] and sequence.frames("val") == []


def test_held_out_frames_are_thinned(capture):
    capture.entry["known"][0] |= {"train": [[0, 9]], "val": [[0, 100]], "test": [[5, 9], [70, 71]]}
    capture.entry |= {"stride": 3}
    capture.write_splits()
    sequence = find_sequences(capture.root)[0]
    assert sequence.frames("train") == list(range(10))
    assert sequence.frames("test") == [5, 8, 70]
    del capture.entry["stride"]
    capture.write_splits()
    assert find_sequences(capture.root)[0].frames("val") == [0, 30, 60, 90]


@BOTH
def test_published_splits_are_used_for_what_is_there(written, layout):
    (written.root / "splits.json").unlink()
    entry = json.loads(PUBLISHED_SPLITS.read_text())[layout]
    with pytest.raises(DataError, match="none of the .* sequences of known subjects listed"):
        find_sequences(written.root)
    for view, name in zip(written.views, entry["views"], strict=False):
        for folder in ("Images", "Masks/SOLO", written.layout.keypoints):
            databases = written.databases() / folder
            (databases / f"{view}.lmdb").rename(databases / f"{name}.lmdb")
    published = entry["known"][3]["sequence"]
    (written.root / published).parent.mkdir(parents=True)
    (written.root / written.names[0]).rename(written.root / published)
    (sequence,) = find_sequences(written.root, "all")
    assert sequence.name == published and sequence.views == tuple(entry["views"][:3])
    first, last = entry["known"][3]["test"][0]
    assert sequence.frames("test")[:2] == [first, first + {"panoptic": 30, "human36m": 1}[layout]]


def fails(message, root, **options):
    with pytest.raises(DataError, match=message) as caught:
        find_sequences(root, **options)
    assert "\n" not in str(caught.value)


def test_missing_folder(tmp_path):
    fails("nowhere: no such folder", tmp_path / "nowhere")


def test_no_sequences(tmp_path):
    fails("no sequences here, wanted <name>/Subsequences/<name> or <name>/Sequences/<name>", tmp_path)


def test_both_layouts(capture):
    (capture.root / "S1/Sequences/Walking").mkdir(parents=True)
    fails("both layouts here", capture.root)
    assert find_sequences(capture.root, layout="panoptic")


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "3", '{"views": ["00"]}', '{"views": 3, "known": []}', '{"views": ["00"], "known": [{}]}']
    + ['{"views": [], "known": [{"sequence": "a", "train": [[1]], "val": [], "test": []}]}']
    + ['{"views": [], "known": [], "stride": 0}'],
)
def test_broken_splits(capture, text):
    (capture.root / "splits.json").write_text(text)
    fails("splits.json: not a ", capture.root)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"strides": 2}, "'strides' is not a known name, wanted views, stride, known, unknown"),
        ({"stride": 1.5}, "got 1.5, wanted a whole number"),
        ({"stride": True}, "got True, wanted a whole number"),
        ({"stride": "2"}, "got '2', wanted a whole number"),
        ({"views": "012"}, "got '012', wanted a list"),
        ({"views": ["00", "01", "00"]}, "a view is listed twice"),
        ({"unknown": {}}, "got {}, wanted a list"),
    ],
)
def test_misspelt_names_and_parts_of_numbers_in_splits(capture, change, fault):
    capture.entry |= change
    capture.write_splits()
    fails(f"splits.json: not a table of splits .*{fault}", capture.root)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"tset": []}, "'tset' is not a known name"),
        ({"train": [[0, 2.5]]}, "got 2.5, wanted a whole number"),
        ({"train": [0, 2]}, r"got 0 as an interval, wanted \[first, last\]"),
        ({"train": [[0, 1, 2]]}, r"got \[0, 1, 2\] as an interval, wanted \[first, last\]"),
    ],
)
def test_misspelt_names_and_parts_of_frames_of_a_sequence(capture, change, fault):
    capture.entry["known"][0] |= change
    capture.write_splits()
    fails(f"splits.json: not a table of splits .*{fault}", capture.root)


def test_a_name_that_is_missing_in_splits(capture):
    del capture.entry["known"][0]["val"]
    capture.write_splits()
    fails(r"splits.json: not a table of splits \('val' is missing\)", capture.root)


def test_a_listed_sequence_must_be_there(capture):
    (capture.root / capture.names[0]).rename(capture.root / "elsewhere")
    fails(f"{capture.names[0]}.*: no database of any of the views 00, 01, 02", capture.root)


@pytest.mark.parametrize("text", ["", "[1]", "\0"])
def test_broken_cameras(capture, text):
    (capture.root / capture.names[0] / "cameras.json").write_text(text)
    fails("cameras.json: ", capture.root)


def test_no_cameras(capture):
    (capture.root / capture.names[0] / "cameras.json").unlink()
    fails("cameras.json: cannot be read", capture.root)


@pytest.mark.parametrize("options", [{"subjects": "some"}, {"layout": "coco"}])
def test_wrong_arguments(capture, options):
    with pytest.raises(ValueError, match="wanted one of") as caught:
        find_sequences(capture.root, **options)
    assert not isinstance(caught.value, DataError)


TRICKS = {
    "upwards": {"sequence": "../elsewhere"},
    "absolute": {"sequence": "/etc"},
    "zero": {"sequence": "a\0b"},
    "long": {"sequence": "a" * 5000},
    "huge": {"train": [[0, 10**18]]},
    "infinite": {"train": [[0, float("inf")]]},
    "NaN": {"val": [[float("nan"), 1]]},
    "far": {"test": [[10**30, 10**30 + 1]]},
    "many": {"test": [[1, 2, 3]]},
    "none": {"train": ""},
    "very many": {"train": [[i * 10**7, i * 10**7 + 10**6] for i in range(11)]},
}


@BOTH
@pytest.mark.parametrize("trick", TRICKS.values(), ids=TRICKS.keys())
def test_tricks_in_splits(written, layout, trick):
    written.entry["known"][0] |= trick
    written.write_splits()
    fails("splits.json: ", written.root)


@pytest.mark.parametrize("view", ["../00", "/etc", "", "a\0", ".."])
def test_views_are_names(capture, view):
    capture.entry["views"] = [view]
    capture.write_splits()
    fails("splits.json: got the name", capture.root)
