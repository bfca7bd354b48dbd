"""What a family of models and data offers to a program."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn


@dataclass(frozen=True)
class Task:
    """model: makes a new one. loss: of model and batch. train: makes the loader of an epoch. measure: lower is better.

    rates: of optimizers, found by a sweep with the epochs that are given.
    """

    model: Callable[[], nn.Module]
    loss: Callable[[nn.Module, Any], Tensor]
    train: Callable[[], Iterable[Any]]
    measure: Callable[[nn.Module], float]
    rates: Mapping[str, float]
    epochs: int
