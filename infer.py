"""Render people from any viewpoint.

python infer.py orbit               a turn around a person, from one image of the sample

python infer.py MODE --help         all settings of a mode
"""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import tyro
from torch import Tensor
from tqdm import tqdm

from hvs import Camera
from hvs.inference import paths
from hvs.inference.canvas import to_crop
from hvs.inference.film import Shot, check_film, film, write_film
from hvs.inference.fit import Fit, fit
from hvs.inference.footage import Footage, choose_frames, find_sequence, next_view
from hvs.inference.panels import with_poses
from hvs.inference.photo import RING_FOCAL, Photo, read_portrait
from hvs.inference.placing import UP
from hvs.inference.poses import Poses, draw_poses
from hvs.inference.scoring import Evaluate, evaluate
from hvs.inference.settings import Orbit, Transfer, View
from hvs.inference.shapes import Shapes, draw_shapes
from hvs.inference.studio import Studio
from hvs.inference.viewer import Viewer, viewer
from hvs.runtime import UserError, run_command


def view(settings: View) -> None:
    """Poses and looks from camera A, seen by camera B."""
    studio = Studio(settings)
    check_film(studio, "view", settings)
    sequence = find_sequence(studio.root(settings.root), studio.model.skeleton, settings.sequence)
    target = next_view(sequence, settings.view) if settings.target is None else settings.target
    footage = choose_frames(sequence, studio.model.settings, settings.view, target, settings.interval)
    appearance = studio.encode_batch(footage.sources(settings.appearance_frames, studio.device))

    def shots() -> Iterator[Shot]:
        for batch in footage.progress(settings.batch_size, studio.device, "view"):
            before, seen = input_panels(studio, footage, batch), {"target": batch["image_b"]}
            yield Shot(studio.lift(batch), batch["camera_b"], before, seen, batch["image_b"])

    full = sequence.camera(target).to(studio.device) if settings.full_frame else None
    written = write_film(studio, film(studio, shots(), appearance, settings.panels, full), "view", settings)
    say(footage, f"seen by {target}", written)


def orbit(settings: Orbit) -> None:
    """Virtual cameras around a person who stands still or moves."""
    studio = Studio(settings)
    check_film(studio, "orbit", settings)
    path = paths.read_path(settings.path) if settings.path else None
    sequence = find_sequence(studio.root(settings.root), studio.model.skeleton, settings.sequence)
    footage = choose_frames(sequence, studio.model.settings, settings.view, interval=settings.interval)
    appearance = studio.encode_batch(footage.sources(settings.appearance_frames, studio.device))
    moving = settings.moving or settings.eye is not None
    if not moving:
        footage = footage.spread(1)
    # The cameras surround all positions that the person takes.
    lifted, sources, before = [], [], {}
    for batch in footage.progress(settings.batch_size, studio.device, "lift"):
        lifted.append(studio.lift(batch))
        sources.append(batch["camera_a"])
        before = input_panels(studio, footage, batch) if settings.panels and not moving else {}
    points = torch.cat(lifted)
    cameras = virtual_cameras(settings, path, points, sources[len(sources) // 2][0], footage.up, studio)
    if (away := paths.farthest(cameras, points)) > paths.FADES:
        fades = f"who is half faded at {paths.FADES} m and gone at {paths.GONE} m"
        print(f"note: cameras are up to {away:.0f} m away from the person, {fades}", file=sys.stderr)
    if not moving:
        points = points.expand(len(cameras.K), -1, -1)

    def shots() -> Iterator[Shot]:
        count = min(len(points), len(cameras.K))
        # Read once more, as the images of a long film do not fit into memory.
        batches = footage.batches(settings.batch_size, studio.device) if settings.panels and moving else None
        for i in tqdm(range(0, count, settings.batch_size), "orbit", unit="batch"):
            part = slice(i, min(i + settings.batch_size, count))
            shown = input_panels(studio, footage, next(batches)) if batches else before
            # A path may end in the middle of a batch.
            yield Shot(points[part], cameras[part], {name: panel[: part.stop - i] for name, panel in shown.items()})

    written = write_film(studio, film(studio, shots(), appearance, settings.panels), "orbit", settings)
    say(footage, "seen by virtual cameras", written)


def transfer(settings: Transfer) -> None:
    """The motion of one sequence with the looks of another person."""
    studio = Studio(settings)
    check_film(studio, "transfer", settings)
    root = studio.root(settings.root)
    model = studio.model
    sequence = find_sequence(root, model.skeleton, settings.sequence)
    footage = choose_frames(sequence, model.settings, settings.view, settings.target, settings.interval)
    person_root = settings.person_root or root
    person = find_sequence(person_root, model.skeleton, settings.person, "person", unlike=sequence)
    looks = choose_frames(person, model.settings, settings.person_view, None, settings.person_interval, "person_")
    sources = looks.sources(settings.appearance_frames, studio.device)
    appearance = studio.encode_batch(sources)

    def shots() -> Iterator[Shot]:
        for batch in footage.progress(settings.batch_size, studio.device, "transfer"):
            before = {"looks": sources["image_a"][:1]} | input_panels(studio, footage, batch)
            yield Shot(studio.lift(batch), batch["camera_b"], before)

    full = sequence.camera(footage.target).to(studio.device) if settings.full_frame else None
    written = write_film(studio, film(studio, shots(), appearance, settings.panels, full), "transfer", settings)
    say(footage, f"with the looks of {person.folder}", written)


def photo(settings: Photo) -> None:
    """Virtual cameras around the person in a single picture of your own."""
    studio = Studio(settings)
    check_film(studio, "photo", settings, settings.files)
    person = read_portrait(settings, studio.model)
    appearance = studio.encode(person.image, person.points, person.camera)
    up, size = torch.tensor(UP), studio.model.settings.target_resolution
    cameras = paths.orbit(person.points, person.camera, up, settings.frames, size, settings.elevation, RING_FOCAL)
    keypoints = to_crop(person.keypoints, person.full, person.camera)
    before = {
        "input": person.image,
        "keypoints": with_poses(person.image, keypoints, person.seen, studio.model.skeleton),
    }

    def shots() -> Iterator[Shot]:
        for i in tqdm(range(0, settings.frames, settings.batch_size), "photo", unit="batch"):
            part = cameras[i : i + settings.batch_size]
            yield Shot(person.points.expand(len(part.K), -1, -1), part, before)

    written = write_film(studio, film(studio, shots(), appearance, settings.panels), "photo", settings)
    print(f"from   {settings.image}, {person.told}")
    for path in written:
        print(f"wrote  {path}")


def input_panels(studio: Studio, footage: Footage, batch: dict[str, Any]) -> dict[str, Tensor]:
    """Panels that show the input of the networks."""
    full = footage.sequence.camera(footage.view).to(studio.device)
    keypoints = to_crop(batch["keypoints_a"], full, batch["camera_a"])
    pose = with_poses(batch["image_a"], keypoints, batch["confidence_a"], studio.model.skeleton)
    return {"input": batch["image_a"].cpu(), "keypoints": pose}


def virtual_cameras(
    settings: Orbit,
    path: list[paths.Aimed | Camera] | None,
    points: Tensor,
    source: Camera,
    up: Tensor,
    studio: Studio,
) -> Camera:
    """The cameras of an orbit around poses [F, J, 3] in the world, one per frame."""
    size = studio.model.settings.target_resolution
    if path:
        return paths.follow(path, points, up, size, settings.focal)
    if settings.eye:
        centre, radius = paths.frame_person(points)
        target = centre if settings.target is None else points.new_tensor(settings.target)
        camera = paths.look_at(points.new_tensor(settings.eye), target, radius, up, size, settings.focal)
        return Camera.stack([camera] * len(points))
    count = len(points) if settings.moving else settings.frames
    return paths.orbit(points, source, up, count, size, settings.elevation, settings.focal)


def say(footage: Footage, how: str, written: list[Path]) -> None:
    """Print what was drawn, and where it is."""
    first, last = footage.frames[0], footage.frames[-1]
    frames = f"frame {first}" if first == last else f"frames {first} to {last}"
    print(f"from   {footage.sequence.folder}, view {footage.view}, {frames}, {how}")
    for path in written:
        print(f"wrote  {path}")


MODES: dict[str, tuple[type, Callable[[Any], None]]] = {
    "view": (View, view),
    "orbit": (Orbit, orbit),
    "transfer": (Transfer, transfer),
    "photo": (Photo, photo),
    "viewer": (Viewer, viewer),
    "evaluate": (Evaluate, evaluate),
    "shapes": (Shapes, draw_shapes),
    "poses": (Poses, draw_poses),
    "fit": (Fit, fit),
}


def parse_settings(arguments: list[str]) -> Any:
    """The settings of the mode that the arguments name, with the options they give."""
    kinds = {name: kind for name, (kind, _) in MODES.items()}
    if not arguments or arguments[0] not in kinds:
        return tyro.extras.subcommand_cli_from_dict(kinds, description=__doc__, args=arguments)
    # On its own, so that errors point to the help with all the options, not to the list of modes.
    return tyro.cli(kinds[arguments[0]], prog=f"infer.py {arguments[0]}", args=arguments[1:])


def main() -> None:
    settings = parse_settings(sys.argv[1:])
    mode, run = next((mode, run) for mode, (kind, run) in MODES.items() if type(settings) is kind)
    if mode != "evaluate" and (processes := int(os.environ.get("WORLD_SIZE", 1))) > 1:
        # One process speaks for all. The others succeed, as torchrun ends everything when the first one fails.
        if os.environ.get("RANK", "0") != "0":
            return
        raise UserError(f"{mode}: got {processes} processes, wanted one; only evaluate shares its work")
    run(settings)


if __name__ == "__main__":
    # A scheduler's signal ends it as Ctrl-C does: nothing half written stays behind. One that is ignored stays ignored.
    if signal.getsignal(signal.SIGTERM) is not signal.SIG_IGN:
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    run_command(main)
