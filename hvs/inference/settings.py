"""Settings of the modes of infer.py that use a model."""

import math
from dataclasses import dataclass
from pathlib import Path

from hvs.models.synthesis import REFINE_STEPS
from hvs.runtime import Precision, UserError
from hvs.video import Format

# The range of focal lengths in mm, ends excluded; and the largest coordinate of anything in the world, in metres.
FOCAL_LENGTHS = 4, 4000
FARTHEST = 1e4
# Most frames per second that players show: browsers ignore shorter frame times of a GIF.
FASTEST = {"mp4": 240, "gif": 50, "webp": 240}


@dataclass(frozen=True)
class Computing:
    """Which model, and how it computes."""

    checkpoint: Path | None = None
    """Model to use, of this project or of the original. By default the newest one under runs/."""
    device: str = "auto"
    """"cpu", "cuda", ...; "auto" takes the GPU if there is one."""
    precision: Precision = "auto"
    """Precision of the networks; geometry and rasteriser always use float32. "auto" is bf16 where the GPU has it."""
    refine_steps: int = REFINE_STEPS
    """Steps of gradient descent that fit a person's appearance, once, to the images it is encoded from, for colours
    that the encoder does not know. 0 takes the encoder's appearance as it is."""

    def __post_init__(self) -> None:
        self.require_at_least(0, "refine_steps")

    def require_at_least(self, least: int, *names: str) -> None:
        """Refuse lower values of the settings with these names."""
        for name in names:
            if getattr(self, name) < least:
                raise UserError(f"{name}: got {getattr(self, name)}, wanted {least} or more")

    def require_between(self, name: str, low: float, high: float, unit: str) -> None:
        """Refuse values outside the range, ends excluded; None, which stands for a default, is accepted."""
        value = getattr(self, name)
        if value is not None and not low < value < high:
            raise UserError(f"{name}: got {value}, wanted between {low} and {high} {unit}")


@dataclass(frozen=True)
class Compiling(Computing):
    """A model that draws many pictures of one size, and how it computes."""

    compile: bool = False
    """Compile the networks with torch.compile: a wait at first, then every frame is faster."""


@dataclass(frozen=True)
class WithModel(Computing):
    """Which model, how it computes, and where results go."""

    out: Path | None = None
    """Folder for the results. By default the checkpoint's."""
    batch_size: int = 8
    """Frames that the networks process at once."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_at_least(1, "batch_size")


@dataclass(frozen=True)
class Drawing(WithModel, Compiling):
    """How frames are drawn and written."""

    format: Format = "mp4"
    """"png" is a folder of single frames."""
    fps: int = 25
    """Frames per second of what is written."""
    panels: bool = False
    """Show, side by side, how the picture comes about: input, poses, latent."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_at_least(1, "fps")
        if self.fps > FASTEST.get(self.format, math.inf):
            raise UserError(f"fps: got {self.fps}, wanted at most {FASTEST[self.format]} in {self.format}")


@dataclass(frozen=True)
class InCapture(Compiling):
    """Whom to look at in a capture."""

    root: Path | None = None
    """Folder of a capture. By default the one that the model was trained on."""
    sequence: str | None = None
    """Name of the sequence in the capture. By default the first one never trained on, or else the first of all."""
    view: str | None = None
    """Camera whose images are the input. The first one by default."""
    interval: tuple[int, int] | None = None
    """First and last frame. By default the frames of the test split."""
    appearance_frames: int = 1
    """Number of frames, spread evenly over the interval, to average the appearance over. With 1, the middle one."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_at_least(1, "appearance_frames")


@dataclass(frozen=True)
class Watching(InCapture, Drawing):
    """Whom to look at in a capture, and how frames are drawn and written."""


@dataclass(frozen=True)
class View(Watching):
    """What another camera of the capture sees, from the images of one camera."""

    target: str | None = None
    """Camera to see the person from. The one after the input's by default."""
    full_frame: bool = False
    """Show the crop in its place in the camera's full frame: a crop that follows the person hides how they move."""


@dataclass(frozen=True)
class Orbit(Watching):
    """Virtual cameras: a turn around a person, a fixed place, or a path from a file.

    By default time stands still, at the middle frame of the interval.
    """

    moving: bool = False
    """Let time go on, one frame of the interval per frame of the video."""
    frames: int = 72
    """Number of frames of the turn around a person who stands still."""
    elevation: float = 10.0
    """Angle of the cameras above the person, in degrees."""
    focal: float | None = None
    """Focal length in mm, for 36 mm film; with a path, for those of its cameras that have none. By default the person
    fills the picture."""
    eye: tuple[float, float, float] | None = None
    """A fixed place for the camera in the world, in metres, instead of the turn."""
    target: tuple[float, float, float] | None = None
    """Point that the camera at the fixed place looks at, in metres. The person by default."""
    path: Path | None = None
    """JSON file of cameras, instead of the turn (docs/inference.md)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_at_least(1, "frames")
        self.require_between("focal", *FOCAL_LENGTHS, "mm")
        self.require_between("elevation", -90, 90, "degrees")
        for name in ("eye", "target"):
            if not all(abs(coordinate) < FARTHEST for coordinate in getattr(self, name) or ()):
                raise UserError(f"{name}: got {getattr(self, name)}, wanted metres, less than {FARTHEST:g} each")
        if self.path and self.eye:
            raise UserError("path, eye: got both, wanted one of them")
        if self.target and not self.eye:
            raise UserError("target: got one without an eye to look from")
        if self.eye and self.eye == self.target:
            raise UserError(f"eye: got the place it is to look at, {self.eye}")


@dataclass(frozen=True)
class Transfer(Watching):
    """The motion of one sequence with the looks of another person."""

    person: str | None = None
    """Name of the sequence that the looks come from. By default the first one of somebody else."""
    person_root: Path | None = None
    """Folder of the capture with that sequence. By default the same as for the motion."""
    person_view: str | None = None
    """Camera that the looks come from. The first one by default."""
    person_interval: tuple[int, int] | None = None
    """First and last frame that the looks come from. By default the frames of the test split."""
    target: str | None = None
    """Camera to see the person from. By default that of the motion."""
    full_frame: bool = False
    """Show the crop in its place in the camera's full frame: a crop that follows the person hides how they move."""
