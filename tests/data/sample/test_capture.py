import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hvs.data import PairDataset, PoseDataset, find_sequences
from hvs.data.sample import SampleSettings, make_sample
from hvs.data.sample.capture import HUMAN36M_VIEWS, _splits


@pytest.mark.parametrize("layout", ["panoptic", "human36m"])
def test_readers_read_it(layout, request):
    root = request.getfixturevalue(layout)
    views = 3
    for split, subjects, frames in (
        ("train", "known", 4), ("val", "known", 1), ("test", "known", 1), ("val", "unknown", 3), ("test", "unknown", 3)
    ):  # fmt: skip
        pairs = PairDataset(root, split, subjects, input_resolution=32, target_resolution=48)
        assert len(pairs) == frames * views**2
    pair = pairs[5]
    assert pair["image_b"].shape == (3, 48, 48)
    assert 0.03 < pair["mask_b"].mean() < 0.5
    assert pair["valid"].all() and pair["confidence_a"].all()
    assert len(PoseDataset(root, "train")) == 4 * views


@pytest.mark.parametrize("layout", ["panoptic", "human36m"])
def test_labels_cameras_and_masks_agree(layout, request):
    for sequence in find_sequences(request.getfixturevalue(layout), "all"):
        for frame in (0, 5):
            points, valid = sequence.points(frame)
            for view in sequence.views:
                keypoints, confident = sequence.keypoints(view, frame)
                projected = sequence.camera(view).project(points)
                # Panoptic's root and head are other points in 3D than in 2D.
                same = confident & valid
                if layout == "panoptic":
                    same[17:19] = False
                assert same.sum() > 15
                torch.testing.assert_close(projected[same], keypoints[same], rtol=0, atol=2e-3)
                x, y = keypoints[same].round().long().unbind(-1)
                # At this size a joint on the outline is a pixel beside it as often as not.
                mask = torch.nn.functional.max_pool2d(sequence.mask(view, frame).float(), 3, 1, 1)[0]
                assert mask[y, x].mean() > 0.95


def test_panoptics_world_has_y_down_and_metres(panoptic):
    for sequence in find_sequences(panoptic, "all"):
        points, _ = sequence.points(2)
        head, ankles = points[18], points[15:17]
        assert (head[1] < ankles[:, 1] - 0.9).all()
        assert points[:, 1].min() > -2.3 and points[:, 1].max() < 0.05


def test_human36ms_world_has_z_up_and_its_own_cameras(human36m):
    sequence = find_sequences(human36m, "known")[0]
    points, _ = sequence.points(2)
    assert points[10, 2] > points[[3, 6], 2].max() + 0.9
    assert sequence.views == HUMAN36M_VIEWS[:3]
    assert sequence.resolution("54138969") == (72, 72)


def test_joints_out_of_the_frame_are_zero():
    from hvs.data.sample.layouts import see
    from hvs.geometry import Camera

    K = torch.tensor([[50.0, 0, 31.5], [0, 50, 17.5], [0, 0, 1]]).double()
    camera = Camera(K, torch.eye(3).double(), torch.zeros(3).double(), torch.zeros(5).double(), 36, 64)
    points = torch.tensor([[[0.0, 0, 2], [5, 0, 2], [0, -3, 2]]]).double()
    seen = see(camera, points, confident=True)
    assert seen[0].tolist() == [[31.5, 17.5, 1], [0, 0, 0], [0, 0, 0]]
    assert see(camera, points, confident=False)[0, 1].tolist() == [156.5, 17.5]


def test_the_same_settings_give_the_same_capture(panoptic, small, tmp_path):
    again = make_sample(tmp_path / "again", small)
    files = sorted(path.relative_to(panoptic) for path in panoptic.rglob("*") if path.is_file())
    assert files == sorted(path.relative_to(again) for path in again.rglob("*") if path.is_file())
    for path in files:
        assert (panoptic / path).read_bytes() == (again / path).read_bytes(), path


def test_made_once_in_the_cache_and_anew_for_other_settings(model, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    settings = SampleSettings(subjects=2, takes=1, frames=6, views=1, height=24, width=32)
    first = make_sample(settings=settings)
    assert first.parent == tmp_path / "hvs"
    written = {path: path.stat().st_mtime_ns for path in first.rglob("*")}
    assert make_sample(settings=settings) == first
    assert {path: path.stat().st_mtime_ns for path in first.rglob("*")} == written
    other = make_sample(settings=SampleSettings(**{**vars(settings), "seed": 1}))
    assert other != first
    one, another = (find_sequences(root, "known")[0].points(0)[0] for root in (first, other))
    assert (one - another).abs().max() > 0.05


def test_a_stop_half_way_leaves_nothing(model, small, monkeypatch, tmp_path):
    from hvs.data.sample import people

    film = people.film

    def stopped(*args):
        yield from list(film(*args))[:2]
        raise KeyboardInterrupt

    monkeypatch.setattr(people, "film", stopped)
    with pytest.raises(KeyboardInterrupt):
        make_sample(tmp_path / "sample", small)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_something_else_is_refused(panoptic, small, tmp_path):
    with pytest.raises(ValueError, match="holds something other than this sample"):
        make_sample(panoptic, SampleSettings(**{**vars(small), "seed": 5}))
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(ValueError, match="holds something other than this sample"):
        make_sample(tmp_path, small)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize(
    ("name", "value"),
    [("subjects", 1), ("takes", 0), ("frames", 5), ("views", 0), ("views", 32), ("height", 15), ("seed", -1)],
)
def test_settings_that_cannot_be_are_refused(name, value):
    with pytest.raises(ValueError, match=f"^{name}: got {value}, wanted at"):
        SampleSettings(**{name: value})


def test_an_unknown_layout_is_refused(tmp_path):
    with pytest.raises(ValueError, match="^layout: got 'coco', wanted one of panoptic, human36m"):
        make_sample(tmp_path, layout="coco")


@pytest.mark.parametrize("layout", ["plain", "panoptic-raw-openpose"])
def test_one_view_is_refused_where_poses_are_triangulated(tmp_path, layout):
    with pytest.raises(ValueError, match=f"^views: got 1, wanted at least 2 in the layout {layout}$"):
        make_sample(tmp_path / "sample", SampleSettings(subjects=2, views=1), layout)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("layout", ["panoptic", "human36m"])
def test_takes_are_different_motions_of_the_same_person(model, layout, tmp_path):
    root = make_sample(tmp_path / layout, SampleSettings(2, takes=2, frames=6, views=2, height=48, width=80), layout)
    one, other = find_sequences(root, "known")
    first = {"panoptic": "subject1/Subsequences/0", "human36m": "S1/Sequences/Walking"}[layout]
    second = {"panoptic": "subject1/Subsequences/1", "human36m": "S1/Sequences/Walking_1"}[layout]
    assert (one.name, other.name) == (first, second)
    edges = torch.tensor(one.layout.skeleton.edges)
    (a, _), (b, _) = (sequence.points(3) for sequence in (one, other))
    bones_a, bones_b = (points[edges[:, 0]].sub(points[edges[:, 1]]).norm(dim=-1) for points in (a, b))
    # The joints of a bone lie in soft flesh, so its length changes a little with the pose.
    assert (bones_a / bones_b - 1)[bones_a > 0.3].abs().max() < 0.06
    assert (a - a[0] - b + b[0]).norm(dim=-1).max() > 0.1
    assert len(find_sequences(root, "unknown")) == 2


@given(st.integers(6, 2000))
def test_splits_share_the_frames_out_in_blocks(frames):
    splits = _splits(SampleSettings(subjects=3, takes=1, frames=frames), ["00"], "human36m")
    assert [entry["sequence"] for entry in splits["known"]] == ["S1/Sequences/Walking", "S2/Sequences/Walking"]
    assert [entry["sequence"] for entry in splits["unknown"]] == ["S3/Sequences/Walking"]
    for entry in splits["known"]:
        assert len(entry["val"]) == len(entry["test"]) == 1
        blocks = [range(first, last + 1) for name in ("train", "val", "test") for first, last in entry[name]]
        assert all(blocks)
        assert sorted(frame for block in blocks for frame in block) == list(range(frames))
        assert sum(len(range(a, b + 1)) for a, b in entry["train"]) >= frames // 2
    (unknown,) = splits["unknown"]
    assert unknown["train"] == [] and unknown["val"] and unknown["test"]


def test_splits_are_written_as_the_published_ones(panoptic):
    splits = json.loads((panoptic / "splits.json").read_text())
    assert splits["views"] == ["00", "01", "02"]
    assert set(splits["known"][0]) == {"sequence", "train", "val", "test"}
    assert splits["unknown"][0]["sequence"] == "subject2/Subsequences/0"
