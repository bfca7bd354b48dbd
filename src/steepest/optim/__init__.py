"""torch.optim.Optimizer classes, one for each rule: `steepest.optim.AdamW`, with torch's own argument names."""

from typing import Any

from steepest.optim.front import CLASSES
from steepest.optim.optimizer import Optimizer
from steepest.optim.stats import Stats

__all__ = ["CLASSES", "Optimizer", "Stats"]
globals().update(CLASSES)


def __getattr__(name: str) -> Any:
    raise AttributeError(f"there is no optimizer {name!r}; there are {', '.join(CLASSES)}")
