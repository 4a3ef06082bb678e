from hypothesis import given
from hypothesis import strategies as st

from hvs.data.plain.splits import blocks


@given(st.sets(st.integers(0, 10**6), min_size=1, max_size=200))
def test_every_frame_has_one_split_and_training_the_most(frames):
    frames = sorted(frames)
    found = blocks(frames)
    chosen = {split: [f for f in frames if any(a <= f <= b for a, b in found[split])] for split in found}
    assert sorted(sum(chosen.values(), [])) == frames
    # Two fifths are held out and in between.
    assert len(chosen["train"]) >= max(1, len(frames) // 3)
    assert len(chosen["test"]) >= (len(frames) > 1) and len(chosen["val"]) >= (len(frames) > 2)
    assert len(found["val"]) <= 1 and len(found["test"]) <= 1 and len(found["train"]) <= 2


def test_no_frames():
    assert blocks([]) == {"train": [], "val": [], "test": []}


def test_ten_frames():
    assert blocks(list(range(100, 120))) == {
        "train": [(100, 111), (117, 119)],
        "val": [(112, 113)],
        "test": [(114, 116)],
    }
