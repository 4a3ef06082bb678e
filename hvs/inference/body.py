"""A body in a picture, whatever keypoints it came with: how large it is, and joints that stand for others.

A body is an array [135, 3] of x, y in pixels and confidence, its rows those of BODY_135. A joint that is no more sure
than `CONFIDENT` was not seen.
"""

import numpy as np

from hvs.data.layouts import CONFIDENT
from hvs.data.plain.keypoints import BODY
from hvs.geometry import Skeleton

# Of an average adult, in metres.
STATURE = 1.7
# (joint, next joint outwards) -> length as a part of the stature. Limbs are those of Drillis and Contini (1966), as in
# Winter, Biomechanics and Motor Control of Human Movement, figure 4.1; shoulders and hips are as far apart as their
# joints. Bones further in come first.
BONES = {
    (5, 6): 0.23, (5, 11): 0.288, (6, 12): 0.288, (11, 12): 0.13, (5, 7): 0.186, (6, 8): 0.186, (7, 9): 0.146,
    (8, 10): 0.146, (11, 13): 0.245, (12, 14): 0.245, (13, 15): 0.246, (14, 16): 0.246,
}  # fmt: skip
ACROSS = ((5, 6), (11, 12))
HANGING = {bone: part for bone, part in BONES.items() if bone not in ACROSS}
# Most bones are seen at a slant; the longest of all may be a detector's slip.
LONGEST = 0.9
FACE, EYES_EARS, OUTLINE = slice(0, 5), slice(1, 5), slice(65, 133)
SHOULDERS, HIPS = [5, 6], [11, 12]
# Fingers, elbow, wrist.
HANDS = ((slice(25, 45), 7, 9), (slice(45, 65), 8, 10))
# From the shoulders up to eyes and ears, as a part of the stature; from the wrist to the middle of the hand, as a part
# of the forearm.
HEAD, REACH = 0.13, 0.4
# Joints of Human3.6M that BODY_135 has too: theirs -> its own.
SHARED = {11: 5, 14: 6, 12: 7, 15: 8, 13: 9, 16: 10, 4: 11, 1: 12, 5: 13, 2: 14, 6: 15, 3: 16, 10: 18}
# Where Human3.6M's other joints are between hips and shoulders, and the crown from the shoulders beyond eyes and ears:
# parts of the way. And what part of the stature the way from ankles to head is, joint by joint. Measured on the sample.
SPINE, THORAX, CROWN = 0.357, 1.146, 1.476
ALONG = {
    "panoptic": (((15, 13, 11), (16, 14, 12)), ((11, 12), (5, 6), (1, 2, 3, 4)), 0.887),
    "human36m": (((6, 5, 4), (3, 2, 1)), ((0,), (7,), (8,), (9,), (10,)), 0.9725),
}


def pixels_per_metre(body: np.ndarray) -> float | None:
    """How large a body [135, 3] is in its picture, if both ends of a bone were seen: as large as an average adult's."""
    seen = body[:, 2] > CONFIDENT
    lengths = [
        np.linalg.norm(body[i, :2] - body[j, :2]) / (part * STATURE)
        for (i, j), part in BONES.items()
        if seen[i] and seen[j]
    ]
    return float(np.quantile(lengths, LONGEST)) or None if lengths else None


def stature(points: np.ndarray, skeleton: Skeleton) -> float:
    """How tall a person in a pose [J, 3] is when they stand straight, in metres."""
    legs, trunk, part = ALONG[skeleton.name]
    middles = [points[list(joints)].mean(0) for joints in trunk]
    upwards = sum(np.linalg.norm(b - a) for a, b in zip(middles, middles[1:], strict=False))
    leg = np.mean([np.linalg.norm(np.diff(points[list(joints)], axis=0), axis=1).sum() for joints in legs])
    return float(upwards + leg) / part


def keep_inside(rows: np.ndarray, width: int, height: int) -> np.ndarray:
    """Keypoints [L, 3] without those that are unsure, not finite, or outside the picture: as captures have them."""
    pixels = rows[:, :2]
    inside = np.isfinite(rows).all(1) & (pixels >= 0).all(1) & (pixels <= (width - 1, height - 1)).all(1)
    return np.where((inside & (rows[:, 2] > CONFIDENT))[:, None], rows, 0.0).astype(np.float32)


def from_human36m(joints: np.ndarray) -> np.ndarray:
    """The body [135, 3] of Human3.6M's keypoints [17, 3], as far as it has these joints."""
    body = np.zeros((BODY, 3), np.float32)
    body[list(SHARED.values())] = joints[list(SHARED)]
    # Their neck lies between thorax and nose.
    body[0] = _between(joints[8], joints[9], 2.0)
    return body


def to_human36m(body: np.ndarray) -> np.ndarray:
    """Human3.6M's keypoints [17, 3] of a body [135, 3]; as sure as all that a keypoint is told from."""
    hips, shoulders = _middle(body[HIPS]), _middle(body[SHOULDERS])
    thorax = _between(hips, shoulders, THORAX)
    joints = np.zeros((17, 3), np.float32)
    joints[list(SHARED)] = body[list(SHARED.values())]
    joints[[0, 7, 8, 9]] = hips, _between(hips, shoulders, SPINE), thorax, _between(thorax, body[0], 0.5)
    if body[18, 2] <= CONFIDENT:
        joints[10] = _between(shoulders, head_middle(body), CROWN)
    return joints


def head_middle(body: np.ndarray) -> np.ndarray:
    """The middle of those of eyes and ears that were seen, else the nose, [3]."""
    around = body[EYES_EARS][body[EYES_EARS, 2] > CONFIDENT]
    return _middle(around) if len(around) else body[0]


def with_guesses(body: np.ndarray, scale: float) -> np.ndarray:
    """Places of all joints of a body [135, 3] of which a shoulder was seen, [135, 2]: a start for those that were not.

    Limbs hang down, the fingers of a hand lie in its middle, and the face in one place.

    Args:
        scale: pixels per metre of the person.
    """
    known, places = body[:, 2] > CONFIDENT, body[:, :2].copy()

    def guess(joints: int | slice, place: np.ndarray) -> None:
        places[joints] = np.where(known[joints, None], places[joints], place)

    for joint, other in (SHOULDERS, SHOULDERS[::-1]):
        if known[other]:
            guess(joint, places[other])
    for (inner, outer), part in HANGING.items():
        guess(outer, places[inner] + (0.0, part * STATURE * scale))
    head = head_middle(body)
    above = places[SHOULDERS].mean(0) - (0.0, HEAD * STATURE * scale)
    for joints in (FACE, OUTLINE):
        guess(joints, head[:2] if head[2] > CONFIDENT else above)
    for fingers, elbow, wrist in HANDS:
        guess(fingers, places[wrist] + REACH * (places[wrist] - places[elbow]))
    return places


def _middle(rows: np.ndarray) -> np.ndarray:
    """Of some joints [n, 3], as sure as the least sure."""
    return np.append(rows[:, :2].mean(0), rows[:, 2].min())


def _between(start: np.ndarray, end: np.ndarray, part: float) -> np.ndarray:
    """A joint so far on the way from one [3] to another, or beyond."""
    return np.append(start[:2] + part * (end[:2] - start[:2]), min(start[2], end[2]))
