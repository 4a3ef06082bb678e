"""Pictures of any kind: whatever Pillow reads, turned upright, in 8 bits."""

import io
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError
from PIL.Image import Transpose as Turn

from hvs.data.decoding import MAX_PIXELS, WHITE, check_scans
from hvs.data.files import read_bounded
from hvs.data.stores import DataError

EXIF_ORIENTATION, EXIF_TABLE, EXIF_FOCAL_35MM = 0x0112, 0x8769, 0xA405
# Orientation -> how to turn the picture upright; 1 is upright.
TURNS = {
    2: Turn.FLIP_LEFT_RIGHT,
    3: Turn.ROTATE_180,
    4: Turn.FLIP_TOP_BOTTOM,
    5: Turn.TRANSPOSE,
    6: Turn.ROTATE_270,
    7: Turn.TRANSVERSE,
    8: Turn.ROTATE_90,
}
# Values of 16 bits per value of 8 bits.
STEP = 257


@dataclass(frozen=True)
class Snapshot:
    """A picture and what else its file says.

    Attributes:
        pixels: RGB, [H, W, 3] uint8.
        opaque: where the picture is not transparent, [H, W] bool; None if that is everywhere.
        focal: focal length in mm, for 36 mm film, if the camera recorded it.
    """

    pixels: np.ndarray
    opaque: np.ndarray | None
    focal: float | None


def read_snapshot(file: Path) -> Snapshot:
    """A picture, turned upright as its EXIF data say.

    Raises:
        DataError: the file is missing, damaged or not a picture; or the picture has more than 2^27 pixels, is
            transparent everywhere, or holds numbers that are not colours.
    """
    try:
        return _read_snapshot(file)
    except DataError:
        raise
    # For a damaged file Pillow's many decoders can raise anything.
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{file}: not a readable picture ({reason:.80})") from error


def _read_snapshot(file: Path) -> Snapshot:
    picture, focal = _read(file)
    opaque = None
    if "A" in picture.getbands() or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        opaque = np.asarray(picture)[..., 3] >= WHITE
        if not opaque.any():
            raise DataError(f"{file}: transparent everywhere")
    pixels = np.asarray(picture.convert("RGB"))
    return Snapshot(pixels, None if opaque is None or opaque.all() else opaque, focal)


def read_mask(file: Path, width: int, height: int) -> np.ndarray:
    """Where a mask is white and not transparent, [height, width] bool.

    Raises:
        DataError: as for `read_snapshot`; or the size is another, or nothing is white.
    """
    snapshot = read_snapshot(file)
    if snapshot.pixels.shape[:2] != (height, width):
        raise DataError(f"{file} is {snapshot.pixels.shape[1]}x{snapshot.pixels.shape[0]}, its image {width}x{height}")
    mask = np.asarray(Image.fromarray(snapshot.pixels).convert("L")) >= WHITE
    if snapshot.opaque is not None:
        mask &= snapshot.opaque
    if not mask.any():
        raise DataError(f"{file}: nothing is white, wanted {WHITE} or more of 255 where the person is")
    return mask


def _read(file: Path) -> tuple[Image.Image, float | None]:
    """A picture, upright and in 8 bits, and its focal length."""
    with warnings.catch_warnings():
        # Pillow warns about fewer pixels than are accepted here.
        warnings.simplefilter("ignore")
        data = read_bounded(file)
        check_scans(data, str(file))
        try:
            picture = Image.open(io.BytesIO(data))
        except UnidentifiedImageError as error:
            # Its message shows the object that was read from, not the file.
            raise DataError(f"{file}: not a readable picture (of no known kind, {len(data)} bytes)") from error
        if picture.width * picture.height > MAX_PIXELS:
            raise DataError(f"{file}: {picture.width}x{picture.height} pixels, wanted at most {MAX_PIXELS}")
        picture.load()
    orientation, focal = _exif(picture)
    if orientation in TURNS:
        picture = picture.transpose(TURNS[orientation])
    return _in_bytes(picture, file), focal


def _exif(picture: Image.Image) -> tuple[int, float | None]:
    """Orientation and focal length."""
    try:
        table = picture.getexif()
        focal = float(table.get_ifd(EXIF_TABLE).get(EXIF_FOCAL_35MM, 0))
        return int(table.get(EXIF_ORIENTATION, 1)), focal if focal > 0 else None
    # In a broken table Pillow may raise anything; the picture itself is still good.
    except Exception:
        return 1, None


def _in_bytes(picture: Image.Image, file: Path) -> Image.Image:
    if picture.mode == "F":
        raise DataError(f"{file}: a picture of floating-point numbers, wanted 8 or 16 bits")
    if not picture.mode.startswith("I"):
        return picture
    values = np.asarray(picture)
    if values.min() < 0 or values.max() > 255 * STEP:
        raise DataError(f"{file}: values from {values.min()} to {values.max()}, wanted 8 or 16 bits")
    return Image.fromarray((values // STEP).astype(np.uint8))
