"""Settings of the modes of infer.py that have a model."""

import math
from dataclasses import dataclass
from pathlib import Path

from hvs.models.synthesis import REFINE_STEPS
from hvs.runtime import Precision, UserError
from hvs.video import Format

# In mm, both ends left out; and metres from the world's origin along each axis, beyond which there is nobody.
FOCAL_LENGTHS = 4, 4000
FARTHEST = 1e4
# Frames a second that players show: browsers take shorter times of a GIF for none at all.
FASTEST = {"mp4": 240, "gif": 50, "webp": 240}


@dataclass(frozen=True)
class Computing:
    """Which model, and how it computes."""

    checkpoint: Path | None = None
    """Model to use, of this project or of the original. The newest one under runs/ by default."""
    device: str = "auto"
    """"cpu", "cuda", ...; "auto" takes the GPU if there is one."""
    precision: Precision = "auto"
    """Of the networks; geometry and rasteriser always compute in float32. "auto" is bf16 where the GPU has it."""
    compile: bool = False
    """Compile the networks by torch.compile: a wait at first, faster for every frame."""
    refine_steps: int = REFINE_STEPS
    """Steps that bring a person's appearance, once, closer to the images that it is from: colours that the encoder does
    not know become right. 0 takes the encoder's as it is."""

    def __post_init__(self) -> None:
        if self.refine_steps < 0:
            raise UserError(f"refine_steps: got {self.refine_steps}, wanted 0 or more")

    def require_positive(self, *names: str) -> None:
        for name in names:
            if getattr(self, name) <= 0:
                raise UserError(f"{name}: got {getattr(self, name)}, wanted more than 0")

    def require_between(self, name: str, low: float, high: float, unit: str) -> None:
        """Both ends left out; None is what the default will be."""
        value = getattr(self, name)
        if value is not None and not low < value < high:
            raise UserError(f"{name}: got {value}, wanted between {low} and {high} {unit}")


@dataclass(frozen=True)
class WithModel(Computing):
    """Which model, how it computes, and where results go."""

    out: Path | None = None
    """Folder of what is written. The checkpoint's by default."""
    batch_size: int = 8
    """Frames that the networks take at once."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_positive("batch_size")


@dataclass(frozen=True)
class Drawing(WithModel):
    """How frames are drawn and written."""

    format: Format = "mp4"
    """"png" is a folder of single frames."""
    fps: int = 25
    """Frames a second of what is written."""
    panels: bool = False
    """Show, side by side, what the picture is made from: input, poses, latent."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_positive("fps")
        if self.fps > FASTEST.get(self.format, math.inf):
            raise UserError(f"fps: got {self.fps}, wanted at most {FASTEST[self.format]} in {self.format}")


@dataclass(frozen=True)
class InCapture(Computing):
    """Whom to look at in a capture."""

    root: Path | None = None
    """Folder of a capture. The one that the model was trained on by default."""
    sequence: str | None = None
    """Name of the sequence in the capture. The first one that was never trained on, if there is one, by default."""
    view: str | None = None
    """Camera whose images are the input. The first one by default."""
    interval: tuple[int, int] | None = None
    """First and last frame. Those of the test split by default."""
    appearance_frames: int = 1
    """Frames, spread evenly over the interval, whose mean appearance the person has. The middle one by default."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_positive("appearance_frames")


@dataclass(frozen=True)
class Watching(InCapture, Drawing):
    """Whom to look at in a capture, and how frames are drawn and written."""


@dataclass(frozen=True)
class View(Watching):
    """What another camera of the capture sees, from the images of one camera."""

    target: str | None = None
    """Camera to see the person from. The one after the input's by default."""
    full_frame: bool = False
    """Show the crop at its place in the camera's full frame: a crop that moves with the person hides how they move."""


@dataclass(frozen=True)
class Orbit(Watching):
    """Cameras that never were: one turn around a person, a fixed place, or a path from a file.

    By default time stands still, at the middle frame of the interval.
    """

    moving: bool = False
    """Let time go on, a frame of the interval for each frame of the video."""
    frames: int = 72
    """Of the turn around a person who stands still."""
    elevation: float = 10.0
    """Of the cameras above the person, in degrees."""
    focal: float | None = None
    """Focal length in mm, as of 36 mm film; with a path, of those of its cameras that have none. By default that which
    makes the person fill the picture."""
    eye: tuple[float, float, float] | None = None
    """A fixed place for the camera in the world, in metres, in place of the turn."""
    target: tuple[float, float, float] | None = None
    """What the camera at the fixed place looks at, in metres. The person by default."""
    path: Path | None = None
    """JSON file of cameras, in place of the turn (docs/inference.md)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_positive("frames")
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
    """Name of the sequence of whose person the looks are. The first one of somebody else by default."""
    person_root: Path | None = None
    """Folder of the capture of that sequence. The motion's by default."""
    person_view: str | None = None
    """Camera that the looks are from. The first one by default."""
    person_interval: tuple[int, int] | None = None
    """First and last frame that the looks are from. Those of the test split by default."""
    target: str | None = None
    """Camera to see the person from. That of the motion by default."""
    full_frame: bool = False
    """Show the crop at its place in the camera's full frame: a crop that moves with the person hides how they move."""
