"""Image and mask files of a sequence, one per frame."""

import io
from contextlib import suppress
from pathlib import Path

from PIL import Image

from ..decoding import WHITE, Picture
from ..files import read_bounded
from ..stores import DataError, MissingFrameError
from .folders import numbered, subfolders

ENDINGS = (".jpg", ".jpeg", ".png")
EXIF_ORIENTATION, UPRIGHT = 0x0112, 1
# How many masks of a view are searched for one with something white, at most.
LOOKED_AT = 100


class Pictures:
    """The pictures of every frame and view, listed on demand.

    Args:
        folder: of all views' pictures.
        masks: whether they are masks.
    """

    def __init__(self, folder: Path, masks: bool = False):
        self.folder, self.masks = folder, masks
        self._listed: dict[str, dict[int, str]] = {}

    def __reduce__(self):
        # A copy, such as a worker process gets, lists the files itself.
        return Pictures, (self.folder, self.masks)

    def views(self) -> set[str]:
        """Views that have pictures."""
        return set(subfolders(self.folder)) if self.folder.is_dir() else set()

    def files(self, view: str) -> dict[int, str]:
        """Frame -> name of its file.

        Raises:
            DataError: no folder of this view, two files of one frame, or pictures that would be misread.
        """
        if view not in self._listed:
            files = numbered(self.folder / view, ENDINGS)
            frames = sorted(files)
            # In a long sequence, a path for every file would take longer than the list of them.
            some = [self.folder / view / files[frame] for frame in frames[:: -(-len(frames) // LOOKED_AT) or 1]]
            if some:
                # One camera took them all, so the first one shows how they are stored.
                _check_upright(some[0])
                if self.masks:
                    _check_white(some)
            self._listed[view] = files
        return self._listed[view]

    def read(self, view: str, frame: int) -> tuple[bytes, str]:
        """The undecoded file, and its path.

        Raises:
            DataError: there is none, or its picture would be misread.
        """
        files = self.files(view)
        if frame not in files:
            raise MissingFrameError(f"{self.folder / view}: no frame {frame}")
        file = self.folder / view / files[frame]
        data = read_bounded(file)
        # A phone decides anew for every picture which side of it is up.
        _check_upright(file, data)
        return data, str(file)


def _check_upright(file: Path, data: bytes | None = None) -> None:
    """Refuse a picture that some tools turn before they calibrate or detect: the files do not show which ones did."""
    try:
        picture = Image.open(io.BytesIO(data or read_bounded(file)), formats=("JPEG", "PNG"))
        orientation = picture.getexif().get(EXIF_ORIENTATION, UPRIGHT)
    except Exception:
        # A damaged file, whatever is raised for it, is told when its frame is read.
        return
    # Some cameras write 0, which is no rotation either.
    if orientation not in (0, UPRIGHT):
        wanted = "wanted pixels stored upright: rotate them, then calibrate and detect"
        raise DataError(f"{file}: EXIF orientation {orientation}, {wanted}")


def _check_white(files: list[Path]) -> None:
    """Refuse masks without anything white, unless all are black: those of zeros and ones would all be taken for empty.

    Usually the first one shows it, but there may be nobody in it.
    """
    faint = ""
    for file in files:
        # A damaged file is told when its frame is read.
        with suppress(DataError):
            brightest = int(Picture(read_bounded(file), str(file)).grey().max())
            if brightest >= WHITE:
                return
            if brightest and not faint:
                faint = f"{file}: no value of the mask is above {brightest}, wanted 0 and 255"
    if faint:
        raise DataError(faint)
