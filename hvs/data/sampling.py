"""Which items each training step sees."""

from collections.abc import Iterator
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Sampler

from .frame_index import FrameIndex

Balance = Literal["pairs", "frames", "sequences"]


def step_generator(seed: int, step: int) -> torch.Generator:
    """The random numbers of one step, independent of what came before it."""
    return torch.Generator().manual_seed(seed * 1_000_003 + step)


def draw(count: int, size: int, seed: int, step: int) -> Tensor:
    """The items [size] of one step's batch, out of ``count``, with replacement.

    They depend on seed and step alone, so a resumed run draws what an uninterrupted one would have drawn.
    """
    return torch.randint(count, (size,), generator=step_generator(seed, step))


def share_of(size: int, processes: int) -> int:
    """The size of each process's share of a batch.

    Raises:
        ValueError: the batch cannot be split evenly.
    """
    if size % processes:
        raise ValueError(f"batch_size: got {size}, wanted a multiple of the {processes} processes")
    return size // processes


class Draws(Sampler[list[int]]):
    """The batches of a range of steps; drawn, never listed, as there may be billions of pairs.

    Args:
        index: of the data set.
        size: number of items per step.
        seed: of all draws; those of a step depend only on the seed and the step, as with :func:`draw`.
        steps: the steps to draw for.
        balance: what comes up equally often. "pairs": every item, so that frames seen in many views and long sequences
            count more; "frames": every frame, whatever the number of its views; "sequences": every sequence, and every
            frame within it.
        most: items at once, at most; a step is then yielded in `passes` equal parts, one after the other, as few as can
            be.
        part: (rank, number of processes); each process draws the same items and takes its own part.

    Raises:
        ValueError: a batch cannot be shared evenly by the processes.
    """

    def __init__(
        self,
        index: FrameIndex,
        size: int,
        seed: int,
        steps: range,
        balance: Balance = "pairs",
        most: int | None = None,
        part: tuple[int, int] = (0, 1),
    ) -> None:
        self.index, self.size, self.seed, self.steps, self.balance = index, size, seed, steps, balance
        self.rank, self.world = part
        own = share_of(size, self.world)
        self.passes = next(
            passes for passes in range(1, own + 1) if own % passes == 0 and own // passes <= (most or own)
        )
        rows = np.flatnonzero(index.sizes)
        weights = np.ones(len(rows))
        if balance == "sequences":
            weights /= np.bincount(index.owners[rows])[index.owners[rows]]
        self._ends = torch.from_numpy(np.cumsum(weights))  # [R]
        self._sizes = torch.from_numpy(index.sizes[rows])  # [R]
        self._first = torch.from_numpy(index.ends[rows]) - self._sizes  # [R]

    def __iter__(self) -> Iterator[list[int]]:
        for step in self.steps:
            # Passes first, so that a pass holds the same items for any number of processes.
            for items in self.batch(step).chunk(self.passes):
                yield items.chunk(self.world)[self.rank].tolist()

    @property
    def last_of_passes(self) -> list[bool]:
        """For each pass of a step, whether it is the last one."""
        return [done == self.passes for done in range(1, self.passes + 1)]

    def __len__(self) -> int:
        return len(self.steps) * self.passes

    def batch(self, step: int) -> Tensor:
        """The items [size] of one step, for all processes together."""
        if self.balance == "pairs":
            return draw(len(self.index), self.size, self.seed, step)
        where, which = torch.rand(2, self.size, dtype=torch.float64, generator=step_generator(self.seed, step))
        rows = torch.searchsorted(self._ends, where * self._ends[-1], right=True).clamp(max=len(self._ends) - 1)
        return self._first[rows] + (which * self._sizes[rows]).long()
