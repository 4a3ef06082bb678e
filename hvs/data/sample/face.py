"""The head's colours and hairline: brows, lips, cheeks, beard, eyes, placed on the average body at rest."""

import numpy as np

from .bodies import BodyModel
from .keypoints import FACE

SCLERA, PUPIL = (238, 236, 232), (16, 14, 14)
IRIS_RADIUS, PUPIL_RADIUS, BROW_RADIUS = 0.0062, 0.0028, 0.0038
BLUSH = (6.0, -14.0, -12.0)


def above_hairline(points: np.ndarray, fall: float) -> np.ndarray:
    """Metres above a line from the forehead across the temples, down to `fall` metres below the nape, [P]."""
    x, y, z = np.abs(points[:, 0]), points[:, 1], points[:, 2]
    forehead = z - 0.707 - 0.25 * x + 0.10 * np.clip(y + 0.11, 0, None)
    temple, nape = z - 0.655, z - (0.60 - fall)
    to_temple, to_nape = np.clip((y + 0.085) / 0.02, 0, 1), np.clip((y + 0.045) / 0.02, 0, 1)
    return (1 - to_temple) * forehead + to_temple * ((1 - to_nape) * temple + to_nape * nape)


def paint_face(
    colour: np.ndarray,
    model: BodyModel,
    points: np.ndarray,
    limbs: np.ndarray,
    *,
    skin: tuple[int, int, int],
    hair: tuple[int, int, int],
    iris: tuple[int, int, int],
    beard: bool,
) -> None:
    """Paint over `colour` [P, 3] where points [P, 3], with limbs [P], belong to the face or the eyes; sRGB 0..255."""
    rest = model.rest.vertices[0].numpy()
    marks = rest[[model.vertex(base) for base in FACE]]
    bare, hairy = np.array(skin, dtype=np.float32), np.array(hair, dtype=np.float32)
    front = np.flatnonzero((limbs == "head") & (points[:, 1] < -0.05))
    at = points[front]
    x, z = np.abs(at[:, 0]), at[:, 2]
    for below_eye in (41, 46):
        away = np.linalg.norm(at - marks[below_eye] + (0.0, 0.0, 0.030), axis=1)
        colour[front] += np.exp(-((away / 0.023) ** 2))[:, None] * BLUSH
    if beard:
        chin = (z < 0.594 + 0.10 * x) & (z > 0.535)
        colour[front[chin]] = 0.35 * bare + 0.65 * hairy
    for brow in (marks[17:22], marks[22:27]):
        colour[front[_distance(at, brow) < BROW_RADIUS]] = 0.8 * hairy + 0.1 * bare
    corner, top, bottom, seam = marks[54, 0], marks[51, 2], marks[57, 2], marks[62, 2]
    fullness = np.clip(1 - (x / (1.02 * corner)) ** 2, 0, None) ** 0.7
    between = (z < seam + (top - seam) * fullness) & (z > seam - (seam - bottom) * fullness)
    colour[front[between & (fullness > 0) & (at[:, 1] < -0.115)]] = bare * (0.80, 0.55, 0.55)
    for side in ("L", "R"):
        ball = rest[(model.main_bone == model.bone(f"eye.{side}")).numpy()]
        centre = (ball.min(0) + ball.max(0)) / 2
        eye = np.flatnonzero((limbs == "eye") & (points[:, 0] * centre[0] > 0))
        away = np.hypot(*(points[eye] - centre)[:, [0, 2]].T)
        # Otherwise the back of the eyeball would have an iris too.
        away[points[eye, 1] > centre[1]] = np.inf
        colour[eye] = SCLERA
        colour[eye[away < IRIS_RADIUS]] = iris
        colour[eye[away < PUPIL_RADIUS]] = PUPIL


def _distance(points: np.ndarray, line: np.ndarray) -> np.ndarray:
    """Distances [P] from points [P, 3] to the line through the points `line` [L, 3]."""
    nearest = np.full(len(points), np.inf)
    for a, b in zip(line[:-1], line[1:], strict=True):
        along = np.clip((points - a) @ (b - a) / ((b - a) @ (b - a)), 0, 1)
        nearest = np.minimum(nearest, np.linalg.norm(points - a - along[:, None] * (b - a), axis=1))
    return nearest
