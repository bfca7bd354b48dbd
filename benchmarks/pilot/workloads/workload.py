"""What a workload is, and how its tensors become batches."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

Batch = tuple[Tensor, ...]
Loss = Callable[[nn.Module, Any], Tensor]


@dataclass(frozen=True)
class Workload:
    """A model to train, and how well it went.

    build: seed -> the model. batches: seed -> training batches without end. val: batches that no contender sees.
    steps: the budget. score: the loss on val, where it is another than in training. floor: what no model gets below on
    val, where that is not 0; losses are compared as their excess over it.
    """

    name: str
    family: str
    build: Callable[[int], nn.Module]
    loss: Loss
    batches: Callable[[int], Iterator[Batch]]
    val: list[Batch]
    batch_size: int
    steps: int
    score: Loss | None = None
    floor: float = 0.0


def seeded(make: Callable[[], nn.Module]) -> Callable[[int], nn.Module]:
    """Return what makes the model from a seed, and leaves the random state of torch alone."""

    def build(seed: int) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return make()

    return build


def generator(seed: int) -> torch.Generator:
    """Return a generator of its own for a seed."""
    return torch.Generator().manual_seed(seed)


def shuffled(data: Batch, size: int) -> Callable[[int], Iterator[Batch]]:
    """Return epoch after epoch of the rows, each in a new order; what is left over at an epoch's end is dropped."""

    def batches(seed: int) -> Iterator[Batch]:
        draw = generator(seed)
        while True:
            order = torch.randperm(len(data[0]), generator=draw)
            for rows in order[: len(order) // size * size].split(size):
                yield tuple(column[rows] for column in data)

    return batches


def drawn(sample: Callable[[torch.Generator], Batch]) -> Callable[[int], Iterator[Batch]]:
    """Return batches that are made anew each time."""

    def batches(seed: int) -> Iterator[Batch]:
        draw = generator(seed)
        while True:
            yield sample(draw)

    return batches


def split(data: Batch, training: int) -> tuple[Batch, list[Batch]]:
    """Return that many rows to train on, in an order fixed once, and the others as one batch to validate on."""
    order = torch.randperm(len(data[0]), generator=generator(1))
    return tuple(each[order[:training]] for each in data), [tuple(each[order[training:]] for each in data)]


def cross_entropy(model: nn.Module, batch: Batch) -> Tensor:
    """Return the cross-entropy of (inputs, classes)."""
    return nn.functional.cross_entropy(model(batch[0]), batch[1])


def squared(model: nn.Module, batch: Batch) -> Tensor:
    """Return the mean squared error of (inputs, targets)."""
    return nn.functional.mse_loss(model(batch[0]), batch[1])
