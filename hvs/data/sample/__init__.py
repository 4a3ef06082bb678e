"""The sample: made-up people filmed by made-up cameras, to try the whole pipeline on."""

from .capture import SampleSettings, make_sample

__all__ = ["SampleSettings", "make_sample"]
