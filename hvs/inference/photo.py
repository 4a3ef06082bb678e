"""A single picture from the wild: the person in it, their pose, position and looks."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from tyro.conf import Positional

from hvs.data.decoding import WHITE
from hvs.data.files import read_json
from hvs.data.layouts import CONFIDENT, LAYOUTS, Layout
from hvs.data.plain.keypoints import BODY, read_frame
from hvs.data.transforms import MARGIN, Box, align, composite, crop_camera
from hvs.geometry import Camera
from hvs.models import HumanViewSynthesis
from hvs.runtime import UserError

from . import body as bodies
from .paths import FILM
from .placing import place
from .settings import FOCAL_LENGTHS, Drawing
from .silhouette import draw_silhouette
from .snapshot import read_mask, read_snapshot

# Default focal length in mm, between a phone's lens and a portrait lens.
USUAL_FOCAL = 35.0
# Focal length in mm of the turn: about that of the crops of captures, however near the photographer stood.
RING_FOCAL = 50.0
# Width in pixels of the frames that a layout's `crop_side` refers to.
FRAME_WIDTH = 1920
# People who are farther away than this, in metres, are taken to be this near.
NEAR = 15.0
# A large picture is first reduced by an integer, to a crop of at least this many times the wanted size.
REDUCED = 4


@dataclass(frozen=True, kw_only=True)
class Photo(Drawing):
    """A turn around a person from one picture and their keypoints.

    The camera is assumed to be upright and to have no lens distortion.
    """

    image: Positional[Path]
    """The picture. It is turned upright as its EXIF data say."""
    keypoints: Path | None = None
    """JSON of OpenPose, MMPose or COCO-WholeBody (docs/data.md), in pixels of the upright picture. By default the file
    with the picture's name and the ending .json."""
    mask: Path | None = None
    """Picture of the same size, white where the person is. By default the part of the picture that is not transparent,
    or, if none is transparent, drawn from the keypoints."""
    focal: float | None = None
    """Focal length in mm, for 36 mm film along the longer side. By default what the EXIF data say, or else 35."""
    height: float | None = None
    """Height of the person when standing straight, in metres. By default estimated from the pose."""
    frames: int = 72
    """Number of frames of the turn."""
    elevation: float = 10.0
    """Angle of the cameras above the person, in degrees."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.image.name:
            raise UserError(f"image: got {self.image}, wanted the file of a picture")
        self.require_at_least(1, "frames")
        self.require_between("focal", *FOCAL_LENGTHS, "mm")
        self.require_between("height", 0.3, 3, "metres")
        self.require_between("elevation", -90, 90, "degrees")

    @property
    def labels(self) -> Path:
        """The file of the keypoints."""
        return self.keypoints or self.image.with_suffix(".json")

    @property
    def files(self) -> list[Path]:
        """All that is read."""
        return [self.image, self.labels, *([self.mask] if self.mask else [])]


@dataclass(frozen=True)
class Portrait:
    """A person in a picture. The world is the camera's frame.

    Attributes:
        image: the crop around the person, [1, 3, h, w] in 0..1 on the model's background.
        points: the pose in metres, [1, J, 3].
        camera, full: cameras of the crop and of the whole picture, without batch axes; with a shorter focal length than
            the picture's if the person is far away.
        keypoints, seen: pixels of the whole picture [1, J, 2], and which of them were detected [1, J] bool.
        told: what is known of the camera, the person and the mask, as text for the user.
    """

    image: Tensor
    points: Tensor
    camera: Camera
    full: Camera
    keypoints: Tensor
    seen: Tensor
    told: str


def read_portrait(settings: Photo, model: HumanViewSynthesis) -> Portrait:
    """The person that the files of the settings show, on the model's device.

    Raises:
        DataError: a file is missing or broken.
        UserError: nobody is in the picture, or too little of them to tell where they are.
    """
    layout = LAYOUTS[model.skeleton.name]
    if model.skeleton.joints != layout.skeleton.joints:
        raise UserError("checkpoint: the model has joints of its own, which no detector finds")
    snapshot = read_snapshot(settings.image)
    file = settings.labels
    if not settings.keypoints and not file.exists():
        raise UserError(f"keypoints: no {file.name} next to the picture; give --keypoints")
    height, width = snapshot.pixels.shape[:2]
    rows = read_frame(read_json(file), str(file), settings.image.name)
    if rows is None:
        raise UserError(f"{file}: nobody for {settings.image.name}")
    rows = bodies.keep_inside(rows, width, height)
    keypoints, seen, body, scale = _understand(rows, layout, file, (width, height))
    # Cameras that do not know their lens record arbitrary values.
    known = snapshot.focal if FOCAL_LENGTHS[0] < (snapshot.focal or 0) < FOCAL_LENGTHS[1] else None
    focal = settings.focal or known or USUAL_FOCAL
    full = _camera(focal, width, height)
    device = next(model.parameters()).device
    placed = place(model, layout, keypoints.to(device), seen.to(device), full.to(device), scale)
    if placed is None:
        raise UserError(f"{file}: too few joints to tell where the person is")
    points, frame = placed
    if settings.height:
        # A larger person farther away looks the same.
        points = points * (settings.height / bodies.stature(points.cpu().numpy(), model.skeleton))
    tall = bodies.stature(points.cpu().numpy(), model.skeleton)
    depth = points[model.skeleton.root, 2].item()
    told = f"{tall:.2f} m tall, {points[model.skeleton.root].norm():.1f} m away, focal length {focal:g} mm"
    # Somebody far away fades. Nearer, with a shorter lens, they look much the same.
    nearer = NEAR / max(NEAR, depth)
    points = points - points.new_tensor((0.0, 0.0, (1 - nearer) * depth))
    full = _camera(nearer * focal, width, height)
    mask, drawn = snapshot.opaque, False
    if settings.mask:
        mask = read_mask(settings.mask, width, height)
    elif mask is None:
        mask, drawn = draw_silhouette(body, scale, width, height), True
    resolution = model.settings.input_resolution
    box = _box(keypoints[seen], layout, scale * frame, resolution)
    pixels, inside = _crop(snapshot.pixels, mask, box, resolution)
    if not inside.any():
        raise UserError(f"{settings.mask or settings.image}: the mask has nothing where the keypoints are")
    image = composite(pixels, inside, layout.skeleton.background)
    return Portrait(
        image=image[None].to(device),
        points=points[None],
        camera=crop_camera(full, box, resolution, model.settings.resize).to(device),
        full=full.to(device),
        keypoints=keypoints[None].to(device),
        seen=seen[None].to(device),
        told=told + (", mask drawn from the keypoints" if drawn else ""),
    )


def _understand(
    rows: np.ndarray, layout: Layout, file: Path, size: tuple[int, int]
) -> tuple[Tensor, Tensor, np.ndarray, float]:
    """The skeleton's keypoints [J, 2], some guessed; which were seen [J]; the body; and its pixels per metre."""
    human36m = layout.label_joints != BODY
    if len(rows) != BODY and not human36m:
        raise UserError(f"{file}: {len(rows)} joints of Human3.6M, but the model's skeleton is {layout.skeleton.name}")
    body = rows if len(rows) == BODY else bodies.from_human36m(rows)
    if not (rows[:, 2] > CONFIDENT).any():
        raise UserError(
            f"{file}: no joint inside the picture of {size[0]}x{size[1]} has a confidence above {CONFIDENT}"
        )
    scale = bodies.pixels_per_metre(body)
    if scale is None or not (body[bodies.SHOULDERS, 2] > CONFIDENT).any():
        raise UserError(f"{file}: no shoulder or no limb of the body was seen, so nothing tells where the person is")
    guessed = np.column_stack((bodies.with_guesses(body, scale), body[:, 2]))
    joints = bodies.to_human36m(guessed) if human36m else guessed[list(layout.joints)]
    if len(rows) != BODY:
        joints = np.where(rows[:, 2:] > CONFIDENT, rows, joints)
    joints = torch.from_numpy(joints).float()
    return joints[:, :2], joints[:, 2] > CONFIDENT, body, scale


def _camera(focal: float, width: int, height: int) -> Camera:
    pixels = focal / FILM * max(width, height)
    K = torch.tensor([[pixels, 0.0, (width - 1) / 2], [0.0, pixels, (height - 1) / 2], [0.0, 0.0, 1.0]])
    return Camera(K, torch.eye(3), torch.zeros(3), torch.zeros(0), height, width)


def _box(keypoints: Tensor, layout: Layout, frame: float, resolution: int) -> Box:
    """The window that training would crop around a person; it may extend beyond the picture's edges.

    Args:
        keypoints: those that were seen, [n, 2].
        layout: the layout whose crops to imitate.
        frame: width, in pixels of the photo, of what a frame of the model's capture would show.
        resolution: side of the crop, in pixels.
    """
    low, high = keypoints.aminmax(dim=0)
    side = MARGIN * (high - low).max().item()
    if layout.crop_side:
        side = max((high - low).max().item(), layout.crop_side / FRAME_WIDTH * frame)
    left, top = ((low + high - side) / 2).round().int().tolist()
    box = Box(left, top, max(1, round(side)))
    return align(box, _reduction(box, resolution))


def _reduction(box: Box, resolution: int) -> int:
    return max(1, box.side // (REDUCED * resolution))


def _crop(pixels: np.ndarray, mask: np.ndarray, box: Box, resolution: int) -> tuple[Tensor, Tensor]:
    """The window of a picture, [3, h, w] in 0..1, and of its mask, [1, h, w] of 0 and 1; zero beyond the edges.

    Pixels outside the mask do not blend into those inside: nobody sees what colour transparent ones have.
    """
    reduction = _reduction(box, resolution)
    left, top, side = (value // reduction for value in box)

    def window(picture: np.ndarray) -> Tensor:
        reduced = torch.from_numpy(np.array(Image.fromarray(picture).reduce(reduction)))
        reduced = reduced.reshape(*reduced.shape[:2], -1).movedim(-1, 0)
        height, width = reduced.shape[1:]
        return F.pad(reduced, (-left, left + side - width, -top, top + side - height))[None]

    size = resolution, resolution

    def smooth(window: Tensor) -> Tensor:
        return F.interpolate(window.float(), size, mode="bilinear", antialias=True)[0]

    seen = window(mask.astype(np.uint8) * 255)
    image = smooth(window(pixels * mask[..., None])) / smooth(seen).clamp(min=1)
    white = F.interpolate(seen, size, mode="nearest-exact")[0]
    return image.clamp(max=1), (white >= WHITE).float()
