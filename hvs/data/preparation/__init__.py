"""From the public downloads of Panoptic and Human3.6M to the prepared layout that `hvs.data` reads."""

from .human36m import prepare_human36m
from .panoptic import prepare_panoptic

__all__ = ["prepare_human36m", "prepare_panoptic"]
