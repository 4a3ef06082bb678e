import shutil

import numpy as np
import pytest
import torch

from hvs.data import DataError
from hvs.data.ffmpeg import read_frames, write_frames
from hvs.data.npz import read_object_npz
from hvs.data.preparation import prepare_human36m
from hvs.data.preparation.databases import Clip
from hvs.data.preparation.human36m_raw import DETECTIONS, METADATA


@pytest.fixture
def raw(raw_copy):
    return raw_copy("human36m-raw")


def rename(raw, subject, action, old=("S1", "Walking")):
    """The sample's one action under another name."""
    if subject != old[0]:
        (raw / old[0]).rename(raw / subject)
    for file in [*raw.rglob(f"{old[1]}.*.mp4"), *raw.rglob(f"{old[1]}.cdf")]:
        file.rename(file.with_name(file.name.replace(old[1], action)))
    positions = read_object_npz(raw / DETECTIONS)["positions_2d"]
    np.savez(raw / DETECTIONS, positions_2d=np.array({subject: {action: positions[old[0]][old[1]]}}, dtype=object))


def test_names_become_those_of_the_splits(raw, tmp_path):
    rename(raw, "S9", "WalkingDog 1")
    summary = prepare_human36m(raw, tmp_path / "out", workers=1)
    assert "S9/Sequences/WalkDog_1      3       6   6" in summary
    # It is one of the published splits, so nothing needs to be said of that.
    assert "splits.json" not in summary


@pytest.mark.parametrize(("subject", "action"), [("S11", "Directions"), ("S9", "SittingDown 1"), ("S9", "Greeting")])
def test_misaligned_actions_are_left_out(subject, action, raw, tmp_path):
    rename(raw, subject, action)
    summary = prepare_human36m(raw, tmp_path / "out", workers=1)
    assert f"{subject}/{action.replace(' ', '_')}  its poses do not fit its videos" in summary
    assert not (tmp_path / "out" / subject).exists()


def test_detections_may_go_on_after_the_capture(raw, tmp_path):
    positions = read_object_npz(raw / DETECTIONS)["positions_2d"]
    arrays = positions["S1"]["Walking"]
    longer = [np.concatenate((array, array[:3])) for array in arrays]
    np.savez(raw / DETECTIONS, positions_2d=np.array({"S1": {"Walking": longer}}, dtype=object))
    prepare_human36m(raw, tmp_path / "out", workers=1)
    clip = Clip(tmp_path / "out", "S1/Sequences/Walking", "human36m", 0, 6)
    store = clip.store(clip.layout.keypoints, "55011271")
    assert store.frames == list(range(6))
    assert torch.equal(clip.label(clip.layout.keypoints, 5, "55011271"), torch.tensor(arrays[1][5]))
    shorter = [array[:5] for array in arrays]
    np.savez(raw / DETECTIONS, positions_2d=np.array({"S1": {"Walking": shorter}}, dtype=object))
    summary = prepare_human36m(raw, tmp_path / "other", workers=1)
    assert "S1/Walking  6 3D poses, but view 54138969 has 5 2D poses" in summary


def test_videos_may_go_on_after_the_capture_but_not_end_before(raw, tmp_path):
    video = raw / "S1/Videos/Walking.58860488.mp4"
    frames = list(read_frames(video))
    write_frames(video, frames + frames[:2], "50")
    summary = prepare_human36m(raw, tmp_path / "longer", masks=raw / "masks", workers=1)
    assert "S1/Sequences/Walking      3       6   6      18  18     18" in summary
    write_frames(video, frames[:5], "50")
    summary = prepare_human36m(raw, tmp_path / "out", workers=1)
    assert "S1/Walking  6 poses, but view 58860488 has 5 images" in summary
    assert not (tmp_path / "out" / "S1").exists()


def test_what_an_action_lacks_is_told(raw, tmp_path):
    positions = read_object_npz(raw / DETECTIONS)["positions_2d"]["S1"]["Walking"]
    np.savez(raw / DETECTIONS, positions_2d=np.array({"S1": {"Sitting": positions}}, dtype=object))
    shutil.copy(next(raw.rglob("Walking.cdf")), raw / "S1/MyPoseFeatures/D3_Positions/Sitting.cdf")
    summary = prepare_human36m(raw, tmp_path / "out", workers=1)
    assert f"S1/Walking  no 2D poses for it in {DETECTIONS}" in summary
    assert "S1/Sitting  no videos" in summary


def test_a_subject_without_anything_is_told(raw, tmp_path):
    (raw / "S5").mkdir()
    summary = prepare_human36m(raw, tmp_path / "out", workers=1)
    (line,) = [line for line in summary.splitlines() if line.strip().startswith("S5")]
    assert line.endswith("neither videos nor poses of any action")


def test_broken_files_are_named(raw, tmp_path):
    out, cdf = tmp_path / "out", next(raw.rglob("Walking.cdf"))
    data = cdf.read_bytes()
    cdf.unlink()
    with pytest.raises(DataError, match="D3_Positions/Walking.cdf: no such file of poses"):
        prepare_human36m(raw, out, workers=1)
    cdf.write_bytes(data[:200])
    with pytest.raises(DataError, match="D3_Positions/Walking.cdf: not a readable CDF file"):
        prepare_human36m(raw, out, workers=1)
    cdf.write_bytes(data)
    text = (raw / METADATA).read_text()
    numbers = text[text.index("[") + 1 : text.index("]")].split()
    numbers[264] = "-1.0"
    (raw / METADATA).write_text(f"<root><w0>[{' '.join(numbers)}]</w0></root>")
    with pytest.raises(DataError, match=f"{METADATA}: camera 54138969 of subject 1 has focal lengths -1"):
        prepare_human36m(raw, out, workers=1)
    (raw / DETECTIONS).write_bytes(b"PK")
    with pytest.raises(DataError, match=DETECTIONS):
        prepare_human36m(raw, out, workers=1)
