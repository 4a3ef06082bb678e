"""One made-up person: body, clothes and motion, and the pictures taken of them."""

import io
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from hvs.geometry import Camera

from .bodies import body_model
from .clothing import TEXELS, make_outfit, paint, thickness
from .keypoints import body_135, human36m_17
from .motion import make_motion
from .raycast import Rig, Surface, photograph
from .stage import make_rig, windows


@dataclass(frozen=True)
class Person:
    """A dressed person over the frames, in metres in a world with z up and the floor at 0.

    Attributes:
        vertices, normals: of the dressed surface, [frames, N, 3].
        texture: [TEXELS, TEXELS, 3], linear light.
        body_135: joints [frames, 135, 3].
        human36m: joints [frames, 17, 3].
    """

    vertices: Tensor
    normals: Tensor
    outfit: object
    body_135: Tensor
    human36m: Tensor


def make_person(seed: int, subject: int, frames: int) -> Person:
    """Person number `subject` of a capture; all but the number of frames follows from the seed."""
    model, rng = body_model(), np.random.default_rng([seed, 1, subject])
    female = (subject + seed) % 2 == 1
    build = {name: float(rng.uniform(0.25, 0.75)) for name in model.phenotypes}
    # 0.6 is a grown-up, 1 the oldest.
    build |= {"gender": float(female), "age": float(rng.uniform(0.62, 0.85)), "weight": float(rng.uniform(0.3, 0.8))}
    outfit = make_outfit(subject + seed, female, rng)
    motion = make_motion(model, frames, rng)
    posed = model.pose(build, motion.rotations, frames)
    dressed = posed.vertices + torch.from_numpy(thickness(model, outfit)) * posed.normals
    lift = -dressed[..., 2].amin(1)[:, None, None] * torch.tensor((0.0, 0.0, 1.0))  # [frames, 1, 3]
    return Person(
        vertices=motion.place(dressed + lift),
        normals=posed.normals @ motion.heading.mT,
        outfit=outfit,
        body_135=motion.place(body_135(model, posed) + lift),
        human36m=motion.place(human36m_17(model, posed) + lift),
    )


def film(person: Person, cameras: list[Camera], height: int) -> Iterator[list[tuple[bytes, bytes]]]:
    """Frame by frame, each camera's picture and mask as JPEG."""
    model = body_model()
    # Twice as fine as pixels; finer would flicker.
    texels = next(size for size in (256, 512, TEXELS) if size >= min(1.5 * height, TEXELS))
    faces, coordinates = model.faces.numpy().astype(np.int32), model.coordinates.numpy().astype(np.float32)
    surface = Surface(faces, coordinates, paint(model, person.outfit, texels))
    groups = [[i for i, c in enumerate(cameras) if (c.height, c.width) == size] for size in {(c.height, c.width): 0 for c in cameras}]
    rigs = [make_rig([cameras[i] for i in group]) for group in groups]
    boxes = torch.stack([windows(camera, person.vertices) for camera in cameras], 1).numpy()

    def shoot(frame: int) -> list[tuple[bytes, bytes]]:
        shots: dict[int, tuple[bytes, bytes]] = {}
        for group, rig in zip(groups, rigs, strict=True):
            images, masks = photograph(person.vertices[frame], person.normals[frame], boxes[frame, group], surface, rig)
            for view, image, mask in zip(group, images, masks, strict=True):
                shots[view] = (_jpeg(image), _jpeg(np.repeat(255 * mask[..., None].astype(np.uint8), 3, -1)))
        return [shots[view] for view in range(len(cameras))]

    with ThreadPoolExecutor(2) as pool:
        yield from pool.map(shoot, range(len(boxes)))


def _jpeg(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=95, subsampling=0)
    return file.getvalue()
