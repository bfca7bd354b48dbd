"""Rows of arrays whose first axis counts the samples."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from steepest.data.batch import describe
from steepest.data.mapped import Mapped


class Arrays:
    """A tensor, array or memory map, or a tuple or dict of them; a batch has the same form, with tensors in it.

    shuffled: rows are read in random order, which memory maps are told.
    """

    def __init__(self, data: Any, shuffled: bool) -> None:
        self._parts = _parts(data)
        self.samples = _samples(self._parts, data)
        self._data = data
        maps = (Mapped.of(part, shuffled) for part in self._parts.values())
        self._maps = [mapped for mapped in maps if mapped is not None]

    def read(self, epoch: int, index: np.ndarray) -> Any:
        """Return the rows as a batch, which shares no memory with the data."""
        batch = self._take(index)
        for mapped in self._maps:
            mapped.count(len(index))
        return batch

    def signature(self) -> dict[str, Any]:
        """Return what the data is: dtype and shape of a row of each array."""
        rows = {
            name: describe(part[:0]).replace("[0, ", "[").replace("[0]", "[]") for name, part in self._parts.items()
        }
        return {"kind": "arrays", "samples": self.samples, "rows": rows}

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
