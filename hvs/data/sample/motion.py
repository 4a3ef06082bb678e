"""How a person moves for some seconds: walking along a curve, turning and reaching, as joint angles over time."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from hvs.geometry.rotations import rotation_about_axis

from .bodies import BodyModel

SECONDS = 7.0
STRIDES_PER_SECOND = 0.85
WALKING_SPEED = 0.8
RIGHT, BACK, UP = (-1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)
# Angles from the pose at rest, in radians: arms down to the sides, elbows straight, legs together.
ARM_DOWN, ELBOW_STRAIGHT, LEG_IN = 0.66, -0.52, 0.05
SPINE = ("spine05", "spine04", "spine03", "spine02", "spine01")
NECK = ("neck01", "neck02", "neck03", "head")


@dataclass(frozen=True)
class Motion:
    """How a person moves, frame by frame.

    Attributes:
        rotations: bone -> [frames, 3, 3], as `BodyModel.pose` takes them.
        heading: [frames, 3, 3], the whole body's turn about the vertical.
        path: [frames, 3], its position on the floor.
    """

    rotations: dict[str, Tensor]
    heading: Tensor
    path: Tensor

    def place(self, points: Tensor) -> Tensor:
        """Move points [frames, N, 3] of the body on the spot to where it walks."""
        return points @ self.heading.mT + self.path[:, None]


def make_motion(model: BodyModel, frames: int, rng: np.random.Generator) -> Motion:
    """`SECONDS` of a person's motion at `frames` instants: walk, reach, walk, reach, walk, and turn all the time."""
    t = np.linspace(0, 1, frames)
    swing = _swing(t, rng)
    reach = [_reach(t, rng, at=a + rng.uniform(-0.03, 0.03)) for a in (0.28, 0.40, 0.66, 0.78)]
    first = int(rng.integers(2))
    arms = [_combine(reach[first], reach[3 - first]), _combine(reach[1 - first], reach[2 + first])]
    pace = 1 - np.maximum(_bump(t, 0.34, 0.14), _bump(t, 0.72, 0.14))
    yaw, path = _route(t, pace, rng)
    rotations: dict[str, Tensor] = {}
    _legs(rotations, pace, swing, crouch=np.maximum(*(arm["low"] for arm in arms)))
    for side, sign, arm in (("L", 1, arms[0]), ("R", -1, arms[1])):
        _arm(rotations, side, sign, arm, pace * np.sin(swing + (np.pi if sign > 0 else 0)), rng, t)
        _hand(rotations, model, side, curl=_wave(t, rng, 0.35, 0.25) * (1 - arm["out"]) + 0.1)
    _trunk(rotations, pace, swing, arms, rng, t)
    heading = rotation_about_axis(torch.tensor(UP), torch.from_numpy(yaw).float())
    return Motion(rotations, heading, torch.from_numpy(path).float())


def _swing(t: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Phase of the gait; a stride is 2π."""
    return 2 * np.pi * (STRIDES_PER_SECOND * SECONDS * t + rng.uniform())


def _route(t: np.ndarray, pace: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Yaw [frames] and position [frames, 3]: a walk along the heading, centred on the origin."""
    turns = rng.choice([-1, 1]) * rng.uniform(1.1, 1.6)
    yaw = 2 * np.pi * (turns * t + rng.uniform()) + 0.3 * np.sin(4 * np.pi * t)
    ahead = np.stack((np.sin(yaw), -np.cos(yaw), np.zeros_like(yaw)), -1)
    path = np.cumsum(WALKING_SPEED * SECONDS / max(len(t) - 1, 1) * pace[:, None] * ahead, 0)
    return yaw, path - (path.min(0) + path.max(0)) / 2


def _reach(t: np.ndarray, rng: np.random.Generator, at: float) -> dict[str, np.ndarray]:
    """One stretch of an arm: how far it is stretched, 0..1, and the angles that this adds at the shoulder."""
    out = _bump(t, at, 0.1)
    height = rng.uniform()
    return {
        "out": out,
        "flex": out * (0.7 + 1.5 * height),
        "abduct": out * rng.uniform(0.1, 0.9),
        "low": out * max(0.0, 1 - 2.5 * height),
        "twist": out * rng.uniform(-0.2, 0.4),
    }


def _combine(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: a[name] + b[name] for name in a}


def _legs(rotations: dict[str, Tensor], pace: np.ndarray, swing: np.ndarray, crouch: np.ndarray) -> None:
    for side, sign, phase in (("L", 1, swing), ("R", -1, swing + np.pi)):
        hip = pace * (0.08 + 0.38 * np.sin(phase)) + 0.85 * crouch
        # The knee bends while the leg swings forward.
        knee = 0.06 + pace * (0.10 + 0.85 * np.clip(np.cos(phase + 0.45), 0, None) ** 2) + 1.45 * crouch
        ankle = 0.55 * (knee - hip) * (1 - crouch) + (knee - hip) * crouch
        rotations[f"upperleg01.{side}"] = _turn(RIGHT, hip) @ _turn(BACK, sign * (LEG_IN - 0.10 * crouch))
        rotations[f"lowerleg01.{side}"] = _turn(RIGHT, -knee)
        rotations[f"foot.{side}"] = _turn(RIGHT, ankle)


def _arm(
    rotations: dict[str, Tensor],
    side: str,
    sign: int,
    reach: dict[str, np.ndarray],
    swing: np.ndarray,
    rng: np.random.Generator,
    t: np.ndarray,
) -> None:
    free = 1 - reach["out"]
    flex = reach["flex"] + free * (0.35 * swing + 0.05)
    down = ARM_DOWN - reach["abduct"] - free * _wave(t, rng, 0.08, 0.08)
    bend = ELBOW_STRAIGHT + free * (0.45 + 0.2 * swing + _wave(t, rng, 0.15, 0.25)) + 0.25 * reach["out"]
    raised = np.clip(flex - 1.0, 0, None) * 0.3
    rotations[f"clavicle.{side}"] = _turn(BACK, -sign * raised)
    rotations[f"upperarm01.{side}"] = _turn(RIGHT, flex) @ _turn(BACK, sign * down)
    # The elbow's hinge is at right angles to the upper arm, which hangs at 45 degrees at rest, and to forward.
    rotations[f"lowerarm01.{side}"] = _turn((-0.74, 0.0, -0.66 * sign), bend)
    rotations[f"wrist.{side}"] = _turn(RIGHT, _wave(t, rng, 0.0, 0.2))


def _hand(rotations: dict[str, Tensor], model: BodyModel, side: str, curl: np.ndarray) -> None:
    bones = model.rest.bones[0]
    knuckles = [bones[model.bone(f"finger{f}-1.{side}")] for f in (2, 5)]
    along = (knuckles[0] + knuckles[1]) / 2 - bones[model.bone(f"wrist.{side}")]
    palm = torch.linalg.cross(knuckles[0] - knuckles[1], along)
    # Fingers at rest already bend a little towards the palm.
    joints = [bones[model.bone(f"finger3-{part}.{side}")] for part in (1, 2, 3)]
    bend = torch.linalg.cross(joints[1] - joints[0], joints[2] - joints[1])
    hinge = torch.linalg.cross(along, palm)
    hinge = hinge / hinge.norm() * torch.sign(hinge @ bend)
    for finger in (2, 3, 4, 5):
        for part, share in ((1, 0.9), (2, 1.2), (3, 0.7)):
            rotations[f"finger{finger}-{part}.{side}"] = _turn(hinge.tolist(), curl * share * (0.85 + 0.05 * finger))
    for part, share in ((2, 0.4), (3, 0.5)):
        rotations[f"finger1-{part}.{side}"] = _turn(hinge.tolist(), curl * share)


def _trunk(
    rotations: dict[str, Tensor],
    pace: np.ndarray,
    swing: np.ndarray,
    arms: list[dict[str, np.ndarray]],
    rng: np.random.Generator,
    t: np.ndarray,
) -> None:
    left, right = arms
    low = np.maximum(left["low"], right["low"])
    pitch = 0.04 + 0.08 * (left["out"] + right["out"]) + 0.5 * low + _wave(t, rng, 0.0, 0.04)
    yaw = 0.12 * pace * np.sin(swing) + right["twist"] - left["twist"] + _wave(t, rng, 0.0, 0.08)
    roll = 0.03 * pace * np.cos(swing) + _wave(t, rng, 0.0, 0.04)
    for name in SPINE:
        rotations[name] = _turn(RIGHT, -pitch / 5) @ _turn(UP, yaw / 5) @ _turn(BACK, roll / 5)
    nod, look = _wave(t, rng, 0.0, 0.15) - 0.3 * low, _wave(t, rng, 0.0, 0.35) - yaw / 2
    for name in NECK:
        rotations[name] = _turn(RIGHT, -nod / 4) @ _turn(UP, look / 4)


def _turn(axis: tuple[float, float, float] | list[float], angle: np.ndarray | float) -> Tensor:
    """Rotations [frames, 3, 3]. About `RIGHT`, a positive angle lifts a hanging limb to the front."""
    axis = torch.tensor(axis, dtype=torch.float64)
    return rotation_about_axis(axis / axis.norm(), torch.as_tensor(angle, dtype=torch.float64)).float()


def _bump(t: np.ndarray, at: float, width: float) -> np.ndarray:
    """From 0 up to 1 at `at` and back, smoothly, within `width` on either side."""
    near = np.clip(1.6 * (1 - np.abs(t - at) / width), 0, 1)
    return near * near * (3 - 2 * near)


def _wave(t: np.ndarray, rng: np.random.Generator, mean: float, amplitude: float) -> np.ndarray:
    """A slow irregular swaying."""
    phases, rates = rng.uniform(0, 2 * np.pi, 2), rng.uniform(0.8, 3.0, 2)
    return mean + amplitude / 1.5 * (
        np.sin(2 * np.pi * rates[0] * t + phases[0]) + 0.5 * np.sin(2 * np.pi * rates[1] * t + phases[1])
    )
