"""What a contender is given, and what it may say of itself."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from pilot.workloads.workload import Batch, Loss


@dataclass(frozen=True)
class Job:
    """What a contender may know: no validation data, and no name to look a rate up by.

    told: what it says of itself, for the line of results. "spent": what it used, in steps, before it began to train;
    "rate": the one that it found; "regret": what it expects half of that and twice to cost.
    """

    model: nn.Module
    loss: Loss
    batches: Iterator[Batch]
    steps: int
    seed: int
    told: dict[str, Any] = field(default_factory=dict)
