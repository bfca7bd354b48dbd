"""A dataset gives the same samples whoever reads it, and its errors come out as they are."""

import os
import random
import signal
import time

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset, TensorDataset, default_collate

from steepest.data import open_source
from steepest.data.failure import Failure
from steepest.data.items import Items
from steepest.data.seeding import same_generators_after, sample_seeds, start_generators
from steepest.snapshot import random_state

pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create 4 worker processes")


class Augmented(Dataset):
    """Samples with random numbers of all three kinds."""

    def __len__(self):
        return 42

    def __getitem__(self, place):
        return place, torch.rand(2), random.random(), np.random.rand()


class BadImage(Exception):
    """An error that takes something else than it says."""

    def __init__(self, name, reason):
        super().__init__(f"{name}: {reason}")
        self.name = name


class Broken(Augmented):
    """A dataset in which item 37 is wrong in some way."""

    def __init__(self, way):
        self.way = way

    def __getitem__(self, place):
        return self.way() if place == 37 else torch.zeros(2)


def fails_to_read():
    raise OSError(5, "disk on fire")


def fails_oddly():
    raise BadImage("cat.png", "not a cat")


def ends_early():
    raise IndexError("list index out of range")


def stops():
    raise StopIteration


def has_another_shape():
    return torch.zeros(3)


def is_killed():
    os.kill(os.getpid(), signal.SIGKILL)


def read(data, workers, epoch=1, start=0, seed=3):
    source = open_source(data, 8, seed, workers)
    try:
        return [[part.tolist() for part in batch] for batch in source.epoch(epoch, start)]
    finally:
        source.close()


def same(numbers):
    """Whether two states of the generators are the same."""
    first, second = numbers
    return all(str(first[name]) == str(second[name]) for name in ("python", "torch")) and torch.equal(
        first["numpy"]["state"]["key"], second["numpy"]["state"]["key"]
    )


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_augmentation_is_the_same_with_any_number_of_workers(workers):
    assert read(Augmented(), workers) == read(Augmented(), 0)


@pytest.mark.parametrize("workers", [0, 2])
def test_augmentation_is_the_same_after_a_break(workers):
    whole = read(Augmented(), 0)
    for start in (0, 1, 5, 6):
        assert read(Augmented(), workers, start=start) == whole[start:]
    assert read(Augmented(), workers, epoch=2) != whole


def test_a_sample_has_its_numbers_wherever_it_comes_in_an_epoch():
    by_sample = {}
    for batch_size in (1, 5, 42):
        for places, *drawn in open_source(Augmented(), batch_size, 3).epoch(1):
            for row, place in enumerate(places.tolist()):
                numbers = [part[row].tolist() for part in drawn]
                assert by_sample.setdefault(place, numbers) == numbers
    assert len({str(numbers) for numbers in by_sample.values()}) == 42


def test_the_law_sees_numbers_that_depend_on_the_worker():
    """Breach: as with PyTorch's DataLoader, samples go on drawing from where the one before stopped."""
    loader = torch.utils.data.DataLoader
    torch.manual_seed(0)
    alone = [batch[1].tolist() for batch in loader(Augmented(), 8)]
    torch.manual_seed(0)
    assert alone != [batch[1].tolist() for batch in loader(Augmented(), 8, num_workers=2)]


def test_evaluation_is_repeatable_and_has_the_numbers_of_seed_0():
    assert read(Augmented(), 0, seed=None) == read(Augmented(), 2, seed=None)

    def by_place(seed):
        return {
            place: number
            for places, _, numbers, _ in read(Augmented(), 0, seed=seed)
            for place, number in zip(places, numbers, strict=True)
        }

    assert list(by_place(None)) == list(range(42)) != list(by_place(0))
    assert by_place(None) == by_place(0)


@pytest.mark.parametrize("workers", [0, 2])
def test_the_generators_of_the_main_process_are_left_alone(workers):
    before = random_state()
    source = open_source(Augmented(), 8, 3, workers)
    for _ in source.epoch(0):
        assert same((before, random_state()))
    assert list(source.epoch(1, 4))
    assert same((before, random_state()))
    source.close()
    start_generators(1)
    assert not same((before, random_state()))


def test_the_generators_are_left_alone_when_a_sample_fails():
    before = random_state()
    with pytest.raises(OSError, match="disk on fire"):
        read(Broken(fails_to_read), 0)
    assert same((before, random_state()))
    with same_generators_after():
        start_generators(2**64 - 1)
    assert same((before, random_state()))


def test_a_seed_is_a_function_of_seed_epoch_and_sample():
    seeds = [
        number for seed in (0, 1, 2**63 - 1) for epoch in (0, 1) for number in sample_seeds(seed, epoch, np.arange(500))
    ]
    assert len(set(seeds)) == 3000
    assert sample_seeds(7, 2, np.array([5])) == sample_seeds(7, 2, np.arange(10))[5:6]
    assert sample_seeds(None, 2, np.arange(3)) == sample_seeds(0, 2, np.arange(3))


def test_rows_of_a_tensor_dataset_are_taken_at_once_and_are_the_same():
    dataset = TensorDataset(torch.rand(20, 3), torch.arange(20))
    index = np.array([3, 3, 19, 0])
    taken, expected = Items(dataset, 0).read(0, index), default_collate([dataset[place] for place in index])
    assert type(taken) is type(expected)
    assert all(map(torch.equal, taken, expected))


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(
    ("way", "kind", "message"),
    [
        (fails_to_read, OSError, "disk on fire"),
        (fails_oddly, BadImage, "cat.png: not a cat"),
        (ends_early, IndexError, "list index out of range"),
        (stops, RuntimeError, "StopIteration was raised by sample 37 of the dataset Broken, which has 42"),
        (has_another_shape, ValueError, r"sample \d+ is float32\[2\] and sample 37 is float32\[3\]"),
    ],
)
def test_an_error_of_the_dataset_comes_out_as_it_is(way, kind, message, workers):
    with pytest.raises(kind, match=message) as caught:
        read(Broken(way), workers)
    assert type(caught.value) is kind
    notes = "\n".join(getattr(caught.value, "__notes__", [])) + str(caught.value)
    assert "sample 37" in notes
    assert ("It was raised in a worker process:" in notes) == bool(workers)


def test_batches_before_an_error_are_given_and_the_source_can_be_read_again():
    order = [batch[0] for batch in read(Augmented(), 0)]
    before = next(number for number, places in enumerate(order) if 37 in places)
    source, given = open_source(Broken(fails_to_read), 8, 3, 2), []
    with pytest.raises(OSError, match="disk on fire"):
        given.extend(source.epoch(1))  # keeps what it was given
    assert len(given) == before
    assert next(source.epoch(1, 0 if before else 1)).shape == (8, 2)
    source.close()


def test_a_killed_worker_is_said_at_once():
    began = time.perf_counter()
    with pytest.raises(RuntimeError, match=r"DataLoader worker|A worker process that reads the data has died"):
        read(Broken(is_killed), 2)
    assert time.perf_counter() - began < 60


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_workers_outlive_the_signal_that_ends_a_run(number):
    class Pids(Augmented):
        def __getitem__(self, place):
            return os.getpid()

    source = open_source(Pids(), 2, 3, 2)
    epoch = source.epoch(0)
    pid = int(next(epoch)[0])
    os.kill(pid, number)
    assert sum(len(batch) for batch in epoch) == 40
    source.close()
    for _ in range(500):
        if not os.path.exists(f"/proc/{pid}"):
            return
        time.sleep(0.01)
    pytest.fail("the worker is still there after close()")


def test_a_new_epoch_ends_the_one_before_it():
    source = open_source(Augmented(), 8, 3, 2)
    first = source.epoch(0)
    next(first)
    assert [[part.tolist() for part in batch] for batch in source.epoch(1)] == read(Augmented(), 0)
    with pytest.raises(RuntimeError, match="This epoch has ended: another one was begun"):
        next(first)
    second = source.epoch(0)
    next(second)
    source.close()
    with pytest.raises(RuntimeError, match="or the source was closed"):
        next(second)


def test_an_error_that_cannot_be_sent_is_quoted():
    class Local(Exception):
        pass

    error = Failure(Local("here")).error()
    assert type(error) is RuntimeError
    assert str(error) == "The dataset raised Local: here"
    decoding = UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte")
    assert str(Failure(decoding).error()) == str(decoding)


@pytest.mark.parametrize("workers", [-1, 1.5, "2", True, None])
def test_a_number_of_workers_that_is_none_is_refused(workers):
    with pytest.raises(ValueError, match="workers is a whole number of processes, 0 or more; received"):
        open_source(Augmented(), 8, 3, workers)


def test_workers_that_would_each_read_a_whole_stream_are_refused():
    class Stream(torch.utils.data.IterableDataset):
        def __iter__(self):
            return iter(range(3))

    with pytest.raises(ValueError, match="workers=2 would each read all of the IterableDataset Stream"):
        open_source(Stream(), 8, 3, 2)
