import json
import shutil
import signal
import subprocess
import sys

import pytest

from hvs.data import DataError, find_sequences
from hvs.data.preparation import panoptic_raw, prepare_human36m, prepare_panoptic, run
from hvs.data.preparation.run import common_length
from hvs.data.stores import Store

# Prepares in a process that kills itself when the k-th picture is about to be encoded.
KILLED = """
import os, signal, sys
from pathlib import Path
from hvs.data.preparation import pictures, prepare_panoptic
left, encode = int(sys.argv[3]), pictures.to_jpeg
def to_jpeg(pixels):
    global left
    left -= 1
    if left < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return encode(pixels)
pictures.to_jpeg = to_jpeg
raw = Path(sys.argv[1])
prepare_panoptic(raw, Path(sys.argv[2]), masks=raw / "masks", workers=1)
"""


def contents(root):
    """Everything in the databases and the other files of a prepared capture."""
    found = {}
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        if path.suffix == ".lmdb":
            store = Store(path)
            found[name] = {frame: store[frame] for frame in store.frames}
        elif path.is_file() and path.suffix != ".mdb" and path.name != "settings.json":
            found[name] = path.read_bytes()
    return found


def times(root):
    return {path: path.stat().st_mtime_ns for path in root.rglob("data.mdb")}


@pytest.mark.parametrize("pictures", [0, 4, 21, 50])
def test_a_killed_run_goes_on_and_does_nothing_twice(pictures, sample, prepared, tmp_path):
    raw, out = sample("panoptic-raw-openpose"), tmp_path / "out"
    command = [sys.executable, "-c", KILLED, str(raw), str(out), str(pictures)]
    killed = subprocess.run(command, capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    # Whatever has its name is whole.
    done = times(out) and {path: time for path, time in times(out).items() if not path.parent.name.startswith(".")}
    assert len(done) == 4 + pictures // 6 + 4 * (pictures >= 36)
    prepare_panoptic(raw, out, masks=raw / "masks", workers=1)
    assert done.items() <= times(out).items()
    assert not list(out.rglob(".*"))
    assert contents(out) == contents(prepared("panoptic-raw-openpose"))


def test_a_second_run_has_nothing_to_do(sample, prepared):
    raw, out = sample("human36m-raw"), prepared("human36m-raw")
    before = times(out)
    summary = prepare_human36m(raw, out, masks=raw / "masks", workers=1)
    assert times(out) == before and len(before) == 2 * (3 * 3 + 1)
    assert "S5/Sequences/Walking      3       6   6      18  18     18" in summary
    assert "S1/Sequences/Walking  view 60457274: no video" in summary


def test_several_processes_write_the_same(sample, prepared, tmp_path):
    raw = sample("panoptic-raw-openpose")
    prepare_panoptic(raw, tmp_path / "out", masks=raw / "masks", workers=2)
    assert contents(tmp_path / "out") == contents(prepared("panoptic-raw-openpose"))


def test_other_settings_do_not_mix_with_what_is_there(sample, prepared, tmp_path):
    shutil.copytree(prepared("panoptic-raw"), tmp_path / "out")
    with pytest.raises(DataError, match=r"settings.json: begun with .*remove .*subject1_pose1/Subsequences/0"):
        prepare_panoptic(sample("panoptic-raw"), tmp_path / "out", workers=1)


def test_poses_of_other_cameras_are_not_taken_over(raw_copy, tmp_path):
    """As when a calibration is corrected after a first run."""
    raw, out = raw_copy("panoptic-raw"), tmp_path / "out"
    prepare_panoptic(raw, out, workers=1)
    file = raw / "subject1_pose1/calibration_subject1_pose1.json"
    calibration = json.loads(file.read_text())
    for camera in calibration["cameras"]:
        camera["t"] = [[value + 1 for value in row] for row in camera["t"]]
    file.write_text(json.dumps(calibration))
    before = contents(out)
    with pytest.raises(DataError, match="cameras.json: begun with other cameras .*; remove .*Subsequences/0 to start"):
        prepare_panoptic(raw, out, workers=1)
    assert contents(out) == before


def test_files_that_come_later_are_taken_up(raw_copy, tmp_path):
    raw, out = raw_copy("panoptic-raw-openpose"), tmp_path / "out"
    prepare_panoptic(raw, tmp_path / "whole", masks=raw / "masks", workers=1)
    recording = "subject1_pose1"
    missing = [panoptic_raw.openpose_file(raw / recording, "01", frame) for frame in (1, 2)]
    missing.append(raw / "masks" / recording / "02/00000003.png")
    for file in missing:
        file.rename(tmp_path / file.name)
    summary = prepare_panoptic(raw, out, masks=raw / "masks", workers=1)
    assert "2 2D poses: no file of the frame" in summary and "1 masks: no mask" in summary
    (tmp_path / missing.pop(0).name).rename(panoptic_raw.openpose_file(raw / recording, "01", 1))
    before = times(out)
    assert "1 2D poses: no file of the frame" in prepare_panoptic(raw, out, masks=raw / "masks", workers=1)
    assert changed(before, times(out)) == {"00.lmdb", "01.lmdb", "02.lmdb", "Reconstructed.lmdb"}
    for file in missing:
        (tmp_path / file.name).rename(file)
    before = times(out)
    assert "dropped" not in prepare_panoptic(raw, out, masks=raw / "masks", workers=1)
    assert contents(out) == contents(tmp_path / "whole")
    kept = {path for path, time in times(out).items() if before[path] == time}
    assert kept == {path for path in before if "Images" in path.parts or path.match("SOLO/0[01].lmdb/data.mdb")}
    before = times(out)
    prepare_panoptic(raw, out, masks=raw / "masks", workers=1)
    assert times(out) == before and not list(out.rglob(".*"))


def changed(before, after):
    return {path.parent.name for path, time in after.items() if before[path] != time}


def test_outlines_follow_poses_that_come_later(raw_copy, tmp_path):
    raw, out = raw_copy("panoptic-raw"), tmp_path / "out"
    prepare_panoptic(raw, tmp_path / "whole", workers=1)
    file = panoptic_raw.body_file(raw / "subject1_pose1", 4)
    file.rename(tmp_path / "body.json")
    assert "1 3D poses: no file of the frame" in prepare_panoptic(raw, out, workers=1)
    (tmp_path / "body.json").rename(file)
    prepare_panoptic(raw, out, workers=1)
    assert contents(out) == contents(tmp_path / "whole")


def test_hands_that_come_later_are_told(raw_copy, tmp_path):
    raw, out = raw_copy("panoptic-raw"), tmp_path / "out"
    hands = raw / "subject1_pose1/hdHand3d"
    hands.rename(tmp_path / "hands")
    prepare_panoptic(raw, out, workers=1)
    (tmp_path / "hands").rename(hands)
    with pytest.raises(DataError, match="begun with .*official reconstructions, without hdHand3d'.* to start over"):
        prepare_panoptic(raw, out, workers=1)


def test_masks_that_are_gone_are_not_asked_for(raw_copy, tmp_path):
    raw, out = raw_copy("panoptic-raw"), tmp_path / "out"
    (raw / "masks/subject1_pose1/02/00000003.png").unlink()
    summary = prepare_panoptic(raw, out, masks=raw / "masks", workers=1)
    shutil.rmtree(raw / "masks/subject1_pose1")
    before = times(out)
    assert prepare_panoptic(raw, out, masks=raw / "masks", workers=1) == summary
    assert times(out) == before


def test_splits_that_are_there_stay(sample, prepared, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(prepared("panoptic-raw"), out)
    own = json.loads((out / "splits.json").read_text()) | {"views": ["00", "01"]}
    (out / "splits.json").write_text(json.dumps(own))
    raw = sample("panoptic-raw")
    assert "splits.json: kept as it is, though " in prepare_panoptic(raw, out, masks=raw / "masks", workers=1)
    assert json.loads((out / "splits.json").read_text()) == own


def test_a_recording_without_a_calibration_is_told(raw_copy, tmp_path, capsys):
    raw = raw_copy("panoptic-raw")
    (raw / "subject1_pose1/calibration_subject1_pose1.json").unlink()
    with pytest.raises(DataError, match="calibration_subject1_pose1.json: cannot be read"):
        prepare_panoptic(raw, tmp_path / "out", workers=1)
    assert "subject1_pose1" in capsys.readouterr().out


def test_a_full_disk_leaves_the_summary(sample, prepared, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    shutil.copytree(prepared("panoptic-raw"), out)
    (out / "splits.json").unlink()

    def full(file):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    raw = sample("panoptic-raw")
    with pytest.raises(DataError, match=r"settings.json: cannot be written \(No space left on device\) \(and 2 more"):
        prepare_panoptic(raw, out, masks=raw / "masks", workers=1)
    assert "masks: " in capsys.readouterr().out and not (out / "splits.json").exists()


def test_only_one_run_at_a_time(sample, tmp_path):
    with run._alone(tmp_path), pytest.raises(DataError, match="another run is preparing it"):
        prepare_panoptic(sample("panoptic-raw"), tmp_path, workers=1)


def test_a_broken_recording_does_not_stop_the_others(sample, tmp_path, capsys):
    raw, out = tmp_path / "raw", tmp_path / "out"
    shutil.copytree(sample("panoptic-raw"), raw)
    (raw / "subject1_pose1/calibration_subject1_pose1.json").write_text("{")
    with pytest.raises(DataError, match="calibration_subject1_pose1.json: not a readable JSON file"):
        prepare_panoptic(raw, out, masks=raw / "masks", workers=1)
    assert "subject2_pose1/Subsequences/0      3       6" in capsys.readouterr().out
    assert (out / "subject2_pose1/Subsequences/0/Databases/Masks/SOLO/02.lmdb").is_dir()
    assert not (out / "subject1_pose1").exists()


def test_a_video_that_breaks_off_is_named_and_leaves_nothing(raw_copy, tmp_path):
    raw, out = raw_copy("panoptic-raw"), tmp_path / "out"
    video = raw / "subject1_pose1/hdVideos/hd_00_01.mp4"
    data = bytearray(video.read_bytes())
    start = data.index(b"mdat") + 4
    # Past the index of the file, so that the frames can be counted but not decoded.
    data[start + 1000 : start + 5000] = bytes(4000)
    video.write_bytes(data)
    with pytest.raises(DataError, match="hd_00_01.mp4: "):
        prepare_panoptic(raw, out, masks=raw / "masks", workers=1)
    images = out / "subject1_pose1/Subsequences/0/Databases/Images"
    assert [path.name for path in images.iterdir()] == ["00.lmdb"]


def test_views_of_another_length_are_left_out(monkeypatch):
    counts = {"a": 7, "b": 7, "c": 6, "d": 9}
    monkeypatch.setattr(run, "count_frames", counts.get)
    videos, lost = {view: view for view in counts}, {}
    assert common_length(videos, lost, 2) == ({"a": "a", "b": "b"}, 7)
    assert lost == {"c": "its video has 6 frames, wanted 7", "d": "its video has 9 frames, wanted 7"}
    lost = {}
    kept, length = common_length(videos, lost, 1, wanted=7)
    assert (list(kept), length, list(lost)) == (["a", "b", "d"], 7, ["c"])


def test_a_capture_that_brings_no_splits_is_told_so(raw_copy, tmp_path):
    raw, out = raw_copy("panoptic-raw"), tmp_path / "out"
    summary = prepare_panoptic(raw, out, workers=1)
    assert f"a splits.json of your own in {out}: subject1_pose1/Subsequences/0" in summary
    assert "masks: limbs' outline\nSuch masks are coarse" in summary
    splits = {"views": ["00", "01"], "unknown": [], "known": [dict(train=[[0, 3]], val=[], test=[])]}
    splits["known"][0]["sequence"] = "subject1_pose1/Subsequences/0"
    (out / "splits.json").write_text(json.dumps(splits))
    assert find_sequences(out)[0].views == ("00", "01")


def test_nonsense_is_refused(tmp_path, sample):
    with pytest.raises(DataError, match="no raw Panoptic sequence here"):
        prepare_panoptic(tmp_path, tmp_path / "out")
    with pytest.raises(DataError, match="no raw Human3.6M here"):
        prepare_human36m(tmp_path, tmp_path / "out")
    with pytest.raises(DataError, match="^workers: got 0, wanted at least 1"):
        prepare_panoptic(sample("panoptic-raw"), tmp_path / "out", workers=0)
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="file: not a folder that can be written to"):
        prepare_panoptic(sample("panoptic-raw"), tmp_path / "file", workers=1)
