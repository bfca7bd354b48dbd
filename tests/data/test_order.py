"""The order of samples: each once in an epoch, and a pure function of seed and epoch."""

import itertools
import math
import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st

from steepest.data import open_source
from steepest.data.keys import key, keys
from steepest.data.order import BLOCK, Order

SEEDS = st.integers(0, 2**63 - 1)


def rows(source, epoch, start=0):
    """The samples of an epoch, which hold their own number, batch by batch."""
    return [batch.tolist() for batch in source.epoch(epoch, start)]


def order(length, seed, *stream):
    return Order(length, seed, *stream).indices(np.arange(length))


def every_sample_once(source, length, epoch):
    """Law: an epoch has every sample, and none twice."""
    seen = [sample for batch in rows(source, epoch) for sample in batch]
    return sorted(seen) == list(range(length))


@given(st.integers(1, 200), st.integers(1, 50), SEEDS, st.integers(0, 9))
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


@given(st.one_of(st.integers(1, 300), st.integers(2**15, 2**17)), SEEDS, st.integers(0, 1000))
def test_the_order_is_a_permutation_of_every_length(length, seed, epoch):
    assert np.array_equal(np.sort(order(length, seed, epoch)), np.arange(length))


def test_every_small_length_has_a_permutation():
    for length in range(1, 300):
        assert sorted(order(length, 3, 1)) == list(range(length))


@given(length=st.integers(2, 100), seed=SEEDS, epoch=st.integers(0, 1000))
def test_the_order_depends_on_nothing_but_seed_and_epoch(length, seed, epoch):
    first = order(length, seed, epoch)
    np.random.seed(epoch)
    torch.manual_seed(seed % 1000)
    order(length, seed, epoch + 1)
    assert np.array_equal(order(length, seed, epoch), first)


def test_the_order_stays_what_it_was_in_every_release():
    """A run that was begun before an update goes on after it."""
    assert order(10, 0, 0).tolist() == [4, 0, 2, 8, 7, 3, 1, 5, 9, 6]
    assert order(100_000, 2**63 - 1, 7)[:4].tolist() == [27393, 84499, 32222, 18798]


@given(st.integers(1, 30_000), st.integers(1, 9000), SEEDS, st.data())
def test_positions_are_looked_up_alone_or_in_a_row(length, count, seed, data):
    whole, asked = order(length, seed, 1), Order(length, seed, 1)
    for _ in range(5):
        first = data.draw(st.integers(0, length - 1))
        assert np.array_equal(asked.take(first, count), whole[first : first + count])


def chi_square(seen, expected):
    """How far counts are from equal ones; about as large as there are counts when they differ by chance only."""
    return sum((count - expected) ** 2 / expected for count in seen)


@pytest.mark.parametrize(("length", "limit"), [(2, 10.8), (3, 20.5), (4, 49.7), (5, 172.0)])  # p = 0.001
def test_all_orders_are_about_equally_frequent(length, limit):
    places = {each: place for place, each in enumerate(itertools.permutations(range(length)))}
    expected = 20
    runs = expected * len(places)
    seen, biased = np.zeros(len(places)), np.zeros(len(places))
    for seed in range(runs):
        seen[places[tuple(order(length, seed, 0).tolist())]] += 1
        biased[places[tuple(np.roll(np.arange(length), seed).tolist())]] += 1
    assert chi_square(seen, expected) < limit
    assert chi_square(biased, expected) > limit or length == 2


def test_each_sample_comes_at_each_position_equally_often():
    length, runs = 16, 3200
    seen = np.zeros((length, length))
    for epoch in range(runs):
        seen[np.arange(length), order(length, 5, epoch)] += 1
    assert chi_square(seen.ravel(), runs / length) < 300  # of 225 degrees of freedom; p = 0.0006


@pytest.mark.parametrize("length", [1000, 4096, 100_003])
def test_neighbours_are_no_more_alike_than_by_chance(length):
    def alike(numbers):
        return abs(np.corrcoef(numbers[:-1], numbers[1:])[0, 1]) * math.sqrt(length)

    assert alike(order(length, 1, 0)) < 4
    assert alike(np.arange(length) * 617 % 1009) > 4 or length != 1000
    kept = np.mean(np.abs(np.diff(order(length, 1, 0))) == 1)
    assert kept < 2 / length + 4 * math.sqrt(2 / length**2) + 4 / length


def test_epochs_and_seeds_have_different_orders():
    orders = [tuple(order(50, seed, epoch)) for seed in range(4) for epoch in range(4)]
    assert len(set(orders)) == len(orders)
    assert tuple(range(50)) not in orders
    first, second = order(10_000, 0, 0), order(10_000, 0, 1)
    assert np.sum(first == second) < 8  # one is expected
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.04


def test_without_a_seed_samples_come_as_they_are_stored():
    assert rows(open_source(np.arange(5), 2, None), epoch=3) == [[0, 1], [2, 3], [4]]


@given(start=st.integers(0, 8))
def test_an_epoch_begun_in_the_middle_is_the_rest_of_it(start):
    for source in (open_source(torch.arange(17), 2, 5), open_source(Squares(17), 2, 5)):
        assert rows(source, 1, start) == rows(source, 1)[start:]


@pytest.mark.parametrize("length", [10**9, 2**40])
def test_a_long_order_takes_no_memory_and_begins_anywhere(length):
    tracemalloc.start()
    long = Order(length, 1, 0)
    near, far = long.take(0, BLOCK), long.take(length - 100, 200)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**20
    assert len(set(near.tolist())) == BLOCK
    assert len(far) == 100
    assert near.max() > 0.99 * length
    assert 0 <= near.min() < 0.01 * length


def test_an_order_that_would_be_too_long_is_refused():
    with pytest.raises(ValueError, match=r"There are 1099511627777 samples; an order is made for up to 2\*\*40"):
        Order(2**40 + 1, 0, 0)


def test_keys_depend_on_every_number_and_its_place():
    drawn = [key(*numbers) for numbers in itertools.product(range(6), repeat=3)]
    drawn += [key(), key(0), key(0, 0), key(1, 0), key(0, 1), key(2**63), key(2**63 - 1)]
    assert len(set(drawn)) == len(drawn)
    many = keys(key(0), np.arange(100_000))
    assert len(set(many.tolist())) == 100_000
    ones = np.unpackbits(many.view(np.uint8)).reshape(-1, 8).mean(axis=0)
    assert np.all(abs(ones - 0.5) < 0.005)


class Squares:
    """A dataset whose samples are numbers."""

    def __init__(self, length):
        self.length = length

    def __len__(self):
        return self.length

    def __getitem__(self, place):
        return place
