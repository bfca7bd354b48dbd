"""Batches from whatever holds data: arrays, datasets, files, loaders, iterators."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset

from steepest.data.arrays import Arrays
from steepest.data.batch import count_samples, describe, to_device
from steepest.data.batches import Batches
from steepest.data.files import open_files
from steepest.data.items import Items
from steepest.data.once import Once
from steepest.data.samples import Samples
from steepest.data.stateful import Stateful, is_stateful

__all__ = ["Source", "count_samples", "describe", "open_source", "to_device"]


@runtime_checkable
class Source(Protocol):
    """Where batches come from.

    batches, samples: how many an epoch has; None when that shows only at its end, or not at all. say: what is called
    with a sentence when batches have to be read again to go on; may be set.
    """

    batches: int | None
    samples: int | None
    say: Callable[[str], None]

    def epoch(self, number: int, start: int = 0) -> Iterator[Any]:
        """Return the batches of one epoch from batch `start` on. A new epoch ends the one before it."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Return what `epoch` needs besides its arguments to give the same batches in another process.

        It is plain data and tensors, and empty where batches are a pure function of seed, epoch and position.
        """
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Let the next call of `epoch` go on from where `state_dict` was taken."""
        ...

    def signature(self) -> dict[str, Any]:
        """Return plain data that says what data this is; two runs on the same data have the same."""
        ...

    def close(self) -> None:
        """End worker processes and close files."""
        ...


def open_source(data: Any, batch_size: int, seed: int | None, workers: int = 0) -> Source:
    """Return the source of batches that fits the data.

    - A tensor, array or memory map, or a tuple or dict of them: batches of `batch_size` rows.
    - A Dataset, or anything with `len(data)` and `data[i]` that is no list: batches of `batch_size` samples.
    - A path of a .parquet file, a list of such paths or a folder of them: batches of `batch_size` rows.
    - A path of a .txt or .jsonl file: batches of `batch_size` lines.
    - A DataLoader, a list or another iterable: its elements are the batches, and `batch_size` is not used.
    - An iterator: the same, but there is only one pass over it.
    - A source: itself.

    seed: where the sources that choose the order take it from; None: the order in which samples are stored.
    workers: processes that read a Dataset or a text file ahead; the other kinds do not use them.
    """
    if isinstance(data, Source):
        return data
    if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
        raise ValueError(f"batch_size is a whole number, 1 or more; received {batch_size!r}.")
    if isinstance(workers, bool) or not isinstance(workers, int) or workers < 0:
        raise ValueError(f"workers is a whole number of processes, 0 or more; received {workers!r}.")
    if isinstance(data, torch.Tensor | np.ndarray | tuple | Mapping):
        return Samples(Arrays(data, shuffled=seed is not None), batch_size, seed)
    if isinstance(data, str | Path) or _holds_paths(data):
        return open_files(data, batch_size, seed, workers)
    if isinstance(data, IterableDataset):
        return _from_stream(data, batch_size, workers)
    if _is_dataset(data):
        return Samples(Items(data, seed), batch_size, seed, workers)
    if isinstance(data, Iterable) and not isinstance(data, bytes):
        return _from_batches(data)
    raise TypeError(
        f"The data is of type {type(data).__name__}; expected arrays or tensors, a Dataset, a path, a DataLoader or "
        "another iterable of batches."
    )


def _from_stream(data: IterableDataset, batch_size: int, workers: int) -> Source:
    if workers:
        raise ValueError(
            f"workers={workers} would each read all of the IterableDataset {type(data).__name__}. Pass a DataLoader "
            "over it, with a worker_init_fn that splits it, or leave out workers."
        )
    return Batches(DataLoader(data, batch_size))


def _from_batches(data: Iterable[Any]) -> Source:
    if is_stateful(data):
        return Stateful(data)
    return Once(data) if isinstance(data, Iterator) else Batches(data)


def _holds_paths(data: Any) -> bool:
    if not isinstance(data, list) or not data:
        return False
    return all(isinstance(each, Path) or (isinstance(each, str) and each.endswith(".parquet")) for each in data)


def _is_dataset(data: Any) -> bool:
    if isinstance(data, list | str | bytes) or not hasattr(data, "__len__"):
        return False
    return isinstance(data, Dataset) or hasattr(data, "__getitem__")
