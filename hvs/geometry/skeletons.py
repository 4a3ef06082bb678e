"""Skeletons: joints, edges, and the width of the Gaussian on each edge.

The tables are facts of the method ("Human Pose Manipulation and Novel View Synthesis using Differentiable
Rendering", Rochette et al. 2021) and are stored in ``skeletons.json`` next to this file.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from numbers import Real
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
        background: the data set's background colour, RGB in 0..255, which fills training targets around the person.

    Raises:
        ValueError: there are no edges, or not one positive width for each, or a joint that they or the root refer to is
            not there.
    """

    name: str
    joints: tuple[str, ...]
    edges: tuple[tuple[int, int], ...]
    widths: tuple[float, ...]
    root: int
    parts: dict[str, tuple[int, int]]
    background: tuple[int, int, int]

    def __post_init__(self) -> None:
        # JSON has lists where a skeleton has tuples, by which constants are kept.
        for name in ("joints", "widths", "background"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        object.__setattr__(self, "edges", tuple(tuple(map(int, edge)) for edge in self.edges))
        if not self.edges:
            raise ValueError("edges: got none, wanted one or more")
        if len(self.widths) != len(self.edges):
            raise ValueError(f"widths: got {len(self.widths)}, wanted one for each of {len(self.edges)} edges")
        # A negative index would be a joint, too, counted from the last one.
        count = len(self.joints)
        for edge in self.edges:
            if len(edge) != 2 or not all(0 <= joint < count for joint in edge):
                raise ValueError(f"edges: got {edge}, wanted two joints below {count}")
        for width in self.widths:
            if not 0 < width < math.inf:
                raise ValueError(f"widths: got {width}, wanted positive numbers in metres")
        if not 0 <= self.root < count:
            raise ValueError(f"root: got {self.root}, wanted a joint below {count}")

    @cached_property
    def mirror(self) -> list[int]:
        """For each edge, the index of its counterpart on the body's other side, by the L and R that joints' names begin
        with; its own index if there is none."""
        swapped = {"L": "R", "R": "L"}
        places = {name: i for i, name in enumerate(self.joints)}
        other = [places.get(swapped.get(name[0], name[0]) + name[1:], i) for i, name in enumerate(self.joints)]
        edges = {frozenset(edge): i for i, edge in enumerate(self.edges)}
        return [edges.get(frozenset((other[a], other[b])), i) for i, (a, b) in enumerate(self.edges)]

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


def customise(
    skeleton: Skeleton, joints: Sequence[str] | None = None, limbs: Sequence[tuple[int, int, float]] | None = None
) -> Skeleton:
    """A published skeleton with other joints, or other edges and widths.

    Args:
        skeleton: gives what the other arguments do not: root, background and, if the joints are unchanged, parts.
        joints: names of all joints. The root is the joint with the name of the published root, or else with its index.
        limbs: (joint, joint, width in metres) of all edges.

    Raises:
        ValueError: joints or limbs do not make a skeleton.
    """
    changes = {}
    if joints is not None and tuple(joints) != skeleton.joints:
        _check_joints(joints)
        name = skeleton.joints[skeleton.root]
        root = joints.index(name) if name in joints else skeleton.root
        if root >= len(joints):
            raise ValueError(f"joints: got {len(joints)}, wanted the root {name} among them, or at least {root + 1}")
        if limbs is None and (last := max(map(max, skeleton.edges))) >= len(joints):
            raise ValueError(f"joints: got {len(joints)}, wanted at least {last + 1}, as the limbs refer to them")
        changes |= dict(joints=tuple(joints), root=root, parts={"body": (0, len(joints))})
    if limbs is not None:
        _check_limbs(limbs, len(changes.get("joints", skeleton.joints)))
        changes |= dict(edges=[limb[:2] for limb in limbs], widths=[float(width) for *_, width in limbs])
    return replace(skeleton, **changes) if changes else skeleton


def _check_joints(joints: Sequence[str]) -> None:
    if len(joints) == 0 or any(type(name) is not str or not name for name in joints) or len(set(joints)) != len(joints):
        raise ValueError(f"joints: got {list(joints)!r:.80}, wanted a name for each joint, each name once")


def _check_limbs(limbs: Sequence[tuple[int, int, float]], joints: int) -> None:
    if len(limbs) == 0:
        raise ValueError("limbs: got none, wanted one or more")
    for limb in limbs:
        if len(limb) != 3 or any(type(end) is not int or not 0 <= end < joints for end in limb[:2]):
            raise ValueError(f"limbs: got {limb}, wanted two joints below {joints} and a width")
        width = limb[2]
        if isinstance(width, bool) or not isinstance(width, Real) or not (width > 0 and math.isfinite(width)):
            raise ValueError(f"limbs: got {limb}, wanted a positive width in metres")
