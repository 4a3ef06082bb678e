"""Skeletons: joints, edges, and the width of the Gaussian on each edge.

The tables are facts of the method ("Human Pose Manipulation and Novel View Synthesis using Differentiable
Rendering", Rochette et al. 2021) and stand in ``skeletons.json`` beside this file.
"""

import json
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Skeleton:
    """A tree-like set of joints, and one Gaussian width per edge.

    Attributes:
        name: "panoptic" or "human36m".
        joints: names of the J joints.
        edges: N pairs of joint indices, one Gaussian each.
        widths: N standard deviations across the edge, in metres.
        root: index of the joint that poses are relative to.
        parts: name -> (first joint, one past the last joint).
        background: the data set's background pixel, RGB in 0..255, that training targets are filled with.
    """

    name: str
    joints: tuple[str, ...]
    edges: tuple[tuple[int, int], ...]
    widths: tuple[float, ...]
    root: int
    parts: dict[str, tuple[int, int]]
    background: tuple[int, int, int]

    def __hash__(self) -> int:
        return hash((self.name, self.joints, self.edges, self.widths))


def _read(name: str) -> Skeleton:
    facts = json.loads((Path(__file__).parent / "skeletons.json").read_text())[name]
    joints = tuple(facts["joints"])
    return Skeleton(
        name=name,
        joints=joints,
        edges=tuple((i, j) for i, j in facts["edges"]),
        widths=tuple(facts["widths_m"]),
        root=joints.index(facts["root"]),
        parts={part: (start, stop) for part, (start, stop) in facts.get("parts", {"body": [0, len(joints)]}).items()},
        background=tuple(facts["background_pixel_rgb"]),
    )


PANOPTIC = _read("panoptic")
HUMAN36M = _read("human36m")

BY_NAME = {skeleton.name: skeleton for skeleton in (PANOPTIC, HUMAN36M)}
