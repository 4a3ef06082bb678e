import pytest
import torch

from hvs.data import PoseDataset
from hvs.data.virtual import VirtualViews


@pytest.fixture(params=["capture", "human36m"])
def dataset(request):
    return PoseDataset(request.getfixturevalue(request.param).root)


def test_a_batch_looks_like_the_data_set(dataset):
    batch = VirtualViews(dataset).draw(5, torch.Generator().manual_seed(0))
    item = dataset[0]
    assert set(batch) == set(item)
    for name, value in item.items():
        assert batch[name].shape == (5, *value.shape) and batch[name].dtype == value.dtype, name


def test_a_pose_keeps_its_shape_and_its_height(dataset):
    """Turning about the vertical changes neither the bones nor how high a joint is above the root."""
    views = VirtualViews(dataset)
    batch = views.draw(20, torch.Generator().manual_seed(1))
    sizes = views.points.sub(views.points[:, dataset.layout.skeleton.root, None]).norm(dim=-1)
    found = batch["relative"].norm(dim=-1)
    assert (torch.cdist(found, sizes).amin(1) < 1e-4).all()
    assert batch["relative"].std(0).mean() > 0.05


def test_keypoints_are_projections_of_the_pose(dataset):
    """With the angle and the move at zero, a virtual view is a real one."""
    views = VirtualViews(dataset)
    real = dataset.tensors()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hvs.data.virtual.MOVE", 0.0)
        patch.setattr("hvs.data.virtual.math.pi", 0.0)
        batch = views.draw(12, torch.Generator().manual_seed(2))
    for i in range(12):
        same = (real["relative"] - batch["relative"][i]).abs().amax((1, 2)) < 1e-5
        assert same.any()
        there = batch["confidence"][i]
        error = (real["keypoints"][same] - batch["keypoints"][i])[:, there].abs().amax((1, 2))
        assert there.sum() > 5 and error.min() < 0.05


def test_joints_without_a_projection_are_not_found(dataset):
    batch = VirtualViews(dataset).draw(8, torch.Generator().manual_seed(3))
    hidden = list(dataset.layout.not_projected)
    assert not batch["confidence"][:, hidden].any()
    assert (batch["keypoints"][~batch["confidence"]] == 0).all()


def test_the_same_random_numbers_draw_the_same(dataset):
    views = VirtualViews(dataset)
    one, other = (views.draw(4, torch.Generator().manual_seed(5)) for _ in range(2))
    assert all(torch.equal(one[name], other[name]) for name in one)
