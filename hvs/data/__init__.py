"""Readers of multi-view captures."""

from .captures import NoSequencesError, find_sequences
from .datasets import PairDataset, collate, even_subset
from .layouts import LAYOUTS, Layout
from .poses import PoseDataset
from .sequences import Sequence
from .stores import DataError, Store, pack_label, read_label, write_store

__all__ = [
    "LAYOUTS",
    "DataError",
    "Layout",
    "NoSequencesError",
    "PairDataset",
    "PoseDataset",
    "Sequence",
    "Store",
    "collate",
    "even_subset",
    "find_sequences",
    "pack_label",
    "read_label",
    "write_store",
]
