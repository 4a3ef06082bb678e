"""`python -m hvs.data.sample.poses OUT.npz`: a small file of people's poses, for benchmarks that need no sample."""

import sys
from pathlib import Path

import numpy as np
import torch
import tyro
from torch import Tensor

from hvs.data.commands import run
from hvs.data.files import naming
from hvs.data.layouts import LAYOUTS

COUNT = 64
# Enough instants of each motion that neighbouring people are caught at different ones.
FRAMES = 16
# From the sample's own world, with z up, to one with y down.
Y_DOWN = ((1.0, 0.0, 0.0), (0.0, 0.0, -1.0), (0.0, 1.0, 0.0))


def sample_poses(count: int = COUNT) -> Tensor:
    """Poses of `count` different bodies, relative to the root, in metres, y down: [count, 117, 3] float32."""
    # Imported here, so that a missing package is reported in one line.
    from .people import make_person

    layout = LAYOUTS["panoptic"]
    poses = []
    for subject in range(count):
        body = make_person(0, subject, FRAMES).joints["panoptic"][(5 * subject) % FRAMES].double()
        points, _ = layout.place_middles(body, torch.ones(len(body)))
        points = points[list(layout.joints)]
        poses.append((points - points[layout.skeleton.root]) @ torch.tensor(Y_DOWN).double().mT)
    return torch.stack(poses).float()


def main(out: tyro.conf.Positional[Path]) -> None:
    """Write `points` [64, 117, 3] float32.

    Args:
        out: the .npz file.
    """
    points = sample_poses().numpy()
    with naming(out):
        np.savez_compressed(out, points=points)


if __name__ == "__main__":
    sys.exit(run(lambda: tyro.cli(main, prog="python -m hvs.data.sample.poses")))
