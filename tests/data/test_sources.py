"""Every kind of data gives the batches that it should; what gives none is refused in one sentence."""

from collections import namedtuple

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from steepest.data import count_samples, describe, open_source, to_device


def first(data, batch_size=2):
    return next(iter(open_source(data, batch_size, None).epoch(0)))


def test_a_batch_has_the_form_of_the_data():
    x, y = torch.arange(6.0).view(3, 2), np.array([7, 8, 9])
    Pair = namedtuple("Pair", "x y")
    assert torch.equal(first(x), x[:2])
    assert first(y).tolist() == [7, 8]
    pair = first((x, y))
    assert isinstance(pair, tuple)
    assert pair[1].tolist() == [7, 8]
    assert first({"in": x, "out": y})["out"].tolist() == [7, 8]
    assert first(Pair(x, y)).y.tolist() == [7, 8]


def test_arrays_keep_their_dtype():
    for dtype in (np.float64, np.float32, np.uint8, np.int64, np.bool_):
        array = np.ones(3, dtype)
        assert first(array).dtype == torch.from_numpy(array).dtype


def test_a_memory_map_is_read_batch_by_batch_and_stays_untouched(tmp_path):
    written = np.memmap(tmp_path / "data", np.float32, "w+", shape=(10, 3))
    written[:] = np.arange(30).reshape(10, 3)
    written.flush()
    mapped = np.memmap(tmp_path / "data", np.float32, "r", shape=(10, 3))
    batch = first(mapped, 4)
    assert torch.equal(batch, torch.arange(12.0).view(4, 3))
    batch.zero_()
    assert mapped[0, 1] == 1


class Numbers(Dataset):
    def __init__(self, length):
        self.length = length

    def __len__(self):
        return self.length

    def __getitem__(self, place):
        if place == 37:
            raise OSError("disk on fire")
        return {"x": torch.full((2,), float(place)), "y": place}


def test_a_dataset_is_put_together_as_the_data_loader_does():
    batch, expected = first(Numbers(5), 3), next(iter(DataLoader(Numbers(5), 3)))
    assert torch.equal(batch["x"], expected["x"])
    assert torch.equal(batch["y"], expected["y"])
    assert len(first(TensorDataset(torch.ones(4, 2), torch.ones(4)), 3)) == 2


def test_a_dataset_that_raises_says_at_which_sample():
    with pytest.raises(OSError, match="disk on fire") as caught:
        list(open_source(Numbers(40), 8, None).epoch(0))
    assert caught.value.__notes__ == ["Raised by sample 37 of the dataset Numbers, which has 40."]


def test_an_iterable_dataset_gives_samples_and_others_give_batches():
    class Stream(IterableDataset):
        def __iter__(self):
            return iter(range(5))

    assert first(Stream(), 3).tolist() == [0, 1, 2]
    assert first([torch.ones(7), torch.ones(6)]).shape == (7,)
    assert first(DataLoader(torch.arange(10), batch_size=4)).tolist() == [0, 1, 2, 3]


def test_what_can_be_iterated_again_is_and_an_iterator_is_not():
    again = open_source([1, 2, 3], 2, None)
    assert [list(again.epoch(epoch)) for epoch in range(2)] == [[1, 2, 3], [1, 2, 3]]
    once = open_source(iter([1, 2, 3]), 2, None)
    assert [list(once.epoch(epoch)) for epoch in range(2)] == [[1, 2, 3], []]


@pytest.mark.parametrize(("data", "batches"), [([1, 2], 2), (iter([1, 2]), None), (np.zeros(7), 4), (Numbers(3), 2)])
def test_the_length_of_an_epoch_is_known_where_it_can_be(data, batches):
    assert open_source(data, 2, 0).batches == batches


BAD = {
    "empty array": (np.zeros((0, 3)), ValueError, r"The data is empty: float64\[0, 3\]"),
    "empty tuple": ((), ValueError, r"The data is empty: \(\)"),
    "empty list": ([], ValueError, "holds no batches"),
    "empty dataset": (Numbers(0), ValueError, "The dataset Numbers is empty"),
    "empty loader": (DataLoader(Numbers(0)), ValueError, "of type DataLoader, holds no batches"),
    "lengths": ((np.zeros(3), np.zeros(4)), ValueError, r"differ in length: \(float64\[3\], float64\[4\]\)"),
    "scalar": (torch.tensor(1.0), ValueError, "data is a single number"),
    "list in tuple": ((np.zeros(3), [1, 2, 3]), TypeError, r"data\[1\] is of type list"),
    "text": (np.array(["a", "b"]), TypeError, "data holds <U1 values, which no tensor can hold"),
    "objects": ({"x": np.array([None, 1])}, TypeError, r"data\['x'\] holds object values"),
    "other byte order": (np.zeros(3, ">f4"), TypeError, "data holds >f4 values"),
    "number": (3, TypeError, "The data is of type int"),
    "nothing": (None, TypeError, "The data is of type NoneType"),
    "path": ("train.csv", FileNotFoundError, r"There is no train.csv \(looked from"),
}


@pytest.mark.parametrize(("data", "kind", "message"), BAD.values(), ids=BAD)
def test_data_that_gives_no_batches_is_refused(data, kind, message):
    with pytest.raises(kind, match=message):
        open_source(data, 2, 0)


@pytest.mark.parametrize("size", [0, -1, 2.5, "8", True, None])
def test_a_batch_size_that_is_none_is_refused(size):
    with pytest.raises(ValueError, match=r"batch_size is a whole number, 1 or more; received"):
        open_source(torch.ones(3), size, 0)


def test_samples_of_different_shapes_are_named():
    class Ragged(Numbers):
        def __getitem__(self, place):
            return torch.ones(place)

    with pytest.raises(
        ValueError, match=r"do not fit into one batch: sample 0 is float32\[0\] and sample 1 is float32\[1\]"
    ):
        first(Ragged(5), 3)


def test_batches_are_described_counted_and_moved():
    batch = (torch.ones(4, 2), {"y": np.ones(4, np.int64), "name": "a"}, [torch.ones(1)] * 9)
    assert describe(batch) == ("(float32[4, 2], {'y': int64[4], 'name': str}, [" + "float32[1], " * 8 + "...])")
    assert count_samples(batch) == 4
    assert count_samples(["a line", "another"]) == 2
    assert count_samples({"no": "array"}) == 1
    assert count_samples((torch.tensor(3.0), torch.ones(5))) == 5
    moved = to_device(batch, torch.device("meta"))
    assert moved[0].device.type == moved[2][0].device.type == "meta"
    assert moved[1]["name"] == "a"
    Pair = namedtuple("Pair", "x y")
    assert to_device(Pair(torch.ones(1), 2), torch.device("meta")).x.device.type == "meta"
