"""How tensors become batches."""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

Batch = tuple[Tensor, ...]


def loader(*data: Tensor, size: int = 32, shuffle: bool = True, drop_last: bool = False) -> DataLoader:
    """Return torch's loader of the rows of the tensors."""
    return DataLoader(TensorDataset(*data), size, shuffle, drop_last=drop_last)


class Shuffled:
    """An epoch of batches in a new order each time, from tensors of equal length; a last short batch is dropped."""

    def __init__(self, *data: Tensor, size: int = 32) -> None:
        self.data, self.size = data, size

    def __len__(self) -> int:
        return len(self.data[0]) // self.size

    def __iter__(self) -> Iterator[Batch]:
        order = torch.randperm(len(self.data[0]))
        for rows in order[: len(self) * self.size].split(self.size):
            yield tuple(column[rows] for column in self.data)


def endless(batches: Iterator[Batch] | object, steps: int) -> Iterator[Batch]:
    """Yield so many batches, epoch after epoch."""
    done = 0
    while True:
        for batch in batches:  # type: ignore[attr-defined]
            if done == steps:
                return
            done += 1
            yield batch


def drawn(seed: int) -> torch.Generator:
    """Return a generator of its own, for data that are the same in every run."""
    return torch.Generator().manual_seed(seed)
