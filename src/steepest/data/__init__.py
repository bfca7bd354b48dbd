"""Batches from whatever holds data: arrays, datasets, loaders, iterators."""

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset

from steepest.data.arrays import Arrays
from steepest.data.batch import count_samples, describe, to_device
from steepest.data.batches import Batches
from steepest.data.samples import Samples

__all__ = ["Source", "count_samples", "describe", "open_source", "to_device"]


class Source(Protocol):
    """Where batches come from. batches: how many an epoch has, None when that shows only at its end."""

    batches: int | None

    def epoch(self, number: int, start: int = 0) -> Iterable[Any]:
        """Return the batches of one epoch from batch `start` on."""
        ...


def open_source(data: Any, batch_size: int, seed: int | None) -> Source:
    """Return the source of batches that fits the data.

    - A tensor, array or memory map, or a tuple or dict of them: batches of `batch_size` rows.
    - A Dataset, or anything with `len(data)` and `data[i]` that is no list: batches of `batch_size` samples.
    - A DataLoader, a list or another iterable: its elements are the batches, and `batch_size` is not used.
    - An iterator: the same, but there is only one pass over it.

    seed: where the sources that choose the order take it from; None: the order in which samples are stored.
    """
    if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
        raise ValueError(f"batch_size is a whole number, 1 or more; received {batch_size!r}.")
    if isinstance(data, torch.Tensor | np.ndarray | tuple | Mapping):
        return Arrays(data, batch_size, seed)
    if isinstance(data, IterableDataset):
        return Batches(DataLoader(data, batch_size))
    if _is_dataset(data):
        return Samples(data, batch_size, seed)
    if isinstance(data, Iterable) and not isinstance(data, str | bytes):
        return Batches(data)
    raise TypeError(
        f"The data is of type {type(data).__name__}; expected arrays or tensors, a Dataset, a DataLoader or another "
        "iterable of batches."
    )


def _is_dataset(data: Any) -> bool:
    if isinstance(data, list | str | bytes) or not hasattr(data, "__len__"):
        return False
    return isinstance(data, Dataset) or hasattr(data, "__getitem__")
