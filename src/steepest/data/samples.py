"""Batches from a dataset that is asked for one sample at a time."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from torch.utils.data import default_collate

from steepest.data.batch import describe
from steepest.data.order import order


class Samples:
    """A dataset with `len(dataset)` and `dataset[i]`; samples are put together as PyTorch's DataLoader does.

    Every sample comes once in an epoch, the last batch is short when they do not divide.
    """

    def __init__(self, dataset: Any, batch_size: int, seed: int | None) -> None:
        self.samples = len(dataset)
        if self.samples == 0:
            raise ValueError(f"The dataset {type(dataset).__name__} is empty; training needs one sample or more.")
        self.batches: int | None = -(-self.samples // batch_size)
        self._dataset, self._batch_size, self._seed = dataset, batch_size, seed

    def epoch(self, number: int, start: int = 0) -> Iterator[Any]:
        """Yield the batches of one epoch from batch `start` on."""
        indices = order(self.samples, self._seed, number)
        for begin in range(start * self._batch_size, self.samples, self._batch_size):
            yield self._collate(indices[begin : begin + self._batch_size])

    def _collate(self, index: np.ndarray) -> Any:
        items = [self._item(place) for place in index.tolist()]
        try:
            return default_collate(items)
        except (RuntimeError, TypeError, KeyError) as error:
            shapes = ", ".join(f"{place}: {describe(item)}" for place, item in zip(index[:4], items, strict=False))
            raise ValueError(
                f"Samples of the dataset do not fit into one batch ({shapes}, ...): {error}. Give every sample the "
                "same form, or pass a DataLoader with a collate_fn."
            ) from error

    def _item(self, place: int) -> Any:
        try:
            return self._dataset[place]
        except Exception as error:
            error.add_note(f"Raised by sample {place} of the dataset {type(self._dataset).__name__}.")
            raise
