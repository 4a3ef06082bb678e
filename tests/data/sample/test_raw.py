"""The sample's raw layouts, as the public downloads are."""

import json
import sys
import time

import numpy as np
import pytest
import torch

from hvs.data.ffmpeg import count_frames, read_frames
from hvs.data.npz import read_object_npz
from hvs.data.sample import SampleSettings, make_sample
from hvs.data.sample.capture import WRITERS
from hvs.data.sample.raw import write_positions


@pytest.fixture(scope="module")
def raw(model, tmp_path_factory):
    root, settings = tmp_path_factory.mktemp("raw"), SampleSettings(2, takes=2, frames=6, views=2, height=36, width=64)
    return lambda layout: make_sample(root / layout, settings, layout)


@pytest.mark.parametrize("openpose", [False, True])
def test_panoptic(raw, openpose):
    root = raw("panoptic-raw-openpose" if openpose else "panoptic-raw")
    names = ["subject1_pose1", "subject1_pose2", "subject2_pose1", "subject2_pose2"]
    assert sorted(path.name for path in root.iterdir() if path.is_dir() and path.name != "masks") == names
    folder = root / "subject1_pose2"
    assert count_frames(folder / "hdVideos/hd_00_01.mp4") == 6
    assert next(read_frames(folder / "hdVideos/hd_00_00.mp4")).shape == (36, 64, 3)
    entry = json.loads((folder / "calibration_subject1_pose2.json").read_text())["cameras"][1]
    assert (entry["name"], entry["type"], entry["resolution"]) == ("00_01", "hd", [64, 36])
    # Centimetres: the cameras stand some metres off.
    assert 300 < np.linalg.norm(entry["t"]) < 600
    body = json.loads((folder / "hdPose3d_stage1_coco19/body3DScene_00000005.json").read_text())["bodies"][0]
    joints = np.reshape(body["joints19"], (19, 4))
    assert (joints[:, 3] == 1).all() and -200 < joints[1, 1] < joints[8, 1] < 0
    hand = json.loads((folder / "hdHand3d/handRecon3D_hd00000005.json").read_text())["people"][0]["left_hand"]
    landmarks = np.reshape(hand["landmarks"], (21, 3))
    np.testing.assert_allclose(landmarks[0], joints[5, :3])
    assert (np.linalg.norm(landmarks - landmarks[0], axis=1) < 30).all()
    face = json.loads((folder / "hdFace3d/faceRecon3D_hd00000005.json").read_text())["people"][0]["face70"]
    assert np.linalg.norm(np.reshape(face["landmarks"], (70, 3)) - joints[1, :3], axis=1).max() < 30
    detections = folder / "openpose/hd_00_01/hd_00_01_000000000005_keypoints.json"
    assert detections.exists() == openpose
    if openpose:
        (person,) = json.loads(detections.read_text())["people"]
        assert len(person["pose_keypoints_2d"]) == 405


def test_human36m(raw):
    root = raw("human36m-raw")
    for subject in ("S1", "S5"):
        for action in ("Walking", "Walking 1"):
            assert count_frames(root / subject / "Videos" / f"{action}.55011271.mp4") == 6
            assert (root / subject / "MyPoseFeatures/D3_Positions" / f"{action}.cdf").is_file()
    positions = read_object_npz(root / "data_2d_h36m_cpn_ft_h36m_dbb.npz")["positions_2d"]
    assert {subject: list(actions) for subject, actions in positions.items()} == {
        "S1": ["Walking", "Walking 1"],
        "S5": ["Walking", "Walking 1"],
    }
    assert [array.shape for array in positions["S5"]["Walking 1"]] == [(6, 17, 2)] * 4
    splits = json.loads((root / "splits.json").read_text())
    assert [entry["sequence"] for entry in splits["known"]] == ["S1/Sequences/Walking", "S1/Sequences/Walking_1"]
    assert "<w0>[" in (root / "metadata.xml").read_text()


def test_poses_have_the_same_bytes_at_any_time_of_day(tmp_path, monkeypatch):
    pytest.importorskip("cdflib")
    points = torch.rand(6, 17, 3, dtype=torch.float64)
    contents = set()
    for second in (0, 10**9):
        monkeypatch.setattr(time, "time", lambda now=second: now)
        write_positions(tmp_path / "Walking.cdf", points)
        contents.add((tmp_path / "Walking.cdf").read_bytes())
    assert len(contents) == 1


def test_the_real_data_set_has_seven_subjects(tmp_path):
    with pytest.raises(ValueError, match="^subjects: got 8, wanted at most 7 in the layout human36m-raw"):
        make_sample(tmp_path / "raw", SampleSettings(subjects=8), "human36m-raw")


def test_what_it_is_written_with_is_wanted_before_anything_is_filmed(model, monkeypatch, tmp_path):
    from hvs.data.sample import people

    monkeypatch.setitem(sys.modules, "cdflib", None)
    monkeypatch.setattr(people, "film", None)
    with pytest.raises(ModuleNotFoundError, match=r"cdflib: pip install -e '.\[prepare\]'"):
        make_sample(tmp_path / "raw", SampleSettings(subjects=2, views=4), "human36m-raw")


def test_every_layout_names_a_data_set():
    assert {writer.dataset for writer in WRITERS.values()} == {"panoptic", "human36m"}
