"""Triangulate the sample's poses from noisy views, compared with the plain method: errors in millimetres.

    python -m bench.triangulation

The plain method is that of the original code: unweighted linear least squares over the views with a confidence above
0.25, of which it needs four, then 500 steps of Adam (learning rate 1e-3) on the mean L1 distance on the plane z = 1.
Both methods get the same cameras, pixels and undistortion. An outlier is a pixel drawn uniformly from the image. A
joint that is not found counts as if it were found at the world's origin.
"""

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from hvs.geometry import Camera
from hvs.geometry.triangulation import CONFIDENT, triangulate, undistort_exactly

SIZE = (1920, 1080)
NOISE, OUTLIERS = (0.0, 1.0, 2.0, 5.0), (0.0, 0.1)
LEAST_VIEWS, STEPS, RATE = 4, 500, 1e-3
METHODS = {"ours": lambda *views: triangulate(*views).points, "plain": lambda *views: plain(*views)}


def plain(keypoints: Tensor, confidence: Tensor, cameras: list[Camera]) -> Tensor:
    """Points [P, 3] of pixels [V, P, 2] and confidence [V, P] by the plain method; zero with fewer than four views."""
    rays = torch.stack([_plane(camera, pixels) for camera, pixels in zip(cameras, keypoints, strict=True)])
    used = (confidence > CONFIDENT).double()  # [V, P]
    R, t = (torch.stack([getattr(camera, name) for camera in cameras]) for name in ("R", "t"))
    # (x·r3 - r1)·X = t1 - x·t3, and the same of y.
    rows = rays[..., None] * R[:, None, 2:] - R[:, None, :2]  # [V, P, 2, 3]
    right = t[:, None, :2] - rays * t[:, None, 2:]  # [V, P, 2]
    enough = used.sum(0) >= LEAST_VIEWS
    normal = torch.einsum("vp,vpik,vpil->pkl", used, rows, rows)
    normal[~enough] = torch.eye(3, dtype=normal.dtype)
    points = torch.linalg.solve(normal, torch.einsum("vp,vpik,vpi->pk", used, rows, right))
    points = _descend(points, rays, used, R, t)
    return points * enough[:, None]


def _descend(points: Tensor, rays: Tensor, used: Tensor, R: Tensor, t: Tensor) -> Tensor:
    points = points.clone().requires_grad_()
    optimiser = torch.optim.Adam([points], lr=RATE)
    share = used / used.sum(0).clamp(min=1)
    for _ in range(STEPS):
        optimiser.zero_grad()
        seen = torch.einsum("vij,pj->vpi", R, points) + t[:, None]
        off = (seen[..., :2] / seen[..., 2:] - rays).abs().mean(-1)
        (share * off).sum().backward()
        optimiser.step()
    return points.detach()


def _plane(camera: Camera, pixels: Tensor) -> Tensor:
    rays = torch.linalg.solve(camera.K, torch.cat((pixels, torch.ones_like(pixels[:, :1])), -1).mT).mT
    return undistort_exactly(rays[:, :2], camera.distortion)


def sample_scene(people: int, frames: int, views: int, seed: int = 0) -> tuple[Tensor, list[Camera]]:
    """Joints of the sample's people in the world [P, 3] in metres, and its ring of cameras with images of 1920×1080."""
    from hvs.data.sample.people import make_person
    from hvs.data.sample.stage import ring

    joints = [make_person(seed, subject, frames).joints["panoptic"].double() for subject in range(people)]
    return torch.cat(joints).reshape(-1, 3), ring([SIZE] * views, np.random.default_rng([seed, 0]))


def detect(points: Tensor, cameras: list[Camera], noise: float, outliers: float, seed: int = 0) -> tuple:
    """Pixels [V, P, 2] with Gaussian noise (deviation in pixels) and a fraction of outliers; confidence [V, P]."""
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.stack([camera.project(points) for camera in cameras])
    pixels = pixels + noise * torch.randn(pixels.shape, generator=generator, dtype=torch.float64)
    anywhere = torch.rand(pixels.shape, generator=generator, dtype=torch.float64) * torch.tensor(SIZE)
    wrong = torch.rand(pixels.shape[:-1], generator=generator) < outliers
    return anywhere.where(wrong[..., None], pixels), torch.ones(pixels.shape[:-1], dtype=torch.float64)


def measure(method: Callable, points: Tensor, cameras: list[Camera], noise: float, outliers: float) -> dict[str, float]:
    """Distances to the true points in millimetres, and seconds."""
    keypoints, confidence = detect(points, cameras, noise, outliers)
    start = time.perf_counter()
    found = method(keypoints, confidence, cameras)
    seconds = time.perf_counter() - start
    off = 1e3 * (found - points).norm(dim=-1)
    return dict(mean=off.mean().item(), median=off.median().item(), p95=off.quantile(0.95).item(), seconds=seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", type=int, default=4)
    parser.add_argument("--frames", type=int, default=10, help="frames of each person")
    parser.add_argument("--views", type=int, default=8)
    options = parser.parse_args()
    points, cameras = sample_scene(options.people, options.frames, options.views)
    print(f"{len(points)} joints in {options.views} views of {SIZE[0]}x{SIZE[1]}; errors in mm\n")
    print("| noise (px) | outliers | method | mean | median | 95 % | seconds |\n|---|---|---|---|---|---|---|")
    for outliers in OUTLIERS:
        for noise in NOISE:
            for name, method in METHODS.items():
                found = measure(method, points, cameras, noise, outliers)
                numbers = " | ".join(f"{found[key]:.2f}" for key in ("mean", "median", "p95", "seconds"))
                print(f"| {noise:g} | {outliers:.0%} | {name} | {numbers} |", flush=True)


if __name__ == "__main__":
    main()
