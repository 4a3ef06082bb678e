"""A made-up person for tests, who stands and faces the camera with the left arm raised."""

import json

import numpy as np
import torch

from hvs.data.plain.keypoints import FROM_BODY_25, WHOLE_BODY

# BODY_135's first 25 joints in metres from the floor between the feet; x to the right of the picture, which is the
# person's left, and y down.
JOINTS = {
    0: (0.0, -1.55), 1: (0.03, -1.58), 2: (-0.03, -1.58), 3: (0.07, -1.57), 4: (-0.07, -1.57), 5: (0.19, -1.38),
    6: (-0.19, -1.38), 7: (0.3, -1.65), 8: (-0.28, -1.1), 9: (0.33, -1.9), 10: (-0.3, -0.85), 11: (0.11, -0.9),
    12: (-0.11, -0.9), 13: (0.12, -0.49), 14: (-0.12, -0.49), 15: (0.12, -0.08), 16: (-0.12, -0.08), 17: (0.0, -1.45),
    18: (0.0, -1.7), 19: (0.15, 0.0), 20: (0.18, 0.0), 21: (0.12, 0.0), 22: (-0.15, 0.0), 23: (-0.18, 0.0),
    24: (-0.12, 0.0),
}  # fmt: skip


def figure(scale: float = 100.0, foot: tuple[float, float] = (160.0, 225.0)) -> np.ndarray:
    """The body [135, 3] of the figure, in pixels."""
    body = np.ones((135, 3))
    body[list(JOINTS), :2] = list(JOINTS.values())
    for first, wrist, away in ((25, 9, -1.0), (45, 10, 1.0)):
        for i in range(20):
            body[first + i, :2] = body[wrist, :2] + (0.01 * (i // 4 - 2), away * 0.025 * (1 + i % 4))
    around = np.linspace(0, 2 * np.pi, 70)
    body[65:, 0], body[65:, 1] = 0.06 * np.cos(around), -1.54 + 0.08 * np.sin(around)
    body[:, :2] = scale * body[:, :2] + foot
    return body


def body_135(body: np.ndarray) -> dict:
    return {"people": [{"pose_keypoints_2d": body.flatten().tolist()}]}


def body_25(body: np.ndarray) -> dict:
    """As OpenPose's BODY_25 without hands and face, with a neck and a pelvis of its own."""
    pose = np.zeros((25, 3))
    pose[list(FROM_BODY_25.values())] = body[list(FROM_BODY_25)]
    pose[1], pose[8] = body[[5, 6]].mean(0), body[[11, 12]].mean(0)
    return {"people": [{"pose_keypoints_2d": pose.flatten().tolist()}]}


def whole_body(body: np.ndarray) -> list:
    """As MMPose writes COCO-WholeBody's 133 joints."""
    joints = body[np.maximum(WHOLE_BODY, 0)]
    joints[WHOLE_BODY < 0] = body[[9, 10]]
    return [{"keypoints": joints[:, :2].tolist(), "keypoint_scores": joints[:, 2].tolist()}]


def write(file, content):
    file.write_text(json.dumps(content))
    return file


class FlatLifter:
    """Lifts everybody onto a plane across the view, as large as a frame of so many metres shows them."""

    def __init__(self, metres: float = 4.4, root: int = 17):
        self.metres, self.root, self.shown = metres, root, []

    def lift(self, keypoints, confidence, resolution):
        self.shown.append((keypoints, confidence))
        places = keypoints * self.metres / resolution[:, None, :1]
        # The root is no joint of the picture; it is where the shoulders' middle is.
        root = places[:, [5, 6]].mean(1, keepdim=True) if self.root == 17 else places[:, [self.root]]
        flat = torch.nn.functional.pad(places - root, (0, 1))
        flat[:, self.root] = 0
        return flat
