"""Where a run stands: what has to survive for it to go on."""

from dataclasses import dataclass


@dataclass
class Position:
    """Counters of a run. step: updates done; epoch and batch: the next batch; skipped: updates not made."""

    step: int = 0
    epoch: int = 0
    batch: int = 0
    skipped: int = 0
    skipped_in_a_row: int = 0
