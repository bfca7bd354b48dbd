"""Batches from arrays whose first axis counts the samples."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch

from steepest.data.batch import describe
from steepest.data.order import order


class Arrays:
    """A tensor, array or memory map, or a tuple or dict of them; a batch has the same form, with tensors in it.

    Every sample comes once in an epoch, the last batch is short when they do not divide.
    """

    def __init__(self, data: Any, batch_size: int, seed: int | None) -> None:
        parts = _parts(data)
        self.samples = _samples(parts, data)
        self.batches: int | None = -(-self.samples // batch_size)
        self._data, self._batch_size, self._seed = data, batch_size, seed

    def epoch(self, number: int, start: int = 0) -> Iterator[Any]:
        """Yield the batches of one epoch from batch `start` on."""
        indices = order(self.samples, self._seed, number)
        for begin in range(start * self._batch_size, self.samples, self._batch_size):
            yield self._take(indices[begin : begin + self._batch_size])

    def _take(self, index: np.ndarray) -> Any:
        data = self._data
        if isinstance(data, Mapping):
            return {name: _rows(part, index) for name, part in data.items()}
        if isinstance(data, tuple):
            rows = (_rows(part, index) for part in data)
            return type(data)(*rows) if hasattr(data, "_fields") else tuple(rows)
        return _rows(data, index)


def _rows(array: Any, index: np.ndarray) -> torch.Tensor:
    if isinstance(array, torch.Tensor):
        return array[torch.from_numpy(index).to(array.device)]
    return torch.from_numpy(np.asarray(array[index]))


def _parts(data: Any) -> dict[str, Any]:
    """Return the arrays by the name a message calls them."""
    if isinstance(data, Mapping):
        return {f"data[{name!r}]": part for name, part in data.items()}
    if isinstance(data, tuple):
        return {f"data[{place}]": part for place, part in enumerate(data)}
    return {"data": data}


def _samples(parts: dict[str, Any], data: Any) -> int:
    """Return the number of samples that all parts agree on; raise for parts that no batch can be taken from."""
    for name, part in parts.items():
        if not isinstance(part, torch.Tensor | np.ndarray):
            raise TypeError(
                f"{name} is of type {type(part).__name__}; data given as a tuple or dict holds arrays or tensors, one "
                "row a sample. For batches that are ready, pass a list of them or a DataLoader."
            )
        if part.ndim == 0:
            raise ValueError(f"{name} is a single number; expected an array whose first axis counts the samples.")
        if isinstance(part, np.ndarray):
            _check_dtype(name, part)
    lengths = {len(part) for part in parts.values()}
    if len(lengths) > 1:
        raise ValueError(f"The arrays of the data differ in length: {describe(data)}; all need one row a sample.")
    if lengths in (set(), {0}):
        raise ValueError(f"The data is empty: {describe(data)}; training needs one sample or more.")
    return lengths.pop()


def _check_dtype(name: str, array: np.ndarray) -> None:
    try:
        torch.from_numpy(np.empty(0, array.dtype))
    except (TypeError, ValueError):  # ValueError: the other byte order
        raise TypeError(
            f"{name} holds {array.dtype} values, which no tensor can hold; convert it to numbers, as "
            f"{name}.astype('float32')."
        ) from None
