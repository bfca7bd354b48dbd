"""Learning rates as pure functions of the position in the run.

A schedule is a value: `schedule(step, steps)` is the factor for update `step` (0 to steps - 1) of a run of `steps`
updates. It has no state, so a run resumes anywhere. Three conventions make the ends exact:

- A decay takes its first step at the full rate and would reach its floor at step `steps`, one after the last:
  `linear()` is (steps - step) / steps. No step is spent at rate 0.
- A warm-up of w steps takes step k at (k + 1) / w: the first is not 0, the last is the full rate.
- `one_cycle` and `cyclic` begin above 0 and are PyTorch's: the last step of `one_cycle` is its floor.

`a * b` multiplies, `3e-4 * a` gives absolute rates, `sequence` joins one after another. Schedules that are built
alike are equal; `repr` prints the code that builds one, and `parse` reads it.
"""

from steepest.schedules.compose import sequence, wsd
from steepest.schedules.cycles import cyclic, one_cycle, restarts
from steepest.schedules.schedule import BoundSchedule, Schedule, constant, product
from steepest.schedules.shapes import cosine, inverse_sqrt, linear, one_minus_sqrt, polynomial, warmup
from steepest.schedules.text import parse

__all__ = [
    "BoundSchedule", "Schedule", "constant", "cosine", "cyclic", "inverse_sqrt", "linear", "one_cycle",
    "one_minus_sqrt", "parse", "polynomial", "product", "restarts", "sequence", "warmup", "wsd",
]  # fmt: skip
