"""See people from anywhere.

python infer.py orbit                 a turn around a person, from one image of the sample

python infer.py orbit --help          every setting
"""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro
from tqdm import tqdm

import hvs
from hvs import Camera, HumanViewSynthesis
from hvs.checkpoint import read_extra
from hvs.data import NoSequencesError, Sequence, collate, find_sequences
from hvs.data.datasets import load_view, make_pair
from hvs.evaluation import to_device
from hvs.pictures import to_uint8
from hvs.runtime import UserError, autocast, make_folder, run_command, select_device, write_atomically
from hvs.video import contact_sheet, enlarge, write_video

# A virtual camera keeps this much space around the person, as a part of their size.
MARGIN = 1.15
SHEET_FRAMES = 12


@dataclass(frozen=True)
class Orbit:
    """A video of one turn around a person, made from a single image of them."""

    checkpoint: Path | None = None
    """Model to use. The newest one under runs/ by default."""
    root: Path | None = None
    """Folder of a capture. The one that the model was trained on by default."""
    sequence: str | None = None
    """Name of the sequence in the capture. The first one that was never trained on, if there is one, by default."""
    frame: int | None = None
    """Which frame. The middle one of the test split by default."""
    view: str | None = None
    """Camera that took the image. The first one by default."""
    out: Path | None = None
    """Folder of orbit.mp4 and orbit.png. The checkpoint's by default."""
    frames: int = 72
    """Of the video."""
    fps: int = 24
    elevation: float = 10.0
    """Of the virtual cameras above the person, in degrees."""
    batch_size: int = 8
    device: str = "auto"
    """"cpu", "cuda", ...; "auto" takes the GPU if there is one."""

    def __post_init__(self) -> None:
        for name in ("frames", "fps", "batch_size"):
            if getattr(self, name) < 1:
                raise UserError(f"{name}: got {getattr(self, name)}, wanted at least 1")
        if not abs(self.elevation) < 90:
            raise UserError(f"elevation: got {self.elevation}, wanted between -90 and 90 degrees")


def orbit(settings: Orbit) -> None:
    device = select_device(settings.device)
    checkpoint = settings.checkpoint or newest_checkpoint()
    folder = make_folder(settings.out or checkpoint.parent)
    model = hvs.load(checkpoint).to(device)
    root = settings.root or trained_on(checkpoint)
    sequence, frame, view = choose_image(root, model, settings)
    person = load_person(model, sequence, frame, view, device)
    up = torch.tensor(sequence.layout.up, device=device)
    with torch.inference_mode(), autocast(device):
        points, appearance = lift_and_encode(model, person)
        cameras = cameras_around(points[0], person["camera_a"][0], up, settings, model.settings.target_resolution)
        frames = []
        for first in tqdm(range(0, settings.frames, settings.batch_size), "orbit", unit="batch"):
            camera = cameras[first : first + settings.batch_size]
            seen = camera.to_camera(points)
            _, image = model.render(seen, appearance.expand(len(seen), -1, -1), camera)
            frames += [enlarge(to_uint8(picture)) for picture in image]
    write_video(folder / "orbit.mp4", frames, settings.fps)
    count = min(SHEET_FRAMES, len(frames))
    chosen = [frames[i] for i in np.linspace(0, len(frames), count, endpoint=False).astype(int)]
    sheet = contact_sheet(chosen)
    write_atomically(folder / "orbit.png", lambda path: sheet.save(path, "PNG"))
    print(f"image          {sequence.folder}, frame {frame}, view {view}")
    print(f"video          {folder / 'orbit.mp4'}")
    print(f"contact sheet  {folder / 'orbit.png'}")


def newest_checkpoint() -> Path:
    found = sorted(Path("runs").glob("*/model.safetensors"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise UserError("runs/*/model.safetensors: no trained model yet; run python train.py, or give --checkpoint")
    return found[-1]


def trained_on(checkpoint: Path) -> Path:
    root = read_extra(checkpoint).get("root")
    if not root:
        raise UserError(f"{checkpoint}: does not say which capture it was trained on; give --root")
    return Path(root)


def choose_image(root: Path, model: HumanViewSynthesis, settings: Orbit) -> tuple[Sequence, int, str]:
    sequences = {sequence.name: sequence for sequence in find_sequences(root, "all")}
    try:
        others = find_sequences(root, "unknown")
    except NoSequencesError:
        others = list(sequences.values())
    name = settings.sequence or others[0].name
    if name not in sequences:
        raise UserError(f"sequence: got {name!r}, wanted one of {', '.join(sequences)}")
    sequence = sequences[name]
    if sequence.layout.skeleton.joints != model.skeleton.joints:
        raise UserError(
            f"{root}: is a {sequence.layout.skeleton.name} capture, but the model's skeleton is {model.skeleton.name}"
        )
    view = settings.view or sequence.views[0]
    if view not in sequence.views:
        raise UserError(f"view: got {view!r}, wanted one of {', '.join(sequence.views)}")
    frames = sequence.frames("test")
    if settings.frame is None and not frames:
        raise UserError(f"{sequence.folder}: has no test frames; give --frame")
    return sequence, frames[len(frames) // 2] if settings.frame is None else settings.frame, view


def load_person(model: HumanViewSynthesis, sequence: Sequence, frame: int, view: str, device: torch.device) -> dict:
    seen = load_view(sequence, frame, view, model.settings.input_resolution, model.settings.resize)
    pair = make_pair(sequence, frame, seen, seen)
    if pair is None:
        raise UserError(f"{sequence.folder}: frame {frame}, view {view}: nobody is in the image")
    return to_device(collate([pair]), device)


def lift_and_encode(model: HumanViewSynthesis, person: dict) -> tuple[torch.Tensor, torch.Tensor]:
    """The pose in the world [1, J, 3], around the known place of its root, and the appearance [1, N, C]."""
    camera = person["camera_a"]
    root = camera.to_camera(person["points"])[:, model.skeleton.root, None]
    lifted = model.lift(person["keypoints_a"], person["confidence_a"], person["resolution_a"])
    return camera.to_world(root + lifted), model.encode(person["image_a"])


def cameras_around(points: torch.Tensor, source: Camera, up: torch.Tensor, settings: Orbit, size: int) -> Camera:
    """A ring around a pose [J, 3] at the source camera's distance, starting on its side; the person fills the image."""
    centre = (points.amin(0) + points.amax(0)) / 2
    eye = source.to_world(torch.zeros_like(centre)[None])[0]
    distance = (eye - centre).norm()
    reach = (points - centre).norm(dim=-1).max() * MARGIN
    focal = (size / 2) / math.tan(math.asin(min(0.95, (reach / distance).item())))
    K = torch.tensor([[focal, 0, (size - 1) / 2], [0, focal, (size - 1) / 2], [0, 0, 1]], device=points.device)
    return Camera.orbit(
        centre, up, distance.item(), settings.frames, K, size, size, math.radians(settings.elevation), eye - centre
    )


def main() -> None:
    commands = {"orbit": Orbit}
    settings = tyro.extras.subcommand_cli_from_dict(commands, description=__doc__)
    orbit(settings)


if __name__ == "__main__":
    run_command(main)
