from dataclasses import replace

import numpy as np
import pytest
import torch

from hvs import HumanViewSynthesis
from hvs.checkpoint import save_model
from hvs.data.stores import MissingFrameError
from hvs.inference.live.artist import Artist, Wish
from hvs.inference.live.cast import Cast
from hvs.inference.live.window import browser_camera
from hvs.inference.studio import Studio
from hvs.inference.viewer import Viewer
from hvs.presets import PRESETS
from hvs.runtime import UserError

pytestmark = pytest.mark.usefixtures("quick")

ANN, BOB = "ann/Subsequences/0", "bob/Subsequences/0"


@pytest.fixture
def settings(tmp_path, capture):
    torch.manual_seed(0)
    path = tmp_path / "model.safetensors"
    save_model(path, HumanViewSynthesis(PRESETS["tiny"].model), dict(root=str(capture.root)))
    return Viewer(checkpoint=path, device="cpu")


@pytest.fixture
def artist(settings):
    studio = Studio(settings)
    return Artist(studio, Cast(studio, settings))


def wish(**other):
    window = browser_camera(torch.eye(3), torch.tensor([0.0, 0.0, -5.0]), 0.8, 300, 200)
    return Wish(**dict(window=window, view="00", frame=1, person=BOB, shown="output") | other)


def test_a_wish_becomes_pictures(artist):
    drawn = artist.draw(wish())
    size = PRESETS["tiny"].model.target_resolution
    assert drawn.output.shape == (size, size, 3) and drawn.output.dtype == np.uint8
    assert drawn.picture.shape[1] / drawn.picture.shape[0] == pytest.approx(1.5, abs=0.05)
    assert drawn.colours.shape == (108, 3) and len(np.unique(drawn.colours, axis=0)) > 50
    assert drawn.strip.shape[1] > 3 * 96
    # The network's square stands in the middle, the capture's background around it.
    assert (drawn.picture[:, 0] == (126, 130, 108)).all() and (drawn.picture[:, -1] == (126, 130, 108)).all()


def test_halves_are_those_of_latent_and_output(artist):
    latent, output, both = (artist.draw(wish(shown=shown)).picture for shown in ("latent", "output", "half and half"))
    columns = [(both[:, i] == latent[:, i]).all() for i in range(both.shape[1])]
    split = columns.index(False)
    assert split == pytest.approx(both.shape[1] / 2, abs=1)
    assert np.array_equal(both[:, split:], output[:, split:])
    assert artist.draw(wish(shown="nothing")).picture is None


def test_every_part_of_a_wish_matters(artist):
    first = artist.draw(wish()).output
    turned = wish().window
    turned = replace(turned, t=turned.t + torch.tensor([0.0, 0.0, 1.0]))
    for other in (wish(window=turned), wish(frame=2), wish(view="01"), wish(person=ANN)):
        assert (artist.draw(other).output != first).any()
    assert (artist.draw(wish()).output == first).all()


def test_wishes_are_the_same_if_their_windows_are():
    one = wish()
    assert one == replace(one) and one != replace(one, window=replace(one.window))


def test_looks_and_poses_are_made_once(artist):
    cast = artist._cast
    assert cast.people == [ANN, BOB] and cast.sequence.name == BOB
    assert cast.has_looks(BOB) and not cast.has_looks(ANN)
    assert cast.looks(ANN) is cast.looks(ANN) and cast.has_looks(ANN) and cast.pose("01", 3) is cast.pose("01", 3)
    assert cast.pose("01", 3).frame.shape == (180, 270, 3)


def test_a_frame_that_is_not_there_is_told(artist):
    with pytest.raises(MissingFrameError, match="99"):
        artist.draw(wish(frame=99))


@pytest.mark.parametrize(("absent", "start"), [((), 3), ((3, 4), 2), ((0, 1, 2, 3), 4)])
def test_it_starts_in_the_middle_or_nearest_to_that_where_somebody_is(capture, settings, absent, start):
    hide(capture, absent)
    cast = Cast(Studio(settings), settings)
    assert cast.start == start and cast.first is cast.pose("00", start)
    for frame in absent:
        with pytest.raises(UserError, match="nobody is in the image"):
            cast.pose("00", frame)


def test_without_anybody_it_does_not_start(capture, settings):
    hide(capture, range(8))
    with pytest.raises(UserError, match="view 00: 8 frames: nobody is in the image"):
        Cast(Studio(settings), settings)


def hide(capture, frames):
    """Let nobody be seen in some frames of the first view."""

    def label(view, frame):
        outside = torch.full((135, 2), -1e4)
        return capture.with_confidence(outside) if frame in frames else capture.keypoint_label(view, frame)

    capture.write_keypoints(capture.names[1], 0, label)
