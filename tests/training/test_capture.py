"""What a run reads, and what it refuses to."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import hvs
import train
from hvs import distribute
from hvs.data import even_subset
from hvs.data.sampling import Draws
from hvs.data.stores import write_store
from hvs.runtime import UserError
from hvs.training.capture import Capture, Contents

ROOT = Path(__file__).parents[2]


@pytest.fixture
def open_capture(settings):
    """The capture of a run, with other settings of its parts by name."""

    def make(**changes):
        changed = replace(
            settings, **{part: replace(getattr(settings, part), **values) for part, values in changes.items()}
        )
        return Capture(changed, hvs.HumanViewSynthesis(changed.model))

    return make


def test_one_of_another_skeleton_is_refused(open_capture):
    with pytest.raises(UserError, match="model's skeleton is human36m; give --model.skeleton panoptic"):
        open_capture(model=dict(skeleton="human36m")).pairs("train", "known")


def test_one_of_other_joints_is_refused(open_capture):
    joints = hvs.skeletons.PANOPTIC.joints[::-1]
    with pytest.raises(UserError, match="its joints differ from those of --model.joints, or are in another order"):
        open_capture(model=dict(joints=joints)).poses()


def test_a_run_that_resumes_with_something_else_says_so(settings, capture, recwarn):
    lifter = replace(settings.lifter, steps=2)
    train.Trainer(replace(settings, lifter=lifter)).train_lifter()
    resumed = replace(settings, resume="auto", lifter=replace(lifter, steps=3))
    train.Trainer(resumed).train_lifter()
    assert not [warning for warning in recwarn if str(capture.root) in str(warning.message)]
    moved = capture.root.rename(capture.root.with_name("moved"))
    elsewhere = replace(resumed, data=replace(settings.data, root=moved), lifter=replace(lifter, steps=4))
    with pytest.warns(UserWarning, match=f"{moved}: was not the capture of this run until now.* {capture.root}$"):
        train.Trainer(elsewhere).train_lifter()


def test_more_to_train_on_is_told(tmp_path):
    state = Contents(tmp_path, "pairs", 40).state_dict()
    with pytest.warns(UserWarning, match=r"has 50 pairs to train on, no longer 40"):
        Contents(tmp_path, "pairs", 50).load_state_dict(state)


def test_reading_poses_shows_how_far_it_is(open_capture, capsys):
    capture = open_capture()
    assert len(capture.tensors(capture.poses()).items["valid"]) == 12
    assert "read poses: 100%" in (shown := capsys.readouterr().err) and "4/4" in shown


def test_another_unit_of_length_is_told(open_capture, monkeypatch):
    capture = open_capture()
    poses = capture.poses()
    read = poses.tensors()
    # In most frames there may be nobody.
    empty = {name: torch.zeros_like(values) for name, values in read.items.items()}
    large = {name: torch.cat((values, empty[name], empty[name])) for name, values in read.items.items()}
    large["relative"] = 1000 * large["relative"]
    monkeypatch.setattr(poses, "tensors", lambda *_: read._replace(items=large))
    with pytest.warns(UserWarning, match="people are .* m across, wanted 0.3 to 3.5 m: another unit of length"):
        assert capture.tensors(poses).items is large


def test_poses_that_are_broken_are_told(open_capture, capture, capsys):
    labels = capture.databases() / capture.layout.keypoints / "00.lmdb"
    write_store(labels, ((frame, b"not a pose") for frame in capture.frames))
    found = open_capture(data=dict(max_faults=0.5))
    assert len(found.tensors(found.poses()).items["valid"]) == 8
    told = [line for line in capsys.readouterr().err.splitlines() if "note: skipped" in line]
    assert len(told) == len(found.faults) == 4 and all("00.lmdb: frame " in line for line in told)


def test_a_killed_process_that_reads_poses_is_told(open_capture, monkeypatch):
    def killed(*_):
        raise ConnectionResetError

    capture = open_capture(data=dict(workers=2))
    poses = capture.poses()
    monkeypatch.setattr(poses, "tensors", killed)
    with pytest.raises(UserError, match="a process that reads ahead was killed"):
        capture.tensors(poses)


def test_pairs_are_of_two_views_at_the_models_sizes(open_capture):
    capture = open_capture(model=dict(target_resolution=64))
    pairs = capture.pairs("train", "known")
    first, again = (capture.examples(pairs, 4) for _ in range(2))
    for pair, other in zip(first, again, strict=True):
        assert pair["image_a"].shape == (3, 32, 32) and pair["image_b"].shape == (3, 64, 64)
        assert pair["name"] == other["name"] and not torch.equal(pair["camera_a"].R, pair["camera_b"].R)


def test_pairs_to_score_are_those_of_inference_whatever_the_seed(open_capture):
    capture = open_capture()
    capture.settings = replace(capture.settings, seed=7)
    pairs = capture.pairs("train", "known")
    assert capture.examples(pairs, 4).indices == even_subset(pairs, 4).indices


def test_no_more_pairs_are_taken_at_once_than_in_training(open_capture, monkeypatch):
    for world, most, wanted in ((1, None, 8), (1, 3, 3), (4, None, 2), (4, 3, 2), (4, 1, 1), (16, None, 1)):
        monkeypatch.setattr(distribute, "world", lambda world=world: world)
        assert open_capture(synthesis=dict(batch_size=8, most_at_once=most)).at_once == wanted


def test_batches_are_what_is_drawn_and_broken_files_are_noted(open_capture, capture, capsys):
    write_store(capture.databases() / "Images/00.lmdb", ((frame, b"not a picture") for frame in capture.frames))
    found = open_capture(data=dict(max_faults=0.5), synthesis=dict(batch_size=6, most_at_once=3))
    pairs = found.pairs("train", "known")
    draws = found.draws(pairs, range(4))
    batches = list(found.batches(pairs, draws, torch.device("cpu")))
    assert [len(batch["name"]) for batch in batches] == [3] * 8 and draws.passes == 2
    told = capsys.readouterr().err.splitlines()
    assert len(told) == len(found.faults) > 1 and all("Images/00.lmdb: frame " in line for line in told)


def test_draws_are_those_of_the_settings(open_capture):
    found = open_capture(data=dict(balance="sequences"), synthesis=dict(batch_size=6, most_at_once=3))
    pairs = found.pairs("train", "known")
    wanted = Draws(pairs.index, 6, found.settings.seed, range(2, 5), "sequences", 3)
    assert list(found.draws(pairs, range(2, 5))) == list(wanted)


def test_examples_that_are_broken_are_told(open_capture, capture, capsys):
    write_store(capture.databases() / "Images/00.lmdb", ((frame, b"not a picture") for frame in capture.frames))
    found = open_capture(data=dict(max_faults=0.5))
    pairs = found.read(found.examples(found.pairs("train", "known"), 99))
    assert len(pairs) == 24 and not any("/00-" in pair["name"] or pair["name"].endswith("-00") for pair in pairs)
    told = capsys.readouterr().err.splitlines()
    assert len(told) == len(found.faults) == 4 and all("Images/00.lmdb: frame " in line for line in told)


def test_a_reader_killed_while_it_hands_over_is_told(open_capture):
    def broken():
        yield dict(faults=[])
        raise ConnectionResetError(104, "Connection reset by peer")

    found = open_capture()
    with pytest.raises(UserError, match="a process that reads ahead was killed"):
        list(found.noting(broken(), found.pairs("train", "known")))


def test_a_sample_that_cannot_be_made_is_told(open_capture):
    pytest.importorskip("anny")
    with pytest.raises(UserError, match="the sample capture: frames: got 0"):
        open_capture(data=dict(root=None, sample_frames=0))


# The first one is imported before the second.
PACKAGES = ("warp", "anny")


@pytest.fixture(scope="module")
def lacking(tmp_path_factory):
    """What a training prints to stderr that lacks a package, and then its exit code, by package."""
    folder = tmp_path_factory.mktemp("lacking")
    # In one process of its own, where none of them has been imported yet.
    program = (
        "import sys, train\n"
        "from hvs.runtime import run_command\n"
        f"for package in {PACKAGES}:\n"
        "    assert package not in sys.modules\n"
        "    sys.modules[package] = None\n"
        "    try:\n"
        "        run_command(train.main)\n"
        "    except SystemExit as stop:\n"
        "        print(stop.code, end='\\0', file=sys.stderr)\n"
        "    del sys.modules[package]\n"
    )
    command = [sys.executable, "-c", program, "tiny", "--run", str(folder / "run")]
    environment = os.environ | {"XDG_CACHE_HOME": str(folder)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return dict(zip(PACKAGES, done.stderr.split("\0"), strict=False))


@pytest.mark.parametrize("package", PACKAGES)
def test_what_the_sample_lacks_is_told(lacking, package):
    *_, error, code = lacking[package].splitlines()
    assert error == f"error: the sample capture needs {package}: pip install -e '.[sample]'" and code == "2"
    assert "Traceback" not in lacking[package]
