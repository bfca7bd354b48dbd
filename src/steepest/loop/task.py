"""A task: all that `fit` needs to train, as a function in a file returns it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import nn
from torch.optim import Optimizer

Loss = Callable[[Any, Any], Any]
"""loss(model, batch) -> a scalar tensor, or a dict of them with the key "loss"."""

Factor = Callable[[int, int], float]
"""schedule(step, steps) -> the factor of the learning rate at this update of so many."""


@dataclass(kw_only=True)
class Task:
    """A model, its loss and its data, with what else `fit` takes by the same name; None leaves it to `fit`.

    Without steps, epochs and time the run is open, as `fit` describes it.
    """

    model: nn.Module = field(kw_only=False)
    loss: Loss = field(kw_only=False)
    data: Any = field(kw_only=False)
    val: Any = None
    metrics: dict[str, Callable[[Any, Any], Any]] | None = None
    steps: int | None = None
    epochs: int | None = None
    time: str | float | None = None
    evaluate_every: int | None = None
    patience: int | None = None
    optimizer: Optimizer | None = None
    schedule: Factor | None = None
    batch_size: int = 32
    microbatch: int | str | None = None
    precision: str = "float32"
    clip: float | None = None
    checkpoint_activations: bool | str = False
    workers: int = 0
