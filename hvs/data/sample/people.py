"""One made-up person: body, looks and motion, and pictures of them."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from hvs.data.preparation.pictures import to_jpeg
from hvs.geometry import Camera

from .bodies import body_model
from .clothing import TEXELS, Outfit, make_outfit, paint, thickness
from .keypoints import body_135, human36m_17
from .motion import make_motion
from .raycast import Rig, Surface, photograph
from .stage import windows

THREADS = 2


@dataclass(frozen=True)
class Person:
    """A dressed person over the frames, in metres, in a world with z up and the floor at 0.

    Attributes:
        vertices, normals: of the visible surface, [frames, N, 3] float32.
        outfit: the person's looks.
        joints: layout -> [frames, J, 3] float32, as that layout's labels list them.
    """

    vertices: Tensor
    normals: Tensor
    outfit: Outfit
    joints: dict[str, Tensor]


def make_person(seed: int, subject: int, frames: int, take: int = 0) -> Person:
    """Person number `subject` of the capture with this seed, in one of their motions."""
    model, rng = body_model(), np.random.default_rng([seed, 1, subject])
    female = (subject + seed) % 2 == 1
    build = {name: float(rng.uniform(0.25, 0.75)) for name in model.phenotypes}
    # At 0.6 a person is an adult, at 1 oldest.
    build |= {"gender": float(female), "age": float(rng.uniform(0.62, 0.85))}
    outfit = make_outfit(subject + seed, female, rng)
    # The random numbers of a motion come after those of the takes before it.
    *_, motion = (make_motion(model, frames, rng) for _ in range(take + 1))
    posed = model.pose(build, motion.rotations, frames)
    surface = posed.vertices + torch.from_numpy(thickness(model, outfit)) * posed.normals
    # The lowest point of the shoes touches the floor.
    lift = F.pad(-surface[..., 2].amin(1)[:, None, None], (2, 0))  # [frames, 1, 3]
    joints = {"panoptic": body_135(model, posed), "human36m": human36m_17(model, posed)}
    return Person(
        vertices=motion.place(surface + lift),
        normals=posed.normals @ motion.heading.mT,
        outfit=outfit,
        joints={name: motion.place(points + lift) for name, points in joints.items()},
    )


def film(
    person: Person, cameras: list[Camera], rigs: list[tuple[list[int], Rig]]
) -> Iterator[list[tuple[bytes, bytes]]]:
    """Frame by frame, each camera's picture and mask as JPEG; `rigs` are what `make_rigs` makes from the cameras."""
    model = body_model()
    rows = max(camera.height for camera in cameras)
    # A texel is then about half a pixel; finer ones would flicker.
    texels = next((size for size in (256, 512) if size >= 1.5 * rows), TEXELS)
    texture = paint(model, person.outfit, texels)
    surface = Surface(model.faces.int().numpy(), model.coordinates.float().numpy(), texture)
    boxes = torch.stack([windows(camera, person.vertices) for camera in cameras], 1).numpy()  # [frames, views, 4]

    def shoot(frame: int) -> list[tuple[bytes, bytes]]:
        shots: dict[int, tuple[bytes, bytes]] = {}
        for group, rig in rigs:
            images, masks = photograph(person.vertices[frame], person.normals[frame], boxes[frame, group], surface, rig)
            for view, image, mask in zip(group, images, masks, strict=True):
                shots[view] = to_jpeg(image), to_jpeg(np.repeat(np.uint8(255) * mask[..., None], 3, axis=-1))
        return [shots[view] for view in range(len(cameras))]

    # Ray casting and JPEG encoding both release Python's lock.
    with ThreadPoolExecutor(THREADS) as pool:
        yield from pool.map(shoot, range(len(boxes)))
