"""The order of samples: each once in an epoch, and a pure function of seed and epoch."""

import numpy as np
import torch
from hypothesis import given, strategies as st

from steepest.data import open_source
from steepest.data.order import order


def rows(source, epoch, start=0):
    """The samples of an epoch, which hold their own number, batch by batch."""
    return [batch.tolist() for batch in source.epoch(epoch, start)]


def every_sample_once(source, length, epoch):
    """Law: an epoch has every sample, and none twice."""
    seen = [sample for batch in rows(source, epoch) for sample in batch]
    return sorted(seen) == list(range(length))


@given(st.integers(1, 200), st.integers(1, 50), st.integers(0, 2**63 - 1), st.integers(0, 9))
def test_every_sample_comes_once_in_an_epoch(length, batch_size, seed, epoch):
    source = open_source(torch.arange(length), batch_size, seed)
    assert every_sample_once(source, length, epoch)
    sizes = [len(batch) for batch in rows(source, epoch)]
    assert len(sizes) == source.batches
    assert all(size == batch_size for size in sizes[:-1])


def test_the_law_sees_a_dropped_batch_and_a_repeated_sample():
    class Drops:
        def epoch(self, number, start=0):
            yield torch.tensor([0, 1])

    class Repeats:
        def epoch(self, number, start=0):
            yield torch.tensor([0, 1, 1])

    assert not every_sample_once(Drops(), 3, 0)
    assert not every_sample_once(Repeats(), 3, 0)


@given(length=st.integers(2, 100), seed=st.integers(0, 2**63 - 1), epoch=st.integers(0, 1000))
def test_the_order_depends_on_nothing_but_seed_and_epoch(length, seed, epoch):
    first = order(length, seed, epoch)
    np.random.seed(epoch)
    torch.manual_seed(seed % 1000)
    order(length, seed, epoch + 1)
    assert np.array_equal(order(length, seed, epoch), first)


def test_epochs_and_seeds_have_different_orders():
    orders = [tuple(order(50, seed, epoch)) for seed in range(4) for epoch in range(4)]
    assert len(set(orders)) == len(orders)
    assert tuple(range(50)) not in orders


def test_without_a_seed_samples_come_as_they_are_stored():
    assert rows(open_source(np.arange(5), 2, None), epoch=3) == [[0, 1], [2, 3], [4]]


@given(start=st.integers(0, 8))
def test_an_epoch_begun_in_the_middle_is_the_rest_of_it(start):
    for source in (open_source(torch.arange(17), 2, 5), open_source(Squares(17), 2, 5)):
        assert rows(source, 1, start) == rows(source, 1)[start:]


class Squares:
    """A dataset whose samples are numbers."""

    def __init__(self, length):
        self.length = length

    def __len__(self):
        return self.length

    def __getitem__(self, place):
        return place
