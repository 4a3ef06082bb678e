import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from hvs.data.sampling import Draws, draw

BALANCES = ("pairs", "frames", "sequences")


class Index:
    """As much of a FrameIndex as draws need: rows with numbers of items, each of a sequence."""

    def __init__(self, sizes, owners=None):
        self.sizes = np.array(sizes, dtype=np.int64)
        self.owners = np.array(owners if owners is not None else np.zeros(len(sizes)), dtype=np.int64)
        self.ends = np.cumsum(self.sizes)

    def __len__(self):
        return int(self.ends[-1])


# Eight items in the rows of sequence 0, a hundred in the only one of sequence 1; two rows are empty.
UNEVEN = Index([0, 4, 0, 4, 100, 0], [0, 0, 0, 0, 1, 1])


@pytest.mark.parametrize("balance", BALANCES)
def test_a_resumed_run_draws_what_the_uninterrupted_one_did(balance):
    def draws(seed, steps):
        return Draws(UNEVEN, 4, seed, steps, balance)

    whole = list(draws(7, range(10)))
    assert whole[6:] == list(draws(7, range(6, 10)))
    assert len(draws(7, range(6, 10))) == 4
    assert whole != list(draws(8, range(10)))
    assert len({tuple(batch) for batch in whole}) == 10


@pytest.mark.parametrize(
    ("balance", "parts"),
    [("pairs", (4 / 108, 4 / 108, 100 / 108)), ("frames", (1 / 3, 1 / 3, 1 / 3)), ("sequences", (1 / 4, 1 / 4, 1 / 2))],
)
def test_what_is_balanced_comes_up_equally_often(balance, parts):
    items = torch.cat([Draws(UNEVEN, 1000, 0, range(20), balance).batch(step) for step in range(20)])
    counts = torch.bincount(items, minlength=108)
    assert len(counts) == 108
    rows = torch.stack([counts[:4].sum(), counts[4:8].sum(), counts[8:].sum()]) / len(items)
    # Five standard deviations of a binomial with 20,000 draws.
    assert torch.allclose(rows, torch.tensor(parts, dtype=rows.dtype), atol=0.018)
    within = counts[8:] / counts[8:].sum()
    assert (within - 0.01).abs().max() < 0.006


def test_every_item_comes_up_about_as_often():
    items = torch.cat([draw(10, 100, 0, step) for step in range(100)])
    counts = torch.bincount(items, minlength=10)
    # Binomial with mean 1000 and deviation 30.
    assert counts.min() > 850 and counts.max() < 1150


@pytest.mark.parametrize("balance", BALANCES)
def test_billions_of_items_are_not_listed(balance):
    """As many frames as the data set has, each in 31 views."""
    index = Index(np.full(10**5, 31 * 31 * 1000))
    items = Draws(index, 1000, 0, range(1), balance).batch(0)
    assert items.max() > 2**32 and items.min() >= 0 and items.max() < len(index)
    assert len(items.unique()) > 990


@pytest.mark.parametrize("balance", BALANCES)
def test_processes_share_every_pass(balance):
    """A pass has the same items, in the same order, whatever the number of processes."""

    def draws(most, part):
        return Draws(UNEVEN, 12, 3, range(4), balance, most, part)

    alone = list(draws(6, (0, 1)))
    shares = [draws(3, (rank, 2)) for rank in range(2)]
    assert [a + b for a, b in zip(*shares, strict=True)] == alone
    assert len(alone) == len(shares[0]) == 8 and all(len(items) == 3 for items in shares[0])
    assert shares[0].last_of_passes == [False, True] and draws(None, (0, 1)).last_of_passes == [True]


@pytest.mark.parametrize(
    ("size", "most", "world", "passes"),
    [(8, None, 1, 1), (8, 8, 1, 1), (8, 99, 1, 1), (8, 3, 1, 4), (10, 3, 2, 5), (7, 6, 1, 7), (12, 5, 1, 3)],
)
def test_passes_are_equal_and_as_large_as_can_be(size, most, world, passes):
    draws = Draws(UNEVEN, size, 0, range(2), "pairs", most, (0, world))
    assert draws.passes == passes and len(draws.last_of_passes) == passes
    assert [len(items) for items in draws] == [size // world // passes] * 2 * passes


def test_batches_come_out_even():
    with pytest.raises(ValueError, match="batch_size: got 9, wanted a multiple of the 2 processes"):
        Draws(UNEVEN, 9, 0, range(1), "pairs", None, (0, 2))


def test_a_loader_takes_the_batches():
    draws = Draws(Index([25, 25]), 3, 1, range(2))
    loader = DataLoader(range(50), batch_sampler=draws)
    assert [batch.tolist() for batch in loader] == list(draws)
