"""Where a person is in a picture, drawn from their keypoints alone, if there is no mask."""

import numpy as np
from PIL import Image, ImageDraw

from hvs.data.layouts import CONFIDENT

from .body import HANDS, HIPS, SHOULDERS, head_middle, with_guesses

# Widths in metres of clothed limbs, and the head's radius: those that fit the masks of the sample best.
ARM, FOREARM, FINGER, THIGH, SHANK, FOOT, TRUNK, NECK, HEAD = 0.1, 0.08, 0.02, 0.18, 0.11, 0.06, 0.14, 0.14, 0.105
LIMBS = {
    (5, 7): ARM, (6, 8): ARM, (7, 9): FOREARM, (8, 10): FOREARM,
    (11, 13): THIGH, (12, 14): THIGH, (13, 15): SHANK, (14, 16): SHANK,
    (5, 6): TRUNK, (5, 11): TRUNK, (6, 12): TRUNK, (11, 12): TRUNK,
}  # fmt: skip
# Ankle, and where the foot ends.
FEET = ((15, slice(19, 22)), (16, slice(22, 25)))


def draw_silhouette(body: np.ndarray, scale: float, width: int, height: int) -> np.ndarray:
    """A mask [height, width] bool of a body [135, 3] with a shoulder seen: thick limbs, a trunk and a head.

    Args:
        body: x, y and confidence of BODY_135's joints; limbs with unseen joints are left out.
        scale: pixels per metre of the person.
        width, height: size of the picture, in pixels.
    """
    picture = Image.new("1", (width, height))
    draw = ImageDraw.Draw(picture)
    seen, guessed = body[:, 2] > CONFIDENT, with_guesses(body, scale)

    def limb(start: np.ndarray, end: np.ndarray, metres: float) -> None:
        draw.line([*start[:2], *end[:2]], 1, max(1, round(metres * scale)))
        for middle in (start, end):
            draw.circle(tuple(middle[:2]), metres * scale / 2, 1)

    for (i, j), metres in LIMBS.items():
        if seen[i] and seen[j]:
            limb(body[i], body[j], metres)
    trunk = [*SHOULDERS, *reversed(HIPS)]
    if seen[trunk].all():
        draw.polygon(body[trunk, :2].flatten().tolist(), 1)
    head = head_middle(body)
    if head[2] > CONFIDENT:
        limb(guessed[SHOULDERS].mean(0), head, NECK)
        draw.circle(tuple(head[:2]), HEAD * scale, 1)
    for fingers, elbow, wrist in HANDS:
        if seen[wrist] and seen[fingers].any():
            for end in body[fingers][seen[fingers]]:
                limb(body[wrist], end, FINGER)
        elif seen[wrist] and seen[elbow]:
            limb(body[wrist], guessed[fingers][0], FOREARM)
    for ankle, foot in FEET:
        for end in body[foot][seen[foot]] if seen[ankle] else ():
            limb(body[ankle], end, FOOT)
    return np.asarray(picture)
