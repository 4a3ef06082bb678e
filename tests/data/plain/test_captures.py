"""How a capture of plain files is found, with its own splits and without."""

import json
import shutil

import pytest

from hvs.data import NoSequencesError, PairDataset, find_sequences
from hvs.data.checking import check
from hvs.data.plain import PlainSequence
from hvs.data.stores import DataError


def write_splits(plain, **changes):
    intervals = {"train": [[0, 3]], "val": [[4, 5]], "test": [[6, 7]]}
    splits = {"known": [{"sequence": "ann", **intervals}], "unknown": [{"sequence": "bob", **intervals}]}
    (plain.root / "splits.json").write_text(json.dumps(splits | changes))


def test_without_splits_all_are_known(plain):
    for layout in (None, "plain"):
        found = find_sequences(plain.root, layout=layout)
        assert [(type(sequence), sequence.name) for sequence in found] == [
            (PlainSequence, "ann"),
            (PlainSequence, "bob"),
        ]
    assert [s.name for s in find_sequences(plain.root, "all")] == ["ann", "bob"]
    assert [found[0].frames(split) for split in ("train", "val", "test")] == [[0, 1, 2, 3, 4, 7], [5], [6]]
    with pytest.raises(NoSequencesError, match="no unknown sequences, as there is no splits.json that names any"):
        find_sequences(plain.root, "unknown")


def test_a_split_without_frames_names_the_folders(plain):
    write_splits(plain, known=[{"sequence": "ann", "train": [], "val": [], "test": []}])
    with pytest.raises(DataError, match="no frame of split 'train' is in all of images, masks, keypoints, poses"):
        PairDataset(plain.root)


def test_splits_of_their_own(plain):
    write_splits(plain, views=["02", "00"], stride=2)
    (ann,), (bob,) = find_sequences(plain.root), find_sequences(plain.root, "unknown")
    assert ann.views == ("02", "00") and bob.name == "bob"
    assert ann.frames("train") == [0, 1, 2, 3] and ann.frames("val") == [4]
    write_splits(plain)
    assert find_sequences(plain.root)[0].views == ("00", "01", "02")
    write_splits(plain, known=[{"sequence": "carl", "train": [], "val": [], "test": []}])
    with pytest.raises(DataError, match="carl/images: no such folder"):
        find_sequences(plain.root)


def test_a_view_that_nobody_has_is_named(plain):
    shutil.rmtree(plain.folder / "images/02")
    (plain.folder / "images/.hidden").mkdir()
    write_splits(plain, views=["02", "00", "01"])
    assert [s.views for s in find_sequences(plain.root, "all")] == [("00", "01"), ("02", "00", "01")]
    write_splits(plain, views=["00", "1"])
    for read in (find_sequences, check):
        with pytest.raises(DataError) as caught:
            read(plain.root)
        assert str(caught.value).endswith("splits.json: no sequence has the view '1', wanted some of 00, 01, 02")


def test_frames_of_far_numbers_are_not_counted_out(plain):
    file = plain.file("images", "00", 0)
    file.rename(file.with_name(f"{10**14}.jpg"))
    assert plain.sequence().frames("train")[-1] == 10**14


def test_told_apart_from_the_prepared_layouts(plain, capture):
    for place in ("images", "Subsequences"):
        for root in (plain.root, capture.root):
            # As a desktop's waste bin.
            (root / ".hidden" / place).mkdir(parents=True)
    assert [sequence.name for sequence in find_sequences(plain.root)] == ["ann", "bob"]
    assert find_sequences(capture.root)[0].layout.points != "poses"
    (plain.root / "eve/Subsequences").mkdir(parents=True)
    with pytest.raises(DataError, match="both layouts here, wanted .* or <name>/images/<view>"):
        find_sequences(plain.root)
    assert len(find_sequences(plain.root, layout="plain")) == 2


def test_nothing_here(tmp_path):
    with pytest.raises(DataError, match="no sequences here, wanted <name>/images/<view>"):
        find_sequences(tmp_path, layout="plain")


def test_skeletons_must_agree(plain):
    for file in (plain.root / "bob/keypoints").rglob("*.json"):
        file.write_text(json.dumps([[1, 2, 1]] * 17))
    with pytest.raises(DataError, match="bob: keypoints are of skeleton human36m, those of .*ann of panoptic"):
        find_sequences(plain.root)


def test_links_are_followed(plain, tmp_path):
    elsewhere = (plain.root / "bob").rename(tmp_path / "elsewhere")
    (plain.root / "bob").symlink_to(elsewhere)
    assert find_sequences(plain.root)[1].image("01", 3).shape == (3, 64, 96)
