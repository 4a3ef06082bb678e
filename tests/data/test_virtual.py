import pytest
import torch

from hvs.data import PoseDataset
from hvs.data.virtual import GROW, VirtualViews
from hvs.geometry import Camera


@pytest.fixture(params=["capture", "human36m"])
def dataset(request):
    return PoseDataset(request.getfixturevalue(request.param).root)


def test_a_batch_looks_like_the_data_set(dataset):
    batch = VirtualViews(dataset, dataset.tensors().world).draw(5, torch.Generator().manual_seed(0))
    item = dataset[0]
    assert set(batch) == set(item)
    for name, value in item.items():
        assert batch[name].shape == (5, *value.shape) and batch[name].dtype == value.dtype, name


def test_the_lifter_is_told_the_resolution_of_the_data_set(human36m):
    """Also where it is swapped, and the images are not."""
    human36m.write_cameras(swapped=True)
    dataset = PoseDataset(human36m.root)
    batch = VirtualViews(dataset, dataset.tensors().world).draw(50, torch.Generator().manual_seed(0))
    assert torch.equal(batch["resolution"], dataset[0]["resolution"].expand(50, 2))
    height, width = dataset[0]["resolution"]
    seen = batch["keypoints"][batch["confidence"]]
    assert seen[:, 0].max() <= width - 1 and seen[:, 1].max() <= height - 1


def test_an_unbent_pose_keeps_its_shape(dataset, monkeypatch):
    """Turning changes no bone, and resizing all of them alike."""
    monkeypatch.setattr("hvs.data.bending.TURN", 0.0)
    views = VirtualViews(dataset, dataset.tensors().world)
    batch = views.draw(20, torch.Generator().manual_seed(1))
    sizes = views.points.sub(views.points[:, dataset.layout.skeleton.root, None]).norm(dim=-1)
    found = batch["relative"].norm(dim=-1)
    distance, nearest = torch.cdist(*(torch.nn.functional.normalize(v, dim=-1) for v in (found, sizes))).min(1)
    assert (distance < 1e-4).all()
    grown = found.norm(dim=-1) / sizes[nearest].norm(dim=-1)
    assert 0.5 * GROW < grown.std() < 2 * GROW and abs(grown.mean() - 1) < GROW
    assert batch["relative"].std(0).mean() > 0.05


def test_people_are_moved_on_the_floor(dataset, monkeypatch):
    """They neither rise nor sink."""
    worlds, project = [], Camera.project

    def see(self, world):
        worlds.append(world)
        return project(self, world)

    monkeypatch.setattr(Camera, "project", see)
    views = VirtualViews(dataset, dataset.tensors().world)
    views.draw(50, torch.Generator().manual_seed(7))
    up, root = views.up[0], dataset.layout.skeleton.root
    ((found, before),) = ((world[:, None, root], views.points[:, root]) for world in worlds)
    assert (found @ up - before @ up).abs().amin(1).max() < 1e-5
    assert (found - before).norm(dim=-1).amin(1).mean() > 0.1


def test_whole_poses_are_bent_and_others_are_not(dataset):
    views = VirtualViews(dataset, dataset.tensors().world)
    views.points, views.valid = views.points[:1].expand(20, -1, -1), views.valid[:1].expand(20, -1).clone()
    views.owners = views.owners[:1].expand(20)
    views.whole = torch.arange(20) % 2 == 0
    batch = views.draw(200, torch.Generator().manual_seed(4))
    found = torch.nn.functional.normalize(batch["relative"].norm(dim=-1), dim=-1)
    pose = views.points[0] - views.points[0, dataset.layout.skeleton.root]
    as_they_were = (found - torch.nn.functional.normalize(pose.norm(dim=-1), dim=0)).abs().amax(1) < 1e-4
    assert 0.3 < as_they_were.float().mean() < 0.7


def test_keypoints_are_projections_of_the_pose(dataset):
    """With nothing turned, moved or resized, a virtual view is a real one."""
    views = VirtualViews(dataset, dataset.tensors().world)
    real = dataset.tensors().items
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hvs.data.bending.TURN", 0.0)
        patch.setattr("hvs.data.virtual.MOVE", 0.0)
        patch.setattr("hvs.data.virtual.GROW", 0.0)
        patch.setattr("hvs.data.virtual.math.pi", 0.0)
        batch = views.draw(12, torch.Generator().manual_seed(2))
    for i in range(12):
        same = (real["relative"] - batch["relative"][i]).abs().amax((1, 2)) < 1e-5
        assert same.any()
        there = batch["confidence"][i]
        error = (real["keypoints"][same] - batch["keypoints"][i])[:, there].abs().amax((1, 2))
        assert there.sum() > 5 and error.min() < 0.05


def test_joints_without_a_projection_are_not_found(dataset):
    batch = VirtualViews(dataset, dataset.tensors().world).draw(8, torch.Generator().manual_seed(3))
    hidden = list(dataset.layout.not_projected)
    assert not batch["confidence"][:, hidden].any()
    assert (batch["keypoints"][~batch["confidence"]] == 0).all()


def test_the_same_random_numbers_draw_the_same(dataset):
    views = VirtualViews(dataset, dataset.tensors().world)
    one, other = (views.draw(4, torch.Generator().manual_seed(5)) for _ in range(2))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_every_camera_of_a_sequence_is_drawn_equally_often(dataset):
    """However many the other sequences have: here two and three."""
    views = VirtualViews(dataset, dataset.tensors().world)
    views.owners = torch.arange(len(views.points)) % 2
    views.views, views.first_view = torch.tensor([2, 3]), torch.tensor([0, 2])
    views.up, views.cameras = views.up[[0, 0]], views.cameras[[0] * 5]
    views.resolution = torch.arange(5.0)[:, None].expand(5, 2)
    views.size = views.size[[0] * 5]
    drawn = views.draw(6000, torch.Generator().manual_seed(6))["resolution"][:, 0].long()
    counts = torch.bincount(drawn, minlength=5).double()
    assert (counts[:2] / counts[:2].mean() - 1).abs().max() < 0.05
    assert (counts[2:] / counts[2:].mean() - 1).abs().max() < 0.05
