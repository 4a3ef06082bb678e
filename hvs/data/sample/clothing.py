"""What a person wears: colours and patterns painted on the texture, and how far cloth and hair stand off the skin.

Everything is a function of a point on the average body at rest and of the limb that it belongs to, so cloth goes on
across the seams of the texture map.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np

from .bodies import BodyModel
from .keypoints import FACE
from .raycast import GAMMA, unwrap

# sRGB, 0..255.
SKINS = ((236, 200, 176), (222, 178, 148), (196, 146, 110), (158, 108, 78), (112, 74, 54), (84, 56, 44))
HAIRS = ((38, 30, 26), (84, 56, 36), (196, 160, 96), (150, 76, 40), (60, 44, 36), (150, 146, 142))
CLOTHS = (
    (188, 44, 48), (36, 78, 150), (232, 186, 52), (46, 128, 88), (236, 234, 226), (124, 66, 140),
    (226, 122, 50), (70, 168, 190), (52, 54, 62), (216, 132, 160),
)  # fmt: skip
TROUSERS = ((44, 56, 88), (60, 60, 64), (150, 128, 96), (86, 94, 62), (110, 116, 126), (96, 62, 48))
SHOES = ((44, 40, 40), (226, 224, 220), (120, 78, 50), (160, 40, 44))
PATTERNS = ("plain", "stripes", "checks", "hoops", "dots")
SCLERA, PUPIL = (238, 236, 232), (16, 14, 14)
IRISES = ((88, 60, 40), (84, 112, 138), (92, 110, 74))
EYE_RADIUS = 0.0145
TEXELS = 1024


@dataclass(frozen=True)
class Outfit:
    """Colours are sRGB 0..255; lengths are metres on the average body at rest."""

    skin: tuple[int, int, int]
    hair: tuple[int, int, int]
    iris: tuple[int, int, int]
    shirt: tuple[int, int, int]
    shirt_accent: tuple[int, int, int]
    trousers: tuple[int, int, int]
    shoes: tuple[int, int, int]
    pattern: str
    sleeve: float
    trouser_leg: float
    hair_fall: float
    hair_volume: float
    beard: bool


def make_outfit(index: int, female: bool, rng: np.random.Generator) -> Outfit:
    """The clothes of person number `index`: neighbours in number differ in every colour and in the pattern."""

    def pick(colours: tuple, step: int = 1):
        return colours[(index * step + offset) % len(colours)]

    # One draw for the whole capture would do; the same offset for all keeps neighbours apart.
    offset = 0
    shirt, accent = pick(CLOTHS), CLOTHS[(index + int(rng.integers(2, 6))) % len(CLOTHS)]
    return Outfit(
        skin=pick(SKINS, 5),
        hair=pick(HAIRS),
        iris=pick(IRISES),
        shirt=shirt,
        shirt_accent=accent,
        trousers=pick(TROUSERS),
        shoes=pick(SHOES),
        pattern=PATTERNS[(index + 1) % len(PATTERNS)],
        sleeve=float(rng.choice([0.16, 0.20, 0.40])),
        trouser_leg=float(rng.choice([-0.36, -0.76, -0.78])),
        hair_fall=float(rng.uniform(0.06, 0.11)) if female else 0.0,
        hair_volume=float(rng.uniform(0.014, 0.024)) if female else float(rng.uniform(0.005, 0.014)),
        beard=not female and bool(rng.integers(2)),
    )


def paint(model: BodyModel, outfit: Outfit, size: int) -> np.ndarray:
    """The texture [size, size, 3] float32 in linear light; `size` divides `TEXELS`."""
    points, limbs = _texels(model)
    colour = _colour(model, points, limbs, outfit).reshape(TEXELS, TEXELS, 3)
    linear = (colour / 255) ** GAMMA
    block = TEXELS // size
    return linear.reshape(size, block, size, block, 3).mean((1, 3)).astype(np.float32)


def thickness(model: BodyModel, outfit: Outfit) -> np.ndarray:
    """How far the picture's surface stands off the skin at each vertex, [N, 1] float32 metres."""
    points, limbs = model.rest.vertices[0].numpy(), _limbs(model)[model.main_bone.numpy()]
    cover = _cover(points, limbs, outfit)
    off = 0.007 * cover["shirt"] + 0.009 * cover["trousers"] + 0.006 * cover["shoes"]
    # Hair grows in thickness from the hairline.
    off = off + cover["hair"] * outfit.hair_volume * np.clip(_above_hairline(points, outfit) / 0.035, 0.15, 1)
    return off.astype(np.float32)[:, None]


@cache
def _texels(model: BodyModel) -> tuple[np.ndarray, np.ndarray]:
    """For every texel the point [T·T, 3] of the average body that it colours, and the name of its limb [T·T]."""
    faces, weights = (x.reshape(TEXELS * TEXELS, -1) for x in unwrap(model.coordinates.float().numpy(), TEXELS))
    corners = model.faces.numpy()[faces[:, 0]]  # [T·T, 3]
    points = np.einsum("tk,tkd->td", weights, model.rest.vertices[0].numpy()[corners])
    nearest = np.take_along_axis(corners, weights.argmax(1)[:, None], 1)[:, 0]
    return points, _limbs(model)[model.main_bone.numpy()[nearest]]


@cache
def _limbs(model: BodyModel) -> np.ndarray:
    """The limb of each bone."""
    kinds = {
        "arm": ("upperarm", "lowerarm"),
        "hand": ("wrist", "finger", "metacarpal"),
        "leg": ("upperleg", "lowerleg"),
        "foot": ("foot", "toe"),
        "head": ("neck02", "neck03", "head"),
        "eye": ("eye",),
    }
    return np.array(
        [next((limb for limb, starts in kinds.items() if name.startswith(starts)), "trunk") for name in model.bone_names]
    )


def _cover(points: np.ndarray, limbs: np.ndarray, outfit: Outfit) -> dict[str, np.ndarray]:
    """What covers each point [P]; a point that nothing covers is bare skin."""
    x, y, z = np.abs(points[:, 0]), points[:, 1], points[:, 2]
    # Down the arm from the shoulder; at rest it is spread at 45 degrees.
    along = ((x - 0.165) + (0.427 - z)) / np.sqrt(2)
    arm, hand = limbs == "arm", limbs == "hand"
    head = (limbs == "head") & (z > 0.53)
    collar = np.hypot(np.hypot(x, y - 0.01), 0.8 * (z - 0.535)) < 0.098
    upper = (z > -0.01) & ~hand & ~(arm & (along > outfit.sleeve)) & (limbs != "eye") & ~collar & (z < 0.54) & ~head
    shoes = (limbs == "foot") & (z < -0.785)
    trousers = ~upper & ~hand & ~arm & (z <= -0.01) & (z > outfit.trouser_leg) & ~shoes
    hair = (limbs == "head") & (_above_hairline(points, outfit) > 0) & ~((x > 0.0735) & (z < 0.66))
    return {"shirt": upper, "trousers": trousers, "shoes": shoes, "hair": hair}


def _above_hairline(points: np.ndarray, outfit: Outfit) -> np.ndarray:
    """Metres above a line from the forehead over the temples, down to the nape, [P]."""
    x, y, z = np.abs(points[:, 0]), points[:, 1], points[:, 2]
    behind = np.clip((y + 0.045) / 0.02, 0, 1)
    front = z - 0.707 - 0.25 * x + 0.10 * np.clip(y + 0.11, 0, None)
    temple = z - 0.655
    back = z - (0.60 - outfit.hair_fall)
    side = np.clip((y + 0.085) / 0.02, 0, 1)
    return (1 - side) * front + side * ((1 - behind) * temple + behind * back)


def _colour(model: BodyModel, points: np.ndarray, limbs: np.ndarray, outfit: Outfit) -> np.ndarray:
    cover = _cover(points, limbs, outfit)
    colour = np.broadcast_to(np.array(outfit.skin, dtype=np.float32), points.shape).copy()
    _face(model, colour, points, limbs, outfit)
    colour[cover["hair"]] = np.array(outfit.hair) * (1 + 0.12 * _strands(points[cover["hair"]]))[:, None]
    shirt = cover["shirt"]
    colour[shirt] = _pattern(points[shirt], outfit)
    trousers = points[cover["trousers"]]
    # Seams down the sides, and a belt.
    seam = np.abs(trousers[:, 1]) < 0.004
    belt = trousers[:, 2] > -0.04
    colour[cover["trousers"]] = np.array(outfit.trousers) * np.where(belt, 0.45, np.where(seam, 0.8, 1.0))[:, None]
    sole = points[cover["shoes"], 2] < -0.852
    colour[cover["shoes"]] = np.where(sole[:, None], 0.5 * np.array(outfit.shoes) + 60, outfit.shoes)
    return colour.clip(0, 255)


def _pattern(points: np.ndarray, outfit: Outfit) -> np.ndarray:
    x, y, z = points.T
    upright = x + 0.6 * y
    checks = (np.floor(z / 0.05) + np.floor(upright / 0.05)) % 2
    accent = {
        "plain": np.zeros_like(z),
        "stripes": (upright / 0.06) % 1 < 0.35,
        "hoops": (z / 0.07) % 1 < 0.4,
        "checks": checks,
        "dots": np.hypot((z / 0.06) % 1 - 0.5, (upright / 0.06) % 1 - 0.5) < 0.28,
    }[outfit.pattern]
    return np.where(np.asarray(accent)[:, None] > 0, outfit.shirt_accent, outfit.shirt)


def _strands(points: np.ndarray) -> np.ndarray:
    x, y, z = points.T
    return np.sin(700 * x + 90 * z) * np.sin(500 * y + 60 * z)


def _face(model: BodyModel, colour: np.ndarray, points: np.ndarray, limbs: np.ndarray, outfit: Outfit) -> None:
    rest = model.rest.vertices[0].numpy()
    marks = rest[[model.vertex(base) for base in FACE]]
    skin, hair = np.array(outfit.skin, dtype=np.float32), np.array(outfit.hair, dtype=np.float32)
    front = np.flatnonzero((limbs == "head") & (points[:, 1] < -0.06))
    at = points[front]
    cheeks = sum(np.exp(-((at - marks[k] + [0, 0, 0.030]) ** 2).sum(1) / 2 / 0.016**2) for k in (41, 46))
    colour[front] += cheeks[:, None] * [6, -14, -12]
    if outfit.beard:
        x, z = np.abs(at[:, 0]), at[:, 2]
        chin = (z < 0.60 - 0.10 * (0.06 - x).clip(0)) & (z > 0.535) & (at[:, 1] < -0.055)
        colour[front[chin]] = 0.35 * skin + 0.65 * hair
    for brow in (marks[17:22], marks[22:27]):
        colour[front[_distance(at, brow) < 0.0045]] = 0.8 * hair + 0.1 * skin
    x, z = (at[:, :2:2] if False else at[:, [0, 2]]).T
    corner, top, bottom, seam = abs(marks[54, 0]), marks[51, 2], marks[57, 2], marks[62, 2]
    width = np.clip(1 - (x / (corner * 1.02)) ** 2, 0, None) ** 0.7
    lips = (z < seam + (top - seam) * width) & (z > seam - (seam - bottom) * width) & (at[:, 1] < -0.115) & (width > 0)
    colour[front[lips]] = skin * [0.80, 0.55, 0.55]
    for side in ("L", "R"):
        bone = model.bone(f"eye.{side}")
        ball = rest[(model.main_bone == bone).numpy()]
        centre = (ball.min(0) + ball.max(0)) / 2
        eye = np.flatnonzero((limbs == "eye") & (np.sign(points[:, 0]) == np.sign(centre[0])))
        away = np.hypot(*(points[eye] - centre)[:, [0, 2]].T)
        seen = points[eye, 1] < centre[1]
        colour[eye] = SCLERA
        colour[eye[seen & (away < 0.0062)]] = outfit.iris
        colour[eye[seen & (away < 0.0028)]] = PUPIL


def _distance(points: np.ndarray, line: np.ndarray) -> np.ndarray:
    """From points [P, 3] to a line through the given points, [P]."""
    nearest = np.full(len(points), np.inf)
    for a, b in zip(line[:-1], line[1:], strict=True):
        along = np.clip((points - a) @ (b - a) / ((b - a) @ (b - a)), 0, 1)
        nearest = np.minimum(nearest, np.linalg.norm(points - a - along[:, None] * (b - a), axis=1))
    return nearest
