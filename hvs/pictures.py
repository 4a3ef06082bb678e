"""Tensors as pictures to look at: latents and errors as colours, skeletons over images, mosaics with captions."""

import unicodedata
from collections.abc import Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torch.nn import functional as F

from .geometry import Skeleton
from .runtime import UserError, write_atomically

# Of a mosaic: pixels between pictures, the least height of captions, the height of their letters as a fraction of it
# and, for wide pictures, of the pictures' width, and the least width of pictures.
GAP = 4
CAPTION = 18
LETTER, OF_WIDTH = 2 / 3, 1 / 16
NARROWEST = 96
# Joints farther away than this many pixels are drawn there.
FARTHEST = 1e4
# The error of the brightest colour, and the colours from 0 to 1: black, violet, red, yellow, white.
BRIGHTEST_ERROR = 0.5
HEAT = ((0, 0, 4), (87, 16, 110), (204, 61, 54), (250, 179, 24), (252, 255, 200))
PART_COLOURS = {"body": (255, 140, 0), "left_hand": (0, 170, 255), "right_hand": (120, 220, 60), "face": (255, 80, 160)}


def to_uint8(image: Tensor) -> np.ndarray:
    """Pictures [..., 3, H, W] in 0..1 as bytes, [..., H, W, 3].

    Raises:
        ValueError: they are not of a floating dtype.
    """
    if not image.is_floating_point():
        raise ValueError(f"image: got {image.dtype}, wanted a floating dtype, in 0..1")
    return (image.detach().float().clamp(0, 1) * 255).round().byte().movedim(-3, -1).cpu().numpy()


class LatentColours:
    """The three principal components of latent images as colours, which mean the same in every picture.

    Args:
        latent: the images that determine the components, [B, C, h, w].
    """

    def __init__(self, latent: Tensor) -> None:
        flat = _channels_last(latent).flatten(0, 2)  # [B·h·w, C]
        self.mean = flat.mean(0)
        flat = flat - self.mean
        components = torch.linalg.eigh(flat.T @ flat).eigenvectors[:, -3:].flip(-1)  # [C, up to 3]
        # An eigenvector's sign is arbitrary; the same picture should come out the same everywhere.
        self.components = components * components.gather(0, components.abs().argmax(0, keepdim=True)).sign()
        self.spread = (flat @ self.components).abs().amax(0).clamp(min=1e-12)

    def __call__(self, latent: Tensor) -> Tensor:
        """Colours in 0..1 of latent images [B, C, h, w], [B, 3, h, w]."""
        colours = (_channels_last(latent) - self.mean) @ self.components / self.spread
        colours = F.pad(colours, (0, 3 - colours.shape[-1]))
        return (0.5 + 0.5 * colours).clamp(0, 1).movedim(-1, 1)


def latent_to_rgb(latent: Tensor) -> Tensor:
    """Latent images [B, C, h, w] in the colours of their own principal components, in 0..1, [B, 3, h, w]."""
    return LatentColours(latent)(latent)


def error_to_rgb(output: Tensor, target: Tensor) -> Tensor:
    """Absolute difference of pictures [..., 3, H, W] in 0..1, mean over red, green and blue, as heat-map colours.

    Black is no error, white one of half the range or more, or one that is not finite.
    """
    return heat((output.detach().float().clamp(0, 1) - target.float()).abs().mean(-3) / BRIGHTEST_ERROR)


def heat(values: Tensor) -> Tensor:
    """Values [..., H, W] in 0..1 as heat-map colours, [..., 3, H, W]; NaN counts as 1."""
    colours = torch.tensor(HEAT, dtype=torch.float32, device=values.device) / 255  # [K, 3]
    place = values.float().nan_to_num(1.0).clamp(0, 1) * (len(HEAT) - 1)
    below = place.long().clamp(max=len(HEAT) - 2)
    return torch.lerp(colours[below], colours[below + 1], (place - below)[..., None]).movedim(-1, -3)


def part_of(edge: tuple[int, int], skeleton: Skeleton) -> str:
    """The part of a person that an edge belongs to, one of PART_COLOURS; parts of other names count as the body."""
    parts = (name for name, (start, stop) in skeleton.parts.items() if start <= max(edge) < stop)
    return next((name for name in parts if name in PART_COLOURS), "body")


def draw_skeleton(image: Tensor, keypoints: Tensor, valid: Tensor, skeleton: Skeleton) -> Tensor:
    """The picture [3, H, W] with the skeleton's edges drawn over it, where both joints are valid and finite.

    Args:
        image: in 0..1, [3, H, W].
        keypoints: pixels of this picture, [J, 2].
        valid: which joints to draw, [J] bool.
    """
    picture = Image.fromarray(to_uint8(image))
    draw = ImageDraw.Draw(picture)
    width = max(1, picture.height // 128)
    valid = valid & keypoints.isfinite().all(-1)
    keypoints = keypoints.clamp(-FARTHEST, FARTHEST)
    for i, j in skeleton.edges:
        if valid[i] and valid[j]:
            part = part_of((i, j), skeleton)
            line = [tuple(keypoints[k].tolist()) for k in (i, j)]
            draw.line(line, fill=PART_COLOURS[part], width=width if part == "body" else 1)
    return torch.from_numpy(np.array(picture)).movedim(-1, 0).float() / 255


def mosaic(
    rows: Sequence[Sequence[Tensor]],
    captions: Sequence[str] = (),
    widest: int | None = None,
    labels: Sequence[str] = (),
) -> Image.Image:
    """Rows of pictures [3, H, W] in 0..1 on white, captions above the columns and labels above the rows.

    All get as much room as the widest, which is enlarged if narrower than 96 pixels and reduced if wider than
    ``widest``; pictures of another shape fill it in one direction.

    Raises:
        ValueError: there are no pictures.
    """
    if not any(map(len, rows)):
        raise ValueError("rows: got no pictures, wanted one or more")
    height, width = max((picture.shape[-2:] for row in rows for picture in row), key=lambda size: size[1])
    enlarge = -(-NARROWEST // width)
    height, width = height * enlarge, width * enlarge
    if widest and width > widest:
        height, width = round(height * widest / width), widest
    line = max(CAPTION, round(OF_WIDTH / LETTER * width))
    above = line if labels else 0
    top = (line if captions else 0) + above
    columns = max(len(row) for row in rows)
    size = (columns * (width + GAP) - GAP, top + len(rows) * (height + above + GAP) - above - GAP)
    sheet = Image.new("RGB", size, "white")
    for y, row in enumerate(rows):
        for x, picture in enumerate(row):
            if picture.shape[-2:] != (height, width):
                picture = _fit(picture.float(), height, width)
            free = [(room - side) // 2 for room, side in zip((height, width), picture.shape[-2:], strict=True)]
            place = x * (width + GAP) + free[1], top + y * (height + above + GAP) + free[0]
            sheet.paste(Image.fromarray(to_uint8(picture)), place)
    draw = ImageDraw.Draw(sheet)
    letter = round(LETTER * line)
    for x, caption in enumerate(captions):
        _write(draw, (x * (width + GAP) + width / 2, 2), caption, letter, "ma")
    for y, label in enumerate(labels):
        _write(draw, (0, top - above + y * (height + above + GAP) + 2), label, letter, "la")
    return sheet


def save_picture(picture: Image.Image, path: Path) -> None:
    """Write a picture in the format of the path's ending, whole or not at all.

    Raises:
        UserError: the ending is none that Pillow writes.
    """
    if Image.registered_extensions().get(path.suffix.lower()) not in Image.SAVE:
        raise UserError(f"{path}: got the ending {path.suffix!r}, wanted .png or another that Pillow writes")
    write_atomically(path, picture.save)


def _write(draw: ImageDraw.ImageDraw, place: tuple[float, float], text: str, size: int, anchor: str) -> None:
    """Write a line; names of people and folders may be in any language."""
    font = ImageFont.load_default(size=size)
    # Pillow's own font has no other letters.
    if not text.isascii():
        if wide := _wide_font(size):
            font = wide
        else:
            letters = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
            text = letters.encode("ascii", errors="replace").decode()
    draw.text(place, text, fill="black", font=font, anchor=anchor)


def _wide_font(size: int) -> ImageFont.FreeTypeFont | None:
    """A font with the letters of many languages, if the system or matplotlib has it."""
    places = [Path("DejaVuSans.ttf")]
    if found := find_spec("matplotlib"):
        places.append(Path(found.origin).parent / "mpl-data/fonts/ttf/DejaVuSans.ttf")
    for place in places:
        with suppress(OSError):
            return ImageFont.truetype(str(place), size)
    return None


def _fit(picture: Tensor, height: int, width: int) -> Tensor:
    """As large as fits, in its own shape: enlarged with visible pixels, or reduced without moiré."""
    factor = min(height / picture.shape[-2], width / picture.shape[-1])
    size = [max(1, round(factor * side)) for side in picture.shape[-2:]]
    smooth = dict(mode="bilinear", antialias=True) if factor < 1 else dict(mode="nearest")
    return F.interpolate(picture[None], size, **smooth)[0]


def _channels_last(latent: Tensor) -> Tensor:
    # The decomposition refuses values that are not finite.
    return latent.detach().float().nan_to_num(0.0, 0.0, 0.0).movedim(1, -1)  # [B, h, w, C]
