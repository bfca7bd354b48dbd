"""Where the rows of a run go besides its event file: TensorBoard, W&B, MLflow, trackio, or a function.

A logger cannot hurt a run: each has a thread of its own, what it raises becomes a sentence in `Loggers.problems`, and
training waits for it at two places only, a bounded time each: when it is opened and when it is closed. Each series has
one step axis, strictly increasing, without gaps or doubles, also when the run is killed and taken up again.
"""

from steepest.loggers.loggers import Loggers

__all__ = ["Loggers"]
