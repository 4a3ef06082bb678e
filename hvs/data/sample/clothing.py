"""What a person wears: colours and patterns painted on the texture, and how far cloth and hair stand off the skin.

Everything is a function of a point on the average body at rest and of the limb that it belongs to, so cloth is
continuous across the seams of the texture map.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np

from .bodies import BodyModel
from .face import above_hairline, paint_face
from .raycast import GAMMA, unwrap

Colour = tuple[int, int, int]

# sRGB, 0..255.
COMPLEXIONS = (
    # skin, hair, iris
    ((236, 200, 176), (38, 30, 26), (84, 112, 138)),
    ((112, 74, 54), (30, 24, 22), (70, 46, 32)),
    ((222, 178, 148), (196, 160, 96), (92, 110, 74)),
    ((196, 146, 110), (84, 56, 36), (88, 60, 40)),
    ((84, 56, 44), (44, 34, 30), (60, 40, 30)),
    ((230, 186, 158), (150, 76, 40), (84, 112, 138)),
    ((158, 108, 78), (60, 44, 36), (88, 60, 40)),
    ((228, 190, 164), (150, 146, 142), (92, 110, 74)),
)
CLOTHS = (
    (188, 44, 48), (36, 78, 150), (232, 186, 52), (46, 128, 88), (236, 234, 226), (124, 66, 140),
    (226, 122, 50), (70, 168, 190), (52, 54, 62), (216, 132, 160),
)  # fmt: skip
TROUSERS = ((44, 56, 88), (60, 60, 64), (150, 128, 96), (86, 94, 62), (110, 116, 126), (96, 62, 48))
SHOES = ((44, 40, 40), (226, 224, 220), (120, 78, 50), (160, 40, 44))
PATTERNS = ("stripes", "checks", "hoops", "dots", "plain")
# Sleeves, short or long: length down the arm from the shoulder. Trousers, shorts or long: height above the pelvis.
SLEEVES, TROUSER_LEGS = (0.16, 0.20, 0.40), (-0.78, -0.36, -0.76)
WAIST, ANKLE, SOLE = -0.01, -0.785, -0.852
SHIRT_OFF, TROUSERS_OFF, SHOES_OFF = 0.007, 0.009, 0.006
TEXELS = 1024
LIMBS = {
    "arm": ("upperarm", "lowerarm"),
    "hand": ("wrist", "finger", "metacarpal"),
    "leg": ("upperleg", "lowerleg"),
    "foot": ("foot", "toe"),
    "head": ("neck02", "neck03", "head"),
    "eye": ("eye",),
}


@dataclass(frozen=True)
class Outfit:
    """Colours are sRGB 0..255; lengths are metres on the average body at rest."""

    skin: Colour
    hair: Colour
    iris: Colour
    shirt: Colour
    accent: Colour
    trousers: Colour
    shoes: Colour
    pattern: str
    sleeve: float
    trouser_leg: float
    hair_fall: float
    hair_volume: float
    beard: bool


def make_outfit(index: int, female: bool, rng: np.random.Generator) -> Outfit:
    """The looks of person number `index`; people with neighbouring numbers differ in pattern and every colour."""
    skin, hair, iris = COMPLEXIONS[index % len(COMPLEXIONS)]
    return Outfit(
        skin=skin,
        hair=hair,
        iris=iris,
        shirt=CLOTHS[index % len(CLOTHS)],
        accent=CLOTHS[(index + int(rng.integers(2, 6))) % len(CLOTHS)],
        trousers=TROUSERS[index % len(TROUSERS)],
        shoes=SHOES[index % len(SHOES)],
        pattern=PATTERNS[index % len(PATTERNS)],
        sleeve=float(rng.choice(SLEEVES)),
        trouser_leg=TROUSER_LEGS[index % len(TROUSER_LEGS)],
        hair_fall=float(rng.uniform(0.06, 0.11)) if female else 0.0,
        hair_volume=float(rng.uniform(0.014, 0.024)) if female else float(rng.uniform(0.005, 0.014)),
        beard=not female and bool(rng.integers(2)),
    )


def paint(model: BodyModel, outfit: Outfit, size: int) -> np.ndarray:
    """The texture [size, size, 3] float32 in linear light; `size` divides `TEXELS`."""
    points, limbs = _texels(model)
    cover = _cover(points, limbs, outfit)
    colour = np.tile(np.array(outfit.skin, dtype=np.float32), (len(points), 1))
    paint_face(colour, model, points, limbs, skin=outfit.skin, hair=outfit.hair, iris=outfit.iris, beard=outfit.beard)
    for part, dye in (("hair", _hair), ("shirt", _shirt), ("trousers", _trousers), ("shoes", _shoes)):
        colour[cover[part]] = dye(points[cover[part]], outfit)
    linear = (colour.clip(0, 255) / 255) ** GAMMA
    block = TEXELS // size
    return linear.reshape(size, block, size, block, 3).mean((1, 3), dtype=np.float32)


def thickness(model: BodyModel, outfit: Outfit) -> np.ndarray:
    """How far the visible surface stands off the skin at each vertex, [N, 1] float32 metres."""
    points, limbs = model.rest.vertices[0].numpy(), _limbs(model)[model.main_bone.numpy()]
    cover = _cover(points, limbs, outfit)
    off = SHIRT_OFF * cover["shirt"] + TROUSERS_OFF * cover["trousers"] + SHOES_OFF * cover["shoes"]
    # Hair thickens behind the hairline.
    full = np.clip(above_hairline(points, outfit.hair_fall) / 0.035, 0.15, 1)
    return (off + cover["hair"] * outfit.hair_volume * full).astype(np.float32)[:, None]


@cache
def _texels(model: BodyModel) -> tuple[np.ndarray, np.ndarray]:
    """The point of the average body that each texel colours [T·T, 3], and the name of its limb [T·T]."""
    faces, weights = (x.reshape(TEXELS * TEXELS, -1) for x in unwrap(model.coordinates.float().numpy(), TEXELS))
    corners = model.faces.numpy()[faces[:, 0]]  # [T·T, 3]
    points = np.einsum("tk,tkd->td", weights, model.rest.vertices[0].numpy()[corners])
    nearest = np.take_along_axis(corners, weights.argmax(1)[:, None], 1)[:, 0]
    return points, _limbs(model)[model.main_bone.numpy()[nearest]]


@cache
def _limbs(model: BodyModel) -> np.ndarray:
    """The name of each bone's limb."""
    names = [next((limb for limb, starts in LIMBS.items() if bone.startswith(starts)), "trunk") for bone in model.bones]
    return np.array(names)


def _cover(points: np.ndarray, limbs: np.ndarray, outfit: Outfit) -> dict[str, np.ndarray]:
    """What covers each point, [P] bool; a point that nothing covers is bare skin."""
    x, y, z = np.abs(points[:, 0]), points[:, 1], points[:, 2]
    arm, hand, head = limbs == "arm", limbs == "hand", (limbs == "head") | (limbs == "eye")
    # At rest the arms are spread at 45 degrees.
    down_the_arm = ((x - 0.165) + (0.427 - z)) / np.sqrt(2)
    collar = np.hypot(np.hypot(x, y - 0.01), 0.8 * (z - 0.535)) < 0.098
    shirt = (z > WAIST) & (z < 0.54) & ~(head & (z > 0.53)) & ~collar & ~hand & ~(arm & (down_the_arm > outfit.sleeve))
    shoes = (limbs == "foot") & (z < ANKLE)
    trousers = (z <= WAIST) & (z > outfit.trouser_leg) & ~hand & ~arm & ~shoes
    ear = (x > 0.0735) & (z < 0.66)
    hair = (limbs == "head") & (above_hairline(points, outfit.hair_fall) > 0) & ~ear
    return {"shirt": shirt, "trousers": trousers, "shoes": shoes, "hair": hair}


def _hair(points: np.ndarray, outfit: Outfit) -> np.ndarray:
    x, y, z = points.T
    strands = np.sin(700 * x + 90 * z) * np.sin(500 * y + 60 * z)
    return np.array(outfit.hair) * (1 + 0.12 * strands[:, None])


def _shirt(points: np.ndarray, outfit: Outfit) -> np.ndarray:
    x, y, z = points.T
    around = x + 0.6 * y
    accent = {
        "plain": np.zeros_like(z),
        "stripes": (around / 0.06) % 1 < 0.35,
        "hoops": (z / 0.07) % 1 < 0.4,
        "checks": (np.floor(z / 0.05) + np.floor(around / 0.05)) % 2,
        "dots": np.hypot((z / 0.06) % 1 - 0.5, (around / 0.06) % 1 - 0.5) < 0.28,
    }[outfit.pattern]
    return np.where(accent[:, None] > 0, outfit.accent, outfit.shirt)


def _trousers(points: np.ndarray, outfit: Outfit) -> np.ndarray:
    belt, seam = points[:, 2] > WAIST - 0.03, np.abs(points[:, 1]) < 0.004
    return np.array(outfit.trousers) * np.where(belt, 0.45, np.where(seam, 0.8, 1.0))[:, None]


def _shoes(points: np.ndarray, outfit: Outfit) -> np.ndarray:
    return np.where(points[:, 2:] < SOLE, 0.5 * np.array(outfit.shoes) + 60, outfit.shoes)
