"""Where a person in a photo stands and in which pose: what the lifter says, where it fits the keypoints best."""

import torch
from torch import Tensor
from torch.nn import functional as F

from hvs.data.layouts import Layout
from hvs.geometry import Camera
from hvs.models import HumanViewSynthesis

# A capture's frames show so many metres where the person stands. Nothing tells how many the model's own did.
FRAMES = tuple(2.2 * 1.15**i for i in range(9))
# Side of the frames that the lifter is shown, in pixels.
SIDE = 1024
# How often unseen joints are looked for where the lifted pose has them.
ROUNDS = 3
# Fewer joints do not tell where a pose is.
LEAST_JOINTS = 3
# A pose weighs less by this power of how much more than the best it misses the keypoints; no miss is smaller than this.
SHARPNESS, TINY = 4, 1e-6
UP = (0.0, -1.0, 0.0)


@torch.inference_mode()
def place(
    model: HumanViewSynthesis, layout: Layout, keypoints: Tensor, seen: Tensor, camera: Camera, scale: float
) -> tuple[Tensor, float] | None:
    """The pose of a person in the frame of a camera that nobody calibrated, [J, 3] in metres.

    The lifter knows people in the middle of its capture's frames. So it is shown what a camera in the same place
    would see that is turned to the person and zooms. How far is tried out, and the better a pose fits the keypoints,
    the more it counts in their mean. Joints that nobody saw are looked for where the lifted pose has them, and the pose
    is lifted again.

    Args:
        model: whose lifter to use, on the keypoints' device.
        layout: of the labels that it was trained on.
        keypoints: pixels of the photo, [J, 2]; guesses where nobody saw the joint.
        seen: which are no guesses, [J] bool.
        camera: of the photo, upright, without lens distortion and batch axes, at the origin of the world.
        scale: pixels of the photo per metre of the person.

    Returns:
        The pose, and the metres that a frame of the model's capture shows; None where the keypoints do not tell.
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
    # Pixels of the frames per unit of the plane, on which a metre of the person is scale / focal.
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
    """Where poses [M, J, 3] are to be moved to be seen at points [J, 2] of the plane z = 1, [M, 3].

    Least squares of x·(Z + tz) = X + tx and y·(Z + tz) = Y + ty over all joints.
    """
    one, zero = torch.ones_like(plane[:, 0]), torch.zeros_like(plane[:, 0])
    x, y = plane.unbind(-1)
    rows = torch.cat((torch.stack((one, zero, -x), -1), torch.stack((zero, one, -y), -1)))  # [2J, 3]
    right = (plane * poses[..., 2:] - poses[..., :2]).mT.flatten(1)  # [M, 2J]
    # Not lstsq, which refuses them all when one of the poses is not finite.
    return (right.double() @ torch.linalg.pinv(rows.double()).mT).to(poses)
