"""What detectors would find on a body, without their errors: the 135 joints of BODY_135 and the 17 of Human3.6M."""

from functools import cache

import torch
from torch import Tensor

from .bodies import BodyModel, Posed

SIDES = ("L", "R")
COCO = (
    "nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder", "left_elbow",
    "right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle",
    "right_ankle",
)  # fmt: skip
FEET = tuple(f"{side}_{part}" for side in ("left", "right") for part in ("big_toe", "small_toe", "heel"))
# Vertices of MakeHuman's base mesh. The face is in iBUG's order of 68: contour from the person's right ear along the
# chin, brows, nose, eyes, and the mouth's outer and inner outline, each from the person's right to the left.
FACE = (
    5739, 5750, 866, 5241, 894, 892, 917, 5167, 5171, 11780, 7619, 7594, 7596, 11850, 7571, 12347, 12336,
    212, 206, 222, 208, 209, 6984, 6983, 6996, 6981, 6987,
    132, 135, 5063, 5134, 318, 331, 317, 7093, 7080,
    21, 0, 54, 1076, 6772, 1068, 7768, 6838, 6784, 13377, 7760, 13368,
    426, 448, 460, 466, 7219, 7208, 7186, 7166, 7241, 492, 486, 406,
    443, 514, 474, 7261, 7203, 7260, 494, 512,
)  # fmt: skip
# Joints of BODY_135 in Human3.6M's order: right leg, left leg, left arm, right arm.
LIMBS = ([12, 14, 16], [11, 13, 15], [5, 7, 9], [6, 8, 10])
PUPILS = (14679, 14607)
CROWN = 881


def body_135(model: BodyModel, posed: Posed) -> Tensor:
    """BODY_135 [frames, 135, 3] of a posed body: COCO's 17, neck, crown, feet, left and right hand, face, pupils."""
    regressor, vertices, bones = _tables(model)
    regressed = regressor @ posed.vertices
    neck = posed.bones[:, model.bone("neck02"), None]
    crown = posed.vertices[:, model.vertex(CROWN), None]
    parts = [regressed[:, :17], neck, crown, regressed[:, 17:]]
    for side in range(2):
        tips = posed.vertices[:, vertices[side]]  # [frames, 5, 3]
        fingers = posed.bones[:, bones[side]]  # [frames, 5, 3, 3]
        parts.append(torch.cat((fingers, tips[:, :, None]), 2).flatten(1, 2))
    return torch.cat((*parts, posed.vertices[:, vertices[2]]), 1)


def human36m_17(model: BodyModel, posed: Posed) -> Tensor:
    """Human3.6M's 17 joints [frames, 17, 3] of a posed body."""
    body = body_135(model, posed)
    spine, thorax = (posed.bones[:, model.bone(name)] for name in ("spine03", "neck01"))
    hips, neck = body[:, [11, 12]].mean(1), (thorax + body[:, 0]) / 2
    trunk = torch.stack((spine, thorax, neck, body[:, 18]), 1)
    right_leg, left_leg, left_arm, right_arm = (body[:, joints] for joints in LIMBS)
    return torch.cat((hips[:, None], right_leg, left_leg, trunk, left_arm, right_arm), 1)


@cache
def _tables(model: BodyModel) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """The regressor of body and feet [23, N]; fingertips per hand and the face as vertices; finger bones per hand."""
    from anny import KeypointsRegressor

    regressor = KeypointsRegressor.coco(model.anny, labels=[*COCO, *FEET]).regression_weights
    fingers = [
        torch.tensor([[model.bone(f"finger{f}-{part}.{side}") for part in (1, 2, 3)] for f in range(1, 6)])
        for side in SIDES
    ]
    tips = [torch.tensor([_tip(model, int(bone)) for bone in hand[:, 2]]) for hand in fingers]
    face = torch.tensor([model.vertex(base) for base in (*FACE, *PUPILS)])
    return regressor, [*tips, face], fingers


def _tip(model: BodyModel, bone: int) -> int:
    """The bone's vertex that is farthest from the bone's head."""
    away = (model.rest.vertices[0] - model.rest.bones[0, bone]).norm(dim=1)
    return int(away.where(model.main_bone == bone, 0.0).argmax())
