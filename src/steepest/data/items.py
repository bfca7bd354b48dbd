"""Items of a dataset that is asked for one sample at a time."""

from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from torch.utils.data import TensorDataset, default_collate, get_worker_info

from steepest.data.batch import describe
from steepest.data.seeding import same_generators_after, sample_seeds, start_generators


class Items:
    """A dataset with `len(dataset)` and `dataset[i]`; samples are put together as PyTorch's DataLoader does.

    Before each sample Python's, NumPy's and PyTorch's default generators are started from (seed, epoch, i), so that
    augmentation does not depend on the order, the workers or an interruption; afterwards they are as they were.
    """

    def __init__(self, dataset: Any, seed: int | None) -> None:
        self.samples = len(dataset)
        if self.samples == 0:
            raise ValueError(f"The dataset {type(dataset).__name__} is empty; training needs one sample or more.")
        self._dataset, self._seed = dataset, seed

    def read(self, epoch: int, index: np.ndarray) -> Any:
        """Return the samples as a batch."""
        if type(self._dataset) is TensorDataset:  # the rows that default_collate would stack, at once
            rows = torch.from_numpy(index)
            return [tensor[rows.to(tensor.device)] for tensor in self._dataset.tensors]
        seeds = sample_seeds(self._seed, epoch, index)
        with nullcontext() if get_worker_info() else same_generators_after():
            items = [self._item(place, seed) for place, seed in zip(index.tolist(), seeds, strict=True)]
            return self._collate(index, items)

    def signature(self) -> dict[str, Any]:
        """Return what the data is. No sample is read for it: files opened by that would be shared with workers."""
        return {"kind": "dataset", "type": type(self._dataset).__name__, "samples": self.samples}

    def _item(self, place: int, seed: int) -> Any:
        start_generators(seed)
        try:
            return self._dataset[place]
        except Exception as error:
            where = f"sample {place} of the dataset {type(self._dataset).__name__}, which has {self.samples}"
            if isinstance(error, StopIteration):  # it would end the epoch in silence
                raise RuntimeError(f"StopIteration was raised by {where}.") from error
            error.add_note(f"Raised by {where}.")
            raise

    def _collate(self, index: np.ndarray, items: list[Any]) -> Any:
        try:
            return default_collate(items)
        except (RuntimeError, TypeError, KeyError, ValueError) as error:
            forms = [describe(item) for item in items]
            other = next((place for place, form in enumerate(forms) if form != forms[0]), 0)
            shown = dict.fromkeys((0, other))
            words = " and ".join(f"sample {index[place]} is {forms[place]}" for place in shown)
            raise ValueError(
                f"Samples of the dataset {type(self._dataset).__name__} do not fit into one batch: {words} ({error}). "
                "Give every sample the same form, of tensors, arrays and numbers, or pass a DataLoader with a "
                "collate_fn."
            ) from error
