"""The body in a picture, from keypoints of any layout: its size, and joints derived from others.

A body is an array [135, 3] of x, y in pixels and confidence, with the rows of BODY_135. A joint counts as seen if its
confidence is above `CONFIDENT`.
"""

import numpy as np

from hvs.data.layouts import CONFIDENT
from hvs.data.plain.keypoints import BODY
from hvs.geometry import Skeleton

# Height of an average adult, in metres.
STATURE = 1.7
# (joint, next joint outwards) -> length as a fraction of the stature. Limbs are those of Drillis and Contini (1966), as
# in Winter, Biomechanics and Motor Control of Human Movement, figure 4.1; for shoulders and hips it is the distance
# between the two joints. Inner bones come first.
BONES = {
    (5, 6): 0.23, (5, 11): 0.288, (6, 12): 0.288, (11, 12): 0.13, (5, 7): 0.186, (6, 8): 0.186, (7, 9): 0.146,
    (8, 10): 0.146, (11, 13): 0.245, (12, 14): 0.245, (13, 15): 0.246, (14, 16): 0.246,
}  # fmt: skip
ACROSS = ((5, 6), (11, 12))
HANGING = {bone: part for bone, part in BONES.items() if bone not in ACROSS}
# Quantile of the bones' lengths: most bones are foreshortened; the very longest may be an error of the detector.
LONGEST = 0.9
FACE, EYES_EARS, OUTLINE = slice(0, 5), slice(1, 5), slice(65, 133)
SHOULDERS, HIPS = [5, 6], [11, 12]
# Fingers, elbow, wrist.
HANDS = ((slice(25, 45), 7, 9), (slice(45, 65), 8, 10))
# Height of eyes and ears above the shoulders, as a fraction of the stature; distance from the wrist to the middle of
# the hand, as a fraction of the forearm.
HEAD, REACH = 0.13, 0.4
# Joints that both have: index in Human3.6M -> index in BODY_135.
SHARED = {11: 5, 14: 6, 12: 7, 15: 8, 13: 9, 16: 10, 4: 11, 1: 12, 5: 13, 2: 14, 6: 15, 3: 16, 10: 18}
# Human3.6M's other joints: spine and thorax as fractions of the way from hips to shoulders, the crown as one of the way
# from shoulders to eyes and ears. ALONG: joints of the legs and of the trunk, and the length along them from ankles to
# head as a fraction of the stature. Measured on the sample.
SPINE, THORAX, CROWN = 0.357, 1.146, 1.476
ALONG = {
    "panoptic": (((15, 13, 11), (16, 14, 12)), ((11, 12), (5, 6), (1, 2, 3, 4)), 0.887),
    "human36m": (((6, 5, 4), (3, 2, 1)), ((0,), (7,), (8,), (9,), (10,)), 0.9725),
}


def pixels_per_metre(body: np.ndarray) -> float | None:
    """Scale of a body [135, 3] in its picture if the person is an average adult; None if no whole bone was seen."""
    seen = body[:, 2] > CONFIDENT
    lengths = [
        np.linalg.norm(body[i, :2] - body[j, :2]) / (part * STATURE)
        for (i, j), part in BONES.items()
        if seen[i] and seen[j]
    ]
    return float(np.quantile(lengths, LONGEST)) or None if lengths else None


def stature(points: np.ndarray, skeleton: Skeleton) -> float:
    """Height in metres, when standing straight, of a person in a pose [J, 3]."""
    legs, trunk, part = ALONG[skeleton.name]
    middles = [points[list(joints)].mean(0) for joints in trunk]
    upwards = sum(np.linalg.norm(b - a) for a, b in zip(middles, middles[1:], strict=False))
    leg = np.mean([np.linalg.norm(np.diff(points[list(joints)], axis=0), axis=1).sum() for joints in legs])
    return float(upwards + leg) / part


def keep_inside(rows: np.ndarray, width: int, height: int) -> np.ndarray:
    """Keypoints [L, 3] as captures have them: zero where they are uncertain, not finite, or outside the picture."""
    pixels = rows[:, :2]
    inside = np.isfinite(rows).all(1) & (pixels >= 0).all(1) & (pixels <= (width - 1, height - 1)).all(1)
    return np.where((inside & (rows[:, 2] > CONFIDENT))[:, None], rows, 0.0).astype(np.float32)


def from_human36m(joints: np.ndarray) -> np.ndarray:
    """The body [135, 3] of Human3.6M's keypoints [17, 3]; zero for joints that Human3.6M lacks."""
    body = np.zeros((BODY, 3), np.float32)
    body[list(SHARED.values())] = joints[list(SHARED)]
    # Human3.6M's neck lies halfway between thorax and nose.
    body[0] = _between(joints[8], joints[9], 2.0)
    return body


def to_human36m(body: np.ndarray) -> np.ndarray:
    """Human3.6M's keypoints [17, 3] of a body [135, 3], each as confident as the least of the joints it comes from."""
    hips, shoulders = _middle(body[HIPS]), _middle(body[SHOULDERS])
    thorax = _between(hips, shoulders, THORAX)
    joints = np.zeros((17, 3), np.float32)
    joints[list(SHARED)] = body[list(SHARED.values())]
    joints[[0, 7, 8, 9]] = hips, _between(hips, shoulders, SPINE), thorax, _between(thorax, body[0], 0.5)
    if body[18, 2] <= CONFIDENT:
        joints[10] = _between(shoulders, head_middle(body), CROWN)
    return joints


def head_middle(body: np.ndarray) -> np.ndarray:
    """The middle of the eyes and ears that were seen, or the nose if none was, [3]."""
    around = body[EYES_EARS][body[EYES_EARS, 2] > CONFIDENT]
    return _middle(around) if len(around) else body[0]


def with_guesses(body: np.ndarray, scale: float) -> np.ndarray:
    """Positions [135, 2] of all joints of a body [135, 3] with at least one shoulder seen; unseen joints are guessed.

    Guessed limbs hang down, guessed fingers lie in the middle of the hand, and a guessed face is a single point.

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
    """The middle of some joints [n, 3], as confident as the least confident one."""
    return np.append(rows[:, :2].mean(0), rows[:, 2].min())


def _between(start: np.ndarray, end: np.ndarray, part: float) -> np.ndarray:
    """A joint at this fraction of the way from one joint [3] to another; above 1 it lies beyond."""
    return np.append(start[:2] + part * (end[:2] - start[:2]), min(start[2], end[2]))
