"""The sample: people nobody filmed, captured by cameras nobody built, to try the whole pipeline on."""

from .capture import SampleSettings, make_sample

__all__ = ["SampleSettings", "make_sample"]
