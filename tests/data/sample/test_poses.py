from pathlib import Path

import numpy as np
import pytest
import torch

from hvs.geometry.skeletons import PANOPTIC

COMMITTED = Path(__file__).parents[3] / "bench" / "poses.npz"


def upright(poses):
    assert poses.shape[1:] == (117, 3)
    assert np.abs(poses[:, PANOPTIC.root]).max() == 0
    ankles, head = [PANOPTIC.joints.index(name) for name in ("LAnkle", "RAnkle")], PANOPTIC.joints.index("Head")
    # y points down.
    return (poses[:, head, 1] < 0).all() and (poses[:, ankles, 1].max(1) > 0.5).all()


@pytest.fixture(scope="module")
def poses(model):
    from hvs.data.sample.poses import sample_poses

    return sample_poses(3)


def test_poses_are_upright_and_relative_to_the_root(poses):
    assert poses.dtype == torch.float32
    assert upright(poses.numpy())
    assert (poses[0] - poses[1]).abs().max() > 0.1


def test_a_file_that_cannot_be_written_is_one_line(model, monkeypatch, capsys, tmp_path):
    from hvs.data.commands import run
    from hvs.data.sample import poses

    monkeypatch.setattr(poses, "COUNT", 1)
    assert run(lambda: poses.main(tmp_path / "nowhere" / "poses.npz")) == 2
    err = capsys.readouterr().err
    assert err == f"error: [Errno 2] No such file or directory: '{tmp_path / 'nowhere' / 'poses.npz'}'\n"


def test_the_committed_poses_are_those_and_sixty_four(poses):
    committed = np.load(COMMITTED)["points"]
    assert committed.shape == (64, 117, 3) and committed.dtype == np.float32
    assert upright(committed)
    np.testing.assert_allclose(committed[:3], poses.numpy(), atol=1e-4)
    reach = np.linalg.norm(committed, axis=-1).max(1)
    assert reach.min() > 0.8 and reach.max() < 1.8
