"""The training loop as an iterator, and what goes with it."""

from steepest.loop.run import Run
from steepest.loop.step import Step
from steepest.loop.task import Factor, Loss, Task

__all__ = ["Factor", "Loss", "Run", "Step", "Task"]
