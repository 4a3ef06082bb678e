import json
import shutil

import pytest
import torch

from hvs.data import DataError
from hvs.data.layouts import IMAGES
from hvs.data.preparation import panoptic, prepare_panoptic
from hvs.data.preparation import panoptic_raw as raw_files
from hvs.data.preparation.databases import Clip
from hvs.geometry import Camera


def clip_of(out, index=0, frames=6):
    return Clip(out, f"subject1_pose1/Subsequences/{index}", "panoptic", 0, frames)


def edit(file, change):
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


def test_published_sequences_are_cut_where_they_were(raw_copy, monkeypatch, tmp_path, prepared):
    raw, out, whole = raw_copy("panoptic-raw-openpose"), tmp_path / "out", clip_of(prepared("panoptic-raw-openpose"))
    # Of its six frames the last is not used.
    monkeypatch.setitem(panoptic.SUBSEQUENCES, "subject1_pose1", ((0, 2), 4))
    monkeypatch.setitem(panoptic.DRIFTING, "subject1_pose1", ("01", "16"))
    summary = prepare_panoptic(raw, out, masks=raw / "masks", workers=1)
    for index, frames in enumerate(((0, 1), (2, 3, 4))):
        clip = clip_of(out, index, len(frames))
        for place in (IMAGES, "Masks/SOLO", clip.layout.keypoints):
            for view in ("00", "02"):
                store = clip.store(place, view)
                assert store.frames == list(range(len(frames)))
                assert [store[i] for i in store.frames] == [whole.store(place, view)[frame] for frame in frames]
            assert not clip.has(place, "01")
        assert clip.store(clip.layout.points).frames == list(range(len(frames)))
        assert list(json.loads((clip.folder / "cameras.json").read_text())) == ["00", "02"]
    assert summary.count("view 01: its calibration drifts") == 2


def test_the_published_cuts_follow_each_other():
    for starts, last in panoptic.SUBSEQUENCES.values():
        assert list(starts) == sorted(set(starts)) and starts[0] == 0 and starts[-1] < last
    assert len(panoptic.SUBSEQUENCES) == 9 and panoptic.DRIFTING["171204_pose6"] == ("12", "16", "18", "27")


def test_only_somebody_alone_has_a_2d_pose_but_the_surest_is_triangulated(raw_copy, tmp_path, prepared):
    raw, out = raw_copy("panoptic-raw-openpose"), tmp_path / "out"
    folder = raw / "subject1_pose1"
    stranger = {"pose_keypoints_2d": [50.0, 30.0, 0.3] * 135}
    edit(raw_files.openpose_file(folder, "00", 1), lambda content: content["people"].insert(0, stranger))
    edit(raw_files.openpose_file(folder, "00", 2), lambda content: content["people"].clear())
    raw_files.openpose_file(folder, "02", 3).unlink()
    for view in ("00", "01", "02"):
        edit(raw_files.openpose_file(folder, view, 5), lambda content: content["people"].clear())
    summary = prepare_panoptic(raw, out, masks=raw / "masks", workers=1)
    clip, whole = clip_of(out), clip_of(prepared("panoptic-raw-openpose"))
    assert clip.store(clip.layout.keypoints, "00").frames == [0, 3, 4]
    assert clip.store(clip.layout.keypoints, "02").frames == [0, 1, 2, 4]
    for reason in ("1 2D poses: more than one person", "4 2D poses: nobody", "1 2D poses: no file of the frame"):
        assert reason in summary
    # Two views do not suffice where there are three.
    assert clip.store(clip.layout.points).frames == [0, 1, 4]
    assert "3 3D poses: no joint that enough views agree on" in summary
    label = clip.label(clip.layout.points, 1)
    torch.testing.assert_close(label, whole.label(clip.layout.points, 1), rtol=0, atol=1e-5)


def test_frames_that_nobody_reconstructed(raw_copy, tmp_path):
    raw, out = raw_copy("panoptic-raw"), tmp_path / "out"
    folder = raw / "subject1_pose1"
    raw_files.body_file(folder, 0).unlink()
    edit(raw_files.body_file(folder, 1), lambda content: content["bodies"].clear())
    edit(raw_files.body_file(folder, 2), lambda content: content["bodies"].append(content["bodies"][0]))
    raw_files.hand_file(folder, 3).unlink()
    shutil.rmtree(folder / "hdFace3d")
    summary = prepare_panoptic(raw, out, masks=raw / "masks", workers=1)
    clip = clip_of(out)
    assert clip.store(clip.layout.points).frames == [2, 3, 4, 5]
    assert clip.store(clip.layout.keypoints, "01").frames == [3, 4, 5]
    assert not clip.label(clip.layout.points, 3)[25:65].any() and clip.label(clip.layout.points, 4)[25:65].any()
    assert not clip.label(clip.layout.points, 4)[65:].any()
    for reason in ("1 3D poses: nobody", "1 3D poses: no file of the frame", "3 2D poses: more than one person"):
        assert reason in summary


def test_joints_out_of_an_image_are_not_seen_in_it(raw_copy, tmp_path):
    raw, out = raw_copy("panoptic-raw"), tmp_path / "out"
    # The left shoulder so high up that the lens's model folds it back into the image; the right one unknown.
    far = lambda content: content["bodies"][0]["joints19"].__setitem__(slice(12, 16), [0, -9e3, 0, 1])  # noqa: E731
    unknown = lambda content: content["bodies"][0]["joints19"].__setitem__(39, -1)  # noqa: E731
    for change in (far, unknown):
        edit(raw_files.body_file(raw / "subject1_pose1", 0), change)
    prepare_panoptic(raw, out, masks=raw / "masks", workers=1)
    clip = clip_of(out)
    points = clip.label(clip.layout.points, 0)
    assert points[5].tolist() == [0, -90, 0, 1] and not points[6].any()
    for view in ("00", "01", "02"):
        assert not clip.label(clip.layout.keypoints, 0, view)[5:7].any()


def test_views_without_a_video_are_left_out_and_poses_are_needed(raw_copy, tmp_path):
    raw = raw_copy("panoptic-raw")
    folder = raw / "subject1_pose1"
    raw_files.video_file(folder, "01").unlink()
    assert "view 01: no video hd_00_01.mp4" in prepare_panoptic(raw, tmp_path / "out", workers=1)
    for view in ("00", "02"):
        raw_files.video_file(folder, view).unlink()
    with pytest.raises(DataError, match="hdVideos: no video of any camera, wanted hd_00_NN.mp4"):
        prepare_panoptic(raw, tmp_path / "other", workers=1)
    shutil.copy(next(raw.glob("masks/*/00/*.png")), raw_files.video_file(folder, "00"))
    with pytest.raises(DataError, match="hd_00_00.mp4: "):
        prepare_panoptic(raw, tmp_path / "other", workers=1)


def test_a_folder_without_poses_is_named(raw_copy, tmp_path):
    raw = raw_copy("panoptic-raw")
    shutil.rmtree(raw / "subject1_pose1/hdPose3d_stage1_coco19")
    with pytest.raises(DataError, match="subject1_pose1: no poses here, wanted openpose/ or hdPose3d_stage1_coco19/"):
        prepare_panoptic(raw, tmp_path / "out", workers=1)


def test_images_of_another_size_than_the_cameras_are_named(raw_copy, tmp_path):
    raw = raw_copy("panoptic-raw")
    file = raw / "subject1_pose1/calibration_subject1_pose1.json"
    edit(file, lambda content: content["cameras"][1].update(resolution=[1920, 1080]))
    with pytest.raises(DataError, match="hd_00_01.mp4: frame 0 is 128x72, its camera 1920x1080"):
        prepare_panoptic(raw, tmp_path / "out", masks=raw / "masks", workers=1)


def test_points_that_the_lens_would_fold_into_the_image_are_not_seen():
    K = torch.tensor([[1400.0, 0, 960], [0, 1400, 540], [0, 0, 1]]).double()
    lens = torch.tensor([-0.3, 0, 0, 0, 0]).double()
    camera = Camera(K, torch.eye(3).double(), torch.zeros(3).double(), lens, 1080, 1920)
    points = torch.tensor([[[3.64, 0, 2, 1], [0.3, 0.2, 2, 0.7], [0.3, 0.2, -2, 1], [0.3, 0.2, 2, 0]]]).double()
    pixels = camera.project(points[..., :3])[0]
    assert 0 < pixels[0, 0] < 1920
    found = panoptic._project(points, camera)[0]
    assert not found[[0, 2, 3]].any()
    torch.testing.assert_close(found[1], torch.cat((pixels[1], torch.tensor([0.7]).double())))
