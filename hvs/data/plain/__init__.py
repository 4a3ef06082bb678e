"""Captures of plain files: images, masks, keypoints as written by detectors, and a cameras file. See docs/data.md."""

from .sequence import PlainSequence

__all__ = ["PlainSequence"]
