import numpy as np
import pytest

from hvs.data import find_sequences
from hvs.data.frame_index import FrameIndex
from hvs.data.layouts import IMAGES
from hvs.data.stores import DataError


@pytest.fixture
def index(capture):
    """Makes indices over a capture one of whose views lacks frames."""
    capture.write_view(capture.names[0], 0, frames=[0, 2])

    def make(choices, distinct=False):
        return FrameIndex(find_sequences(capture.root, "known"), "train", (IMAGES,), choices, distinct)

    return make


@pytest.mark.parametrize(("choices", "distinct"), [(1, False), (2, False), (2, True)])
def test_items_are_the_list_of_all_choices(index, choices, distinct):
    found = index(choices, distinct)
    wanted = []
    for sequence in found.sequences:
        stores = {view: set(sequence.store(IMAGES, view).frames) for view in sequence.views}
        for frame in sequence.frames("train"):
            views = [view for view in sequence.views if frame in stores[view]]
            pairs = [[view] for view in views] if choices == 1 else [[a, b] for a in views for b in views]
            wanted += [(sequence.name, frame, pair) for pair in pairs if not distinct or pair[0] != pair[1]]
    items = [found.locate(item) for item in range(len(found))]
    assert [(sequence.name, frame, views) for sequence, frame, views in items] == wanted


def test_one_view_is_not_the_lack_of_frames(capture):
    (sequence,) = find_sequences(capture.root, "known")
    sequence.views = sequence.views[:1]
    with pytest.raises(DataError, match="no frame of split 'train' has two views in all of Images, Poses/3D"):
        FrameIndex([sequence], "train", (IMAGES,), 2, distinct=True)


def test_an_even_choice_meets_every_frame_alike(index):
    found = index(2)
    chosen = found.even(8, np.random.default_rng(0))
    assert chosen == sorted(set(chosen)) and len(chosen) == 8
    counts = np.unique([found.locate(item)[1] for item in chosen], return_counts=True)[1]
    assert len(counts) == len(found.frames) and np.ptp(counts) <= 1
    assert found.even(10**6, np.random.default_rng(0)) == list(range(len(found)))
