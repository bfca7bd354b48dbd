"""What the last step was: read from sums that the pass over memory made anyway."""

import math
from dataclasses import dataclass, field
from typing import Any

from steepest.optim.graph import MEASURES
from steepest.optim.members import Members


@dataclass
class Stats:
    """Measurements of the last step, and counts since the optimizer was made.

    Reading is what waits for a GPU, not the step. gradient_norm is known where clip or skip_nonfinite is on, or the
    step was measured. The others need `optimizer.measure = True`: update_norm (how far the parameters moved), ratios
    (by parameter name: update norm over weight norm; about 1e-3 is usual), unchanged (share of parameters that the step
    left exactly as they were; 1.0 is an optimizer that does nothing).
    """

    update_norm: float | None = None
    ratios: dict[str, float] = field(default_factory=dict)
    unchanged: float | None = None
    steps: int = 0
    skipped: int = 0
    _squares: Any = None  # a number, or a tensor on the device until somebody asks
    _clipped: Any = 0

    @property
    def gradient_norm(self) -> float | None:
        """The norm of all gradients before clipping."""
        if self._squares is None:
            return None
        squares = float(self._squares)
        return math.sqrt(squares) if squares >= 0 else math.nan

    @property
    def clipped(self) -> int:
        """How many steps were clipped; one whose norm is not finite counts as one."""
        return int(self._clipped)

    def note(self, squares: Any, clip: float | None) -> None:
        """Take the squared norm of all gradients, a number or a 0-d tensor."""
        self._squares = squares
        if clip is not None:
            self._clipped = self._clipped + 1 - (squares**0.5 <= clip) * 1

    def restore(self, steps: int, clipped: int, skipped: int) -> None:
        """Set the counts to those of a saved run."""
        self.steps, self._clipped, self.skipped = steps, clipped, skipped

    def forget(self) -> None:
        """Drop the measurements of the last step; counts stay."""
        self._squares = self.update_norm = self.unchanged = None
        self.ratios = {}


@dataclass
class Measured:
    """Sums of one step over the parameters seen so far."""

    gradient: float = 0.0
    update: float = 0.0
    unchanged: float = 0.0
    elements: float = 0.0
    ratios: dict[str, float] = field(default_factory=dict)

    def add(self, members: Members, values: dict[str, Any], names: dict[Any, str]) -> None:
        """Add the sums of one batch."""
        blocks = members.kind.form.blocks
        gradient, update, weight, unchanged = (values[name].reshape(-1, blocks).sum(1) for name in MEASURES)
        self.gradient += float(gradient.sum())
        self.update += float(update.sum())
        self.unchanged += float(unchanged.sum())
        self.elements += members.batch.rows.elements
        self.ratios.update(zip((names[p] for p in members.parameters), (update / weight).sqrt().tolist(), strict=True))

    def into(self, stats: Stats) -> None:
        """Write the norms."""
        stats.note(self.gradient, None)
        stats.update_norm = math.sqrt(self.update) if self.update >= 0 else math.nan
        stats.unchanged = self.unchanged / max(self.elements, 1)
        stats.ratios = self.ratios
