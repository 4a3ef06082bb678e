import tracemalloc

import pytest
import torch

from hvs.data.layouts import MASKS
from hvs.data.stores import Store, write_store
from hvs.geometry.skeletons import HUMAN36M, PANOPTIC
from hvs.inference.footage import choose_frames, find_sequence, next_view
from hvs.models import ModelSettings
from hvs.runtime import UserError

SETTINGS = ModelSettings(input_resolution=32, rendering_resolution=32, target_resolution=64)
CPU = torch.device("cpu")


def footage(capture, **choices):
    return choose_frames(find_sequence(capture.root, PANOPTIC), SETTINGS, **choices)


def test_somebody_who_was_never_trained_on_comes_first(capture):
    ann, bob = capture.names
    assert find_sequence(capture.root, PANOPTIC).name == bob
    assert find_sequence(capture.root, PANOPTIC, ann).name == ann
    assert find_sequence(capture.root, PANOPTIC, unlike=find_sequence(capture.root, PANOPTIC)).name == ann


def test_the_tests_frames_are_shown_every_one_of_them(capture):
    capture.entry["stride"] = 3
    capture.write_splits()
    assert footage(capture).frames == list(range(8))
    known = find_sequence(capture.root, PANOPTIC, capture.names[0])
    assert choose_frames(known, SETTINGS).frames == [6, 7]
    assert choose_frames(known, SETTINGS, interval=(1, 3)).frames == [1, 2, 3]
    assert choose_frames(known, SETTINGS, interval=(5, 99)).frames == [5, 6, 7]
    # Without a test split, all there is.
    capture.entry["known"][0]["test"] = []
    capture.write_splits()
    assert choose_frames(find_sequence(capture.root, PANOPTIC, capture.names[0]), SETTINGS).frames == list(range(8))


def test_only_frames_that_both_views_have_are_shown(capture):
    capture.write_view(capture.names[1], 1, frames=[0, 2, 4, 7])
    assert footage(capture).frames == list(range(8))
    assert footage(capture, target="01").frames == [0, 2, 4, 7]
    with pytest.raises(UserError, match="views 00 and 01: no frame of 5 to 6 has a person, its frames are 0 to 7"):
        footage(capture, target="01", interval=(5, 6))
    capture.write_view(capture.names[1], 1, frames=[])
    with pytest.raises(UserError, match=f"{capture.names[1]}, views 00 and 01: no frame has a person and all that is"):
        footage(capture, target="01")


def test_a_few_frames_are_spread_evenly(capture):
    whole = footage(capture)
    assert whole.spread(1).frames == [3]
    assert whole.spread(2).frames == [0, 7]
    assert whole.spread(3).frames == [0, 4, 7]
    assert whole.spread(99).frames == whole.frames
    assert whole.sources(3, CPU)["image_a"].shape == (3, 3, 32, 32)


@pytest.mark.parametrize("size", [1, 3, 8, 20])
def test_batches_hold_all_frames_in_order(capture, size):
    batches = list(footage(capture, view="02", target="01").batches(size, CPU))
    names = [name for batch in batches for name in batch["name"]]
    assert names == [f"{capture.names[1]}/{frame}/02-01" for frame in range(8)]
    assert [len(batch["points"]) for batch in batches] == [size] * (8 // size) + [8 % size] * (8 % size > 0)
    assert batches[0]["image_a"].shape[1:] == (3, 32, 32) and batches[0]["image_b"].shape[1:] == (3, 64, 64)


def hide(capture, *frames):
    """Let nobody be seen in some frames of the first view."""

    def label(view: int, frame: int) -> torch.Tensor:
        label = capture.keypoint_label(view, frame)
        label[:, 2] *= frame not in frames
        return label

    capture.write_keypoints(capture.names[1], 0, label)


def test_who_is_not_in_the_image_is_left_out(capture, capsys):
    hide(capture, 0, 5)
    (batch,) = footage(capture).batches(20, CPU)
    assert "Subsequences/0: view 00: left out 2 of 8 frames, nobody is in the image\n" in capsys.readouterr().err
    assert [name.split("/")[-2] for name in batch["name"]] == ["1", "2", "3", "4", "6", "7"]
    with pytest.raises(UserError, match="view 00: frame 5: nobody is in the image"):
        list(footage(capture, interval=(5, 5)).batches(20, CPU))


def test_a_few_frames_are_those_with_somebody_nearest_to_their_places(capture):
    hide(capture, 0, 3, 4, 7)
    whole = footage(capture)
    assert whole.spread(1).frames == [2] and whole.spread(2).frames == [1, 6] and whole.spread(3).frames == [1, 5, 6]
    assert len(whole.sources(3, CPU)["points"]) == 3
    hide(capture, *range(8))
    with pytest.raises(UserError, match="views 00 and 02: 8 frames: nobody is in the image"):
        footage(capture, target="02").spread(1)


def test_frames_without_a_label_or_a_mask_are_none_of_a_person(capture):
    """2D poses are stored where there is exactly one person, and anything may be missing anywhere."""
    name = capture.names[1]
    databases, layout = capture.databases(name), capture.layout
    remove(databases / layout.keypoints / "00.lmdb", 2)
    remove(databases / MASKS / "01.lmdb", 3)
    remove(databases / layout.points, 6)
    assert footage(capture).frames == [0, 1, 3, 4, 5, 7]
    assert footage(capture, view="02", target="01").frames == [0, 1, 2, 4, 5, 7]
    assert len(list(footage(capture, target="01").batches(1, CPU))) == 5


def test_an_interval_without_an_end_takes_no_memory(capture):
    capture.entry["unknown"][0]["test"] = [[4, 9_999_999]]
    capture.write_splits()
    sequence = find_sequence(capture.root, PANOPTIC)
    tracemalloc.start()
    frames = choose_frames(sequence, SETTINGS).frames
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert frames == [4, 5, 6, 7] and peak < 2**24


def remove(path, frame):
    """Take one frame out of a database."""
    store = Store(path)
    write_store(path, [(held, store[held]) for held in store.frames if held != frame])


def test_the_next_view_goes_around(capture):
    sequence = find_sequence(capture.root, PANOPTIC)
    assert [next_view(sequence, view) for view in (None, "00", "01", "02", "77")] == ["01", "01", "02", "00", "01"]


def test_faults_are_named(capture):
    with pytest.raises(UserError, match="is a panoptic capture, but the model's skeleton is human36m"):
        find_sequence(capture.root, HUMAN36M)
    with pytest.raises(UserError, match="person: got 'nobody', wanted one of ann/"):
        find_sequence(capture.root, PANOPTIC, "nobody", "person")
    with pytest.raises(UserError, match="person_interval: got 9 to 3, wanted the first frame and then the last one"):
        footage(capture, interval=(9, 3), argument="person_")
    with pytest.raises(UserError, match="person_view: got 'x', wanted one of 00, 01, 02"):
        footage(capture, view="x", argument="person_")
