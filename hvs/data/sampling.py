"""Which items a training step sees."""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.utils.data import Sampler


def step_generator(seed: int, step: int) -> torch.Generator:
    """Random numbers of one step, the same whatever came before it."""
    return torch.Generator().manual_seed(seed * 1_000_003 + step)


def draw(count: int, size: int, seed: int, step: int) -> Tensor:
    """The items [size] of one step's batch, out of ``count``, with replacement.

    They depend on seed and step alone, so a resumed run draws what an uninterrupted one would have drawn.
    """
    return torch.randint(count, (size,), generator=step_generator(seed, step))


class Draws(Sampler[list[int]]):
    """The batches of a range of steps; drawn, never listed, as there may be billions of pairs."""

    def __init__(self, count: int, size: int, seed: int, steps: range) -> None:
        self.count, self.size, self.seed, self.steps = count, size, seed, steps

    def __iter__(self) -> Iterator[list[int]]:
        for step in self.steps:
            yield draw(self.count, self.size, self.seed, step).tolist()

    def __len__(self) -> int:
        return len(self.steps)
