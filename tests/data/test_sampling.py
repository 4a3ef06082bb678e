import torch
from torch.utils.data import DataLoader

from hvs.data.sampling import Draws, draw


def test_a_resumed_run_draws_what_the_uninterrupted_one_did():
    whole = list(Draws(1000, 4, 7, range(10)))
    assert whole[6:] == list(Draws(1000, 4, 7, range(6, 10)))
    assert len(Draws(1000, 4, 7, range(6, 10))) == 4
    assert whole != list(Draws(1000, 4, 8, range(10)))
    assert len({tuple(batch) for batch in whole}) == 10


def test_every_item_comes_up_about_as_often():
    items = torch.cat([draw(10, 100, 0, step) for step in range(100)])
    counts = torch.bincount(items, minlength=10)
    # Binomial with mean 1000 and deviation 30.
    assert counts.min() > 850 and counts.max() < 1150


def test_billions_of_items_are_not_listed():
    assert max(draw(31 * 31 * 10**8, 1000, 0, 0)) > 2**32


def test_a_loader_takes_the_batches():
    loader = DataLoader(range(50), batch_sampler=Draws(50, 3, 1, range(2)))
    assert [batch.tolist() for batch in loader] == list(Draws(50, 3, 1, range(2)))
