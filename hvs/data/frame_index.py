"""The frames and views to choose from, without listing every choice."""

import numpy as np

from .layouts import SPLITS, Split
from .sequences import Sequence
from .stores import DataError


class NoItemsError(DataError):
    """No frame of the split has all that an item needs."""


class FrameIndex:
    """Numbers all choices of `choices` views of one frame, frame by frame, by arithmetic instead of a list.

    A frame with n usable views has n items of one view, n² of two views, and n·(n - 1) of two different views.

    Args:
        sequences: in the order of the items.
        split: of the frames.
        modalities: places, besides that of the 3D poses, that must all hold a frame for a view of it to be usable.
        choices: number of views in an item, 1 or 2.
        distinct: whether the two views must differ.

    Raises:
        NoItemsError: no frame is left.
        DataError: a file or camera is broken.
    """

    def __init__(
        self, sequences: list[Sequence], split: Split, modalities: tuple[str, ...], choices: int, distinct: bool = False
    ):
        if split not in SPLITS:
            raise ValueError(f"split: got {split!r}, wanted one of {', '.join(SPLITS)}")
        self.sequences, self.choices, self.distinct = sequences, choices, distinct
        self.width = max(len(sequence.views) for sequence in sequences)
        tables = [self._usable(sequence, split, modalities) for sequence in sequences]
        # Row r is frame frames[r] of sequences[owners[r]], and usable[r] says in which of that sequence's views.
        self.owners = np.repeat(np.arange(len(tables)), [len(frames) for frames, _ in tables])  # [R]
        self.frames = np.concatenate([frames for frames, _ in tables])  # [R]
        self.usable = np.concatenate([usable for _, usable in tables])  # [R, V]
        self.counts = self.usable.sum(1, dtype=np.int64)  # [R]
        # How many values each digit of an item's number can take.
        self.bases = [self.counts, self.counts - distinct][:choices]  # [R] each
        self.sizes = np.prod(self.bases, axis=0).clip(min=0)  # [R]
        self.ends = np.cumsum(self.sizes)  # [R]
        if not len(self):
            called = sequences[0].called
            needed = ", ".join(called.get(place, place) for place in (*modalities, sequences[0].layout.points))
            others = f" (nor in {len(sequences) - 1} more sequences)" if len(sequences) > 1 else ""
            # Frames that one view alone has make no pairs of different views.
            lacks = "has two views in" if self.counts.any() else "is in"
            raise NoItemsError(f"{sequences[0].folder}{others}: no frame of split {split!r} {lacks} all of {needed}")

    def __len__(self) -> int:
        return int(self.ends[-1]) if len(self.ends) else 0

    def locate(self, item: int) -> tuple[Sequence, int, list[str]]:
        """The sequence, frame and views of an item."""
        row = int(np.searchsorted(self.ends, item, side="right"))
        rest = item - int(self.ends[row] - self.sizes[row])
        sequence, frame, views = self.row(row)
        digits = [rest] if self.choices == 1 else list(divmod(rest, int(self.bases[1][row])))
        if self.distinct and digits[1] >= digits[0]:
            digits[1] += 1
        return sequence, frame, [views[digit] for digit in digits]

    def row(self, row: int) -> tuple[Sequence, int, list[str]]:
        """The sequence and frame of a row, and all its usable views."""
        sequence = self.sequences[self.owners[row]]
        return sequence, int(self.frames[row]), [sequence.views[view] for view in np.flatnonzero(self.usable[row])]

    def even(self, count: int, generator: np.random.Generator) -> list[int]:
        """`count` items, ascending, spread evenly over frames and over each choice of a view (a Latin hypercube)."""
        if count >= len(self):
            return list(range(len(self)))
        shape = (self.choices + 1, count)
        strata = generator.permuted(np.broadcast_to(np.arange(count), shape), axis=1) + generator.random(shape)
        at = np.minimum(strata / count, 1 - 1e-12)
        rows = np.flatnonzero(self.sizes)
        rows = rows[(at[0] * len(rows)).astype(np.int64)]
        digits = np.zeros(count, dtype=np.int64)
        for base, place in zip(self.bases, at[1:], strict=True):
            digits = digits * base[rows] + (place * base[rows]).astype(np.int64)
        chosen = set((self.ends[rows] - self.sizes[rows] + digits).tolist())
        while len(chosen) < count:
            chosen.add(int(generator.integers(len(self))))
        return sorted(chosen)

    def _usable(self, sequence: Sequence, split: Split, modalities: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
        frames = np.array(sequence.frames(split), dtype=np.int64)
        if len(frames):
            frames = frames[np.isin(frames, sequence.available(sequence.layout.points))]
        usable = np.zeros((len(frames), self.width), dtype=bool)
        for column, view in enumerate(sequence.views):
            # A missing camera should stop the training before it starts.
            sequence.camera(view)
            held = [sequence.available(modality, view) for modality in modalities]
            usable[:, column] = np.logical_and.reduce([np.isin(frames, numbers) for numbers in held])
        return frames, usable
