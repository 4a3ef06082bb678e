"""Rasterise a pose: joints to Gaussians to an image of features, and a file for Gaussian-splatting viewers.

python examples/rasterize_a_pose.py [pose.png]    writes pose.png, and pose.ply next to it
"""

import sys
from pathlib import Path

import numpy as np
import torch

import hvs
from hvs.export import feature_colours, save_ply, visible_scales
from hvs.pictures import latent_to_rgb, mosaic, save_picture
from hvs.runtime import run_command

POSES = Path(__file__).parents[1] / "bench/poses.npz"
ALPHA = 0.025


def main() -> None:
    out = Path(sys.argv[1] if len(sys.argv) > 1 else "pose.png")
    torch.manual_seed(0)

    # The joints of three people in metres; each is moved to 3 m in front of a camera that looks along z.
    points = torch.from_numpy(np.load(POSES)["points"][[2, 21, 42]]).float()  # [3, 117, 3]
    points = points - (points.amin(1) + points.amax(1))[:, None] / 2 + torch.tensor([0.0, 0.0, 3.0])
    means, rotations, scales = hvs.limb_gaussians(points, hvs.skeletons.PANOPTIC)

    # Sixteen features for each limb, the same for all three people, and zeros for the background.
    features, background = torch.randn(len(hvs.skeletons.PANOPTIC.edges), 16), torch.zeros(16)
    K = torch.tensor([[360.0, 0.0, 127.5], [0.0, 360.0, 127.5], [0.0, 0.0, 1.0]])
    camera = hvs.Camera(K, torch.eye(3), torch.zeros(3), torch.zeros(0), height=256, width=256)
    latent = hvs.rasterize(means, rotations, scales, features, background, camera.rays(), alpha=ALPHA)
    print(f"latent   {tuple(latent.shape)}")

    save_picture(mosaic([list(latent_to_rgb(latent))]), out)
    print(f"picture  {out}")
    gaussians = means[0], rotations[0], visible_scales(scales[0], ALPHA)
    save_ply(out.with_suffix(".ply"), *gaussians, feature_colours(features, latent))
    print(f"viewers  {out.with_suffix('.ply')}")


if __name__ == "__main__":
    run_command(main)
