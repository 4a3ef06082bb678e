"""Pose and position of a person in a photo: the lifter's pose, placed where it fits the keypoints best."""

import torch
from torch import Tensor
from torch.nn import functional as F

from hvs.data.layouts import Layout
from hvs.geometry import Camera
from hvs.models import HumanViewSynthesis

# How many metres a capture's frames may show where the person stands. It is unknown how many those of the model's own
# capture did.
FRAMES = tuple(2.2 * 1.15**i for i in range(9))
# Side of the frames that the lifter is shown, in pixels.
SIDE = 1024
# How often unseen joints are taken from the lifted pose.
ROUNDS = 3
# Fewer joints do not determine where a pose is.
LEAST_JOINTS = 3
# A pose's weight is this power of the best pose's distance to the keypoints over its own; distances are floored at
# TINY.
SHARPNESS, TINY = 4, 1e-6
UP = (0.0, -1.0, 0.0)


@torch.inference_mode()
def place(
    model: HumanViewSynthesis, layout: Layout, keypoints: Tensor, seen: Tensor, camera: Camera, scale: float
) -> tuple[Tensor, float] | None:
    """The pose of a person in the frame of an uncalibrated camera, [J, 3] in metres.

    The lifter knows people in the middle of its capture's frames. So it is shown what a camera in the same place would
    see if it were turned to the person and zoomed. Several zooms are tried, and the result is a mean in which a pose
    counts the more the better it fits the keypoints. Unseen joints are taken from the lifted pose, and the pose is
    lifted again.

    Args:
        model: whose lifter to use, on the keypoints' device.
        layout: layout of the labels it was trained on.
        keypoints: pixels of the photo, [J, 2]; guesses for joints that were not seen.
        seen: which joints were seen, [J] bool.
        camera: camera of the photo, upright, at the origin of the world, without lens distortion or batch axes.
        scale: pixels of the photo per metre of the person.

    Returns:
        The pose, and how many metres a frame of the model's capture shows; None if the keypoints do not tell.
    """
    skeleton = layout.skeleton
    projected = torch.ones_like(seen)
    projected[list(layout.not_projected)] = False
    body = torch.zeros_like(seen)
    body[slice(*skeleton.parts["body"])] = True
    # Dozens of joints of the face would outweigh the rest.
    fitted = seen & projected & body
    if fitted.sum() < LEAST_JOINTS:
        return None
    rays = F.pad((keypoints - camera.K[:2, 2]) / camera.K.diagonal()[:2], (0, 1), value=1.0)  # [J, 3]
    low, high = rays[fitted].aminmax(dim=0)
    turned = Camera.look_at(camera.t, (low + high) / 2, keypoints.new_tensor(UP), camera.K, SIDE, SIDE)
    rays = turned.to_camera(rays)
    plane = rays[:, :2] / rays[:, 2:]  # [J, 2]
    shown, size = (seen | projected).expand(len(FRAMES), -1), plane.new_full((len(FRAMES), 2), SIDE)
    # Pixels of the frames per unit of the plane z = 1, where a metre of the person measures scale / focal.
    zoom = SIDE * camera.K[0, 0] / scale / plane.new_tensor(FRAMES)[:, None, None]  # [M, 1, 1]
    places = plane
    for _ in range(ROUNDS + 1):
        pixels = (zoom * places + SIDE / 2).where(shown[..., None], 0.0)
        poses = model.lift(pixels, shown, size)
        poses = poses + _translations(poses[:, fitted], plane[fitted])[:, None]
        seen_at = poses[..., :2] / poses[..., 2:]
        places = plane.where((seen | ~projected)[:, None], seen_at)
    misses = (seen_at - plane)[:, fitted].norm(dim=-1).mean(1)
    usable = misses.isfinite() & (poses[..., 2] > 0).all(1)
    if not usable.any():
        return None
    poses, misses, frames = poses[usable], misses[usable].clamp(min=TINY), plane.new_tensor(FRAMES)[usable]
    weights = (misses.amin() / misses) ** SHARPNESS
    weights = weights / weights.sum()
    poses = poses - poses[:, skeleton.root, None]
    pose = (weights[:, None, None] * poses).sum(0, keepdim=True)
    pose = pose + _translations(pose[:, fitted], plane[fitted])[:, None]
    frame = (weights * frames.log()).sum().exp().item()
    return turned.to_world(pose[0]), frame


def _translations(poses: Tensor, plane: Tensor) -> Tensor:
    """Translations [M, 3] after which poses [M, J, 3] are seen at points [J, 2] of the plane z = 1.

    Least squares of x·(Z + tz) = X + tx and y·(Z + tz) = Y + ty over all joints.
    """
    one, zero = torch.ones_like(plane[:, 0]), torch.zeros_like(plane[:, 0])
    x, y = plane.unbind(-1)
    rows = torch.cat((torch.stack((one, zero, -x), -1), torch.stack((zero, one, -y), -1)))  # [2J, 3]
    right = (plane * poses[..., 2:] - poses[..., :2]).mT.flatten(1)  # [M, 2J]
    # Not lstsq, which fails for all poses when one of them is not finite.
    return (right.double() @ torch.linalg.pinv(rows.double()).mT).to(poses)
