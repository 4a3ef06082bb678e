"""Loss of the lifted pose."""

from collections.abc import Callable

import torch
from torch import Tensor

from ..geometry import Skeleton

# Weight of a part, and the body joint that its joints are taken relative to (None: the root, as they come).
_BODY = 1.0, None
_PARTS = {
    "left_hand": (10.0, "LWrist"),
    "right_hand": (10.0, "RWrist"),
    "face": (5.0, "Nose"),
}
# If no joint counts, the sum of zero is divided by this.
_LEAST = 1e-6


def pose_loss(
    predicted: Tensor,
    target: Tensor,
    valid: Tensor,
    skeleton: Skeleton,
    average: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """Mean joint position error in metres over valid joints, a weighted sum over the skeleton's parts (scalar).

    The body, and any part not named here, weighs 1, relative to the root; for a skeleton with hands and face, each hand
    10, relative to its wrist, and the face 5, relative to the nose, so that small parts are shaped by their own joints
    rather than by where the arm is (Rochette et al. 2021). A joint counts where it and the joint it is taken relative
    to are valid; a part without one counts 0.

    Args:
        predicted: poses relative to the root joint, metres, [B, J, 3].
        target: poses in the same frame, metres, [B, J, 3]; the root is subtracted here.
        valid: which joints of the target are known, [B, J] bool.
        skeleton: the joints' order.
        average: the mean of a tensor over several processes that each have a part of a batch. Joints are then counted
            over the whole batch, and the mean of the processes' losses is the whole batch's loss.

    Raises:
        ValueError: the shapes do not agree with one another or with the skeleton, or `valid` is not bool.
    """
    shapes = [tuple(tensor.shape) for tensor in (predicted, target, valid)]
    joints = len(skeleton.joints)
    if shapes[0] != shapes[1] or shapes[2] != shapes[0][:-1] or shapes[0][1:] != (joints, 3):
        raise ValueError(
            f"predicted, target, valid: got shapes {shapes}, wanted two of [B, {joints}, 3] and one of [B, {joints}]"
        )
    if valid.dtype != torch.bool:
        raise ValueError(f"valid: got {valid.dtype}, wanted torch.bool")
    sums, known = [], []
    for part, (start, stop) in skeleton.parts.items():
        weight, anchor = _PARTS.get(part, _BODY)
        joint = skeleton.root if anchor is None else skeleton.joints.index(anchor)
        origin = 0 if anchor is None else predicted[:, None, joint]
        found = predicted[:, start:stop] - origin
        wanted = target[:, start:stop] - target[:, None, joint]
        counts = valid[:, start:stop] & valid[:, None, joint]
        # Unknown joints may hold anything, NaN included; selected away before the norm, they leave no gradient either.
        difference = torch.where(counts[..., None], found - wanted, 0)
        distance = torch.linalg.vector_norm(difference, dim=-1)
        sums.append(weight * distance.sum())
        known.append(counts.sum())
    number = torch.stack(known).to(predicted.dtype)
    number = average(number) if average else number
    return (torch.stack(sums) / number.clamp(min=_LEAST)).sum()
