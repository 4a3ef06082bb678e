"""Decoding of a capture's pictures to tensors no larger than needed."""

import io

import numpy as np
import simplejpeg
import torch
from PIL import Image
from torch import Tensor

from .stores import DataError

# A JPEG decodes to a half, a quarter or an eighth of its size in a fraction of the time.
REDUCTIONS = (1, 2, 4, 8)
# Masks are white where the person is; lossy compression blurs their edges.
WHITE = 128
MAX_PIXELS = 1 << 27
# Passes over all pixels that a progressive JPEG takes; encoders make about ten, and each may be a few bytes long.
MAX_SCANS, SCAN = 64, b"\xff\xda"


class Picture:
    """An encoded image or mask, JPEG or PNG; only its header is read at first.

    Attributes:
        where: names file and frame in errors.
        width, height: in pixels.

    Args:
        data: the file's bytes.

    Raises:
        DataError: neither a JPEG nor a PNG, grey of more than 8 bits, of more than 2^27 pixels, or a JPEG of more than
            64 scans; when decoded, damaged or cut short.
    """

    def __init__(self, data: bytes, where: str) -> None:
        self.where = where
        self._data = data
        check_scans(data, where)
        try:
            self._png = _open_png(data) if data.startswith(b"\x89PNG") else None
            if self._png:
                self.width, self.height = self._png.size
                if self._png.mode.startswith("I"):
                    raise DataError(f"{where}: a grey picture of more than 8 bits, wanted 8 bits per channel")
            else:
                self.height, self.width = simplejpeg.decode_jpeg_header(data)[:2]
        except ValueError as error:
            if isinstance(error, DataError):
                raise
            raise DataError(f"{where}: not a readable JPEG or PNG ({len(data)} bytes)") from error
        if self.width * self.height > MAX_PIXELS:
            raise DataError(f"{where}: {self.width}x{self.height} pixels, wanted at most {MAX_PIXELS}")

    def rgb(self, reduction: int = 1) -> Tensor:
        """The image, uint8, [3, ⌈H / reduction⌉, ⌈W / reduction⌉] with the channels last in memory.

        Args:
            reduction: 1, 2, 4 or 8; each pixel is the mean of a square with this many pixels a side.
        """
        return self._decode("RGB", reduction).movedim(-1, 0)

    def grey(self) -> Tensor:
        """The image without its colours, uint8, [1, H, W]."""
        return self._decode("GRAY", 1)[None, ..., 0]

    def mask(self) -> Tensor:
        """Where the picture is white: bool, [1, H, W]."""
        return self.grey() >= WHITE

    def _decode(self, colours: str, reduction: int) -> Tensor:
        try:
            if self._png:
                pixels = np.array(self._png.convert("L" if colours == "GRAY" else "RGB").reduce(reduction))
                return torch.from_numpy(pixels.reshape(*pixels.shape[:2], -1))
            least = dict(min_height=-(-self.height // reduction), min_width=-(-self.width // reduction))
            return torch.from_numpy(simplejpeg.decode_jpeg(self._data, colours, **least, min_factor=reduction))
        # For a damaged file Pillow can raise anything.
        except Exception as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise DataError(f"{self.where}: a damaged picture ({reason:.80})") from error


def check_scans(data: bytes, where: str) -> None:
    """Raise a DataError if these are the bytes of a JPEG that would take any time to decode."""
    if data.startswith(b"\xff\xd8") and (scans := data.count(SCAN)) > MAX_SCANS:
        raise DataError(f"{where}: a JPEG of {scans} scans, wanted at most {MAX_SCANS}")


def _open_png(data: bytes) -> Image.Image:
    try:
        return Image.open(io.BytesIO(data), formats=("PNG",))
    # For a damaged file Pillow can raise anything.
    except Exception as error:
        raise ValueError(str(error)) from error
