"""Human bodies of any build in any pose: the parametric model `anny` (Apache-2.0, its assets CC0).

Lengths are in metres. In the sample's own world, x points to the left of a person at rest, y to the back and z up.
"""

import gzip
import sys
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from torch import Tensor
from torch.nn import functional as F

# Imported before anny, which would let Warp print its banner.
from . import raycast  # noqa: F401
from .once import cache_folder, make_once


@dataclass(frozen=True)
class Posed:
    """One person's body over the frames.

    Attributes:
        vertices: of the skin, [frames, N, 3].
        normals: [frames, N, 3], unit, outwards.
        bones: heads of the bones, [frames, B, 3].
    """

    vertices: Tensor
    normals: Tensor
    bones: Tensor


class BodyModel:
    """The shared template: one mesh, one texture map and one rig for all people. `body_model` returns it."""

    def __init__(self, anny_model: Any):
        self.anny = anny_model
        self.faces = anny_model.faces.long()  # [F, 3]
        self.coordinates = anny_model.texture_coordinates[anny_model.face_texture_coordinate_indices]  # [F, 3, 2]
        self.bones: list[str] = anny_model.bone_labels
        self.phenotypes: list[str] = anny_model.phenotype_labels
        heaviest = anny_model.vertex_bone_weights.argmax(1, keepdim=True)
        self.main_bone = anny_model.vertex_bone_indices.gather(1, heaviest)[:, 0]  # [N]

    @cached_property
    def rest(self) -> Posed:
        """The average body with arms and legs slightly spread, as one frame."""
        return self.pose({}, {}, 1)

    def bone(self, name: str) -> int:
        return self.bones.index(name)

    def vertex(self, base: int) -> int:
        """The vertex with the number `base` in MakeHuman's base mesh, which published tables refer to."""
        return int((self.anny.base_mesh_vertex_indices == base).nonzero())

    def pose(self, phenotype: dict[str, float], rotations: dict[str, Tensor], frames: int) -> Posed:
        """One person's body in a pose for every frame.

        Args:
            phenotype: name -> 0..1; 0.5 if not given.
            rotations: bone -> [frames, 3, 3], relative to its pose at rest, in axes that at rest are the world's and
                move with the parent bone; no rotation if not given.
            frames: number of frames.
        """
        deltas = torch.eye(4).repeat(frames, len(self.bones), 1, 1)
        for name, rotation in rotations.items():
            deltas[:, self.bone(name), :3, :3] = rotation.float()
        with torch.no_grad():
            out = self.anny(pose_parameters=deltas, phenotype_kwargs=phenotype, pose_parameterization="local-ref")
        vertices = out["vertices"]
        return Posed(vertices, self._normals(vertices), out["bone_poses"][..., :3, 3])

    def _normals(self, vertices: Tensor) -> Tensor:
        a, b, c = vertices[:, self.faces].unbind(2)
        # The length of the cross product weights each face by its area.
        across = torch.linalg.cross(b - a, c - a)
        normals = torch.zeros_like(vertices)
        for corner in self.faces.unbind(1):
            normals.index_add_(1, corner, across)
        return F.normalize(normals, dim=-1)


@cache
def body_model() -> BodyModel:
    """The template, prepared once per machine under `cache_folder()`.

    Raises:
        ModuleNotFoundError: `anny` is not installed; the message says how to install it.
    """
    try:
        import anny
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("the sample capture needs anny: pip install -e '.[sample]'", name="anny") from error
    folder = make_once(cache_folder() / f"anny-{version('anny')}", _prepare)
    return BodyModel(_load(anny, folder))


def _load(anny: Any, folder: Path) -> Any:
    before = anny.paths.get_anny_cache_path()
    anny.paths.set_anny_cache_path(folder)
    try:
        return anny.Anny().float()
    finally:
        anny.paths.set_anny_cache_path(before)


def _prepare(folder: Path) -> None:
    import anny
    import anny.models.full_model as loader

    print("sample capture: preparing the bodies, once on this machine ...", file=sys.stderr)
    # anny parses its thousand shape targets number by number, in nearly a minute; numpy reads them in seconds.
    slow, loader.load_blend_shape = loader.load_blend_shape, _load_blend_shape
    try:
        _load(anny, folder)
    except SafetensorError as error:
        # Of a full disk.
        raise OSError(str(error)) from error
    finally:
        loader.load_blend_shape = slow
    # What the preparation leaves behind takes 800 MB and is not read again.
    for file in folder.rglob("*.safetensors"):
        if not file.name.startswith("build_compact_model_data"):
            file.unlink()


def _load_blend_shape(filename: str, vertices_count: int, world_transformation: Any, dtype: torch.dtype) -> Tensor:
    with gzip.open(filename) as file:
        rows = np.array(file.read().split(), dtype=np.float64).reshape(-1, 4)
    offsets = torch.zeros((vertices_count, 3), dtype=dtype)
    offsets[torch.from_numpy(rows[:, 0]).long()] = torch.from_numpy(rows[:, 1:]).to(dtype)
    return world_transformation.apply(offsets)
