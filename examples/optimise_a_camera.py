"""Find where a camera is from what it sees, by gradient descent through the rasteriser and the pose in its frame.

python examples/optimise_a_camera.py [camera.png]    writes what the camera sees before, after, and should see
"""

import sys
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

import hvs
from hvs.pictures import latent_to_rgb, mosaic, save_picture
from hvs.runtime import run_command

POSES = Path(__file__).parents[1] / "bench/poses.npz"
SIZE, STEPS = 64, 150
K = torch.tensor([[90.0, 0.0, 31.5], [0.0, 90.0, 31.5], [0.0, 0.0, 1.0]])


def see(points: Tensor, features: Tensor, R: Tensor, t: Tensor) -> Tensor:
    """The latent image [C, h, w] of a pose [J, 3] in the world."""
    camera = hvs.Camera(K, R, t, torch.zeros(0), SIZE, SIZE)
    gaussians = hvs.limb_gaussians(camera.to_camera(points), hvs.skeletons.PANOPTIC)
    # Limbs softer than the paper's overlap from farther away.
    return hvs.rasterize(*gaussians, features, torch.zeros(features.shape[-1]), camera.rays(), alpha=0.2)


def main() -> None:
    out = Path(sys.argv[1] if len(sys.argv) > 1 else "camera.png")
    torch.manual_seed(0)
    points = torch.from_numpy(np.load(POSES)["points"][2]).float()
    points = points - (points.amin(0) + points.amax(0)) / 2
    features = torch.randn(len(hvs.skeletons.PANOPTIC.edges), 16)
    eye, up = torch.tensor([1.6, -0.4, -3.0]), torch.tensor([0.0, -1.0, 0.0])
    wanted = hvs.Camera.look_at(eye, torch.zeros(3), up, K, SIZE, SIZE)
    start = hvs.Camera.look_at(torch.tensor([0.7, 0.1, -3.0]), torch.zeros(3), up, K, SIZE, SIZE)
    target, before = (see(points, features, camera.R, camera.t) for camera in (wanted, start))

    # A rotation on top of the first one, as axis times angle, and a translation.
    turn, t = torch.zeros(3, requires_grad=True), start.t.clone().requires_grad_()
    optimiser = torch.optim.Adam([turn, t], lr=0.02)
    for step in range(STEPS + 1):
        R = torch.linalg.cross(torch.eye(3), turn.expand(3, 3)).matrix_exp() @ start.R
        found = see(points, features, R, t)
        error = F.mse_loss(found, target)
        if step % 25 == 0:
            print(f"step {step:3d}  error {error:.1e}  camera {1000 * (eye + R.T @ t).norm():6.1f} mm off")
        optimiser.zero_grad()
        error.backward()
        optimiser.step()

    save_picture(mosaic([latent_to_rgb(torch.stack((before, found, target)))], ["before", "found", "wanted"]), out)
    print(f"picture  {out}")


if __name__ == "__main__":
    run_command(main)
