"""Image and mask files of a sequence, one per frame."""

import io
from pathlib import Path

from PIL import Image

from ..decoding import WHITE
from ..files import read_bounded
from ..stores import DataError, MissingFrameError
from .folders import numbered, subfolders

ENDINGS = (".jpg", ".jpeg", ".png")
MAX_BYTES = 128 * 2**20
EXIF_ORIENTATION, UPRIGHT = 0x0112, 1


class Pictures:
    """The pictures of every frame and view, listed on demand.

    Args:
        folder: of all views' pictures.
        masks: whether they are masks.
    """

    def __init__(self, folder: Path, masks: bool = False):
        self.folder, self.masks = folder, masks
        self._listed: dict[str, dict[int, str]] = {}
        self._sizes: dict[str, tuple[int, int]] = {}

    def __reduce__(self):
        # A copy, such as a worker process gets, lists the files itself.
        return Pictures, (self.folder, self.masks)

    def views(self) -> set[str]:
        """Views that have pictures."""
        return set(subfolders(self.folder)) if self.folder.is_dir() else set()

    def files(self, view: str) -> dict[int, str]:
        """Frame -> name of its file.

        Raises:
            DataError: no folder of this view, two files of one frame, or a first picture that would be misread.
        """
        if view not in self._listed:
            files = numbered(self.folder / view, ENDINGS)
            if files:
                # One camera took them all, so checking the first is enough.
                self._check(self.folder / view / files[min(files)])
            self._listed[view] = files
        return self._listed[view]

    def read(self, view: str, frame: int) -> tuple[bytes, str]:
        """The undecoded file, and its path."""
        files = self.files(view)
        if frame not in files:
            raise MissingFrameError(f"{self.folder / view}: no frame {frame}")
        file = self.folder / view / files[frame]
        return read_bounded(file, MAX_BYTES), str(file)

    def size(self, view: str) -> tuple[int, int]:
        """(width, height) of a view's first picture."""
        if view not in self._sizes:
            files = self.files(view)
            if not files:
                raise DataError(f"{self.folder / view}: no pictures")
            self._sizes[view] = _open(self.folder / view / files[min(files)]).size
        return self._sizes[view]

    def _check(self, file: Path) -> None:
        try:
            picture = _open(file)
            brightest = picture.convert("L").getextrema()[1] if self.masks else 0
        except DataError:
            # The error is raised again when the frame is read.
            return
        orientation = picture.getexif().get(EXIF_ORIENTATION, UPRIGHT)
        # Some cameras write 0, which is no rotation either.
        if orientation not in (0, UPRIGHT):
            # Some tools rotate such pictures before they calibrate or detect, others do not, and the files do not show
            # which did.
            wanted = "wanted pixels stored upright: rotate them, then calibrate and detect"
            raise DataError(f"{file}: EXIF orientation {orientation}, {wanted}")
        if picture.mode.startswith(("I", "F")):
            raise DataError(f"{file}: a grey picture of more than 8 bits, wanted 8 bits per channel")
        if 0 < brightest < WHITE:
            raise DataError(f"{file}: no value of the mask is above {brightest}, wanted 0 and 255")


def _open(file: Path) -> Image.Image:
    try:
        picture = Image.open(io.BytesIO(read_bounded(file, MAX_BYTES)), formats=("JPEG", "PNG"))
        picture.load()
        # Broken metadata only shows when it is read.
        picture.getexif()
        return picture
    except Exception as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{file}: not a readable JPEG or PNG") from error
