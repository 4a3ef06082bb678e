"""Cameras and their lenses, rotations, skeletons, the Gaussians of a pose, and triangulation."""

from . import skeletons
from .cameras import Camera
from .distortion import distort, undistort
from .limbs import limb_gaussians
from .rotations import (
    frame_from_direction,
    quaternion_from_rotation,
    rotation_about_axis,
    rotation_from_quaternion,
)
from .skeletons import Skeleton
from .triangulation import Triangulation, triangulate

__all__ = [
    "Camera",
    "Skeleton",
    "Triangulation",
    "distort",
    "frame_from_direction",
    "limb_gaussians",
    "quaternion_from_rotation",
    "rotation_about_axis",
    "rotation_from_quaternion",
    "skeletons",
    "triangulate",
    "undistort",
]
