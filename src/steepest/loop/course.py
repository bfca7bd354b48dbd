"""The losses of a run, and what they say of it as a whole."""

import math
from dataclasses import dataclass, field
from statistics import median

WINDOW = 20
"""Losses that are looked at together. Where nothing has changed, all of them are above the median once in 2^20."""

FIRST = 5
"""Losses that a run begins with; of more, those of a quick learner would not be that."""

LOST = 0.25
"""Training has blown up when so much of what was gained is lost again. Of 70 healthy runs none lost 2 % (LOG.md)."""

WORSE = 0.9
"""A run ends worse than it began when so many pairs of a first and a last loss say so; by chance 1 in 300 would."""


@dataclass
class Course:
    """The losses of a run: the first 5, and the latest 20 (infinite where not finite).

    start: the median of the first; lowest: of 20; spread: between the quartiles there. bound: above it training has
    blown up. seen: since the latest were begun anew; nonfinite: among them.
    """

    first: list[float] = field(default_factory=list)
    recent: list[float] = field(default_factory=list)
    start: float = math.inf
    lowest: float = math.inf
    spread: float = 0.0
    bound: float = math.inf
    seen: int = 0
    nonfinite: int = 0

    def add(self, loss: float) -> None:
        """Take in the loss of a batch."""
        if not math.isfinite(loss):
            loss, self.nonfinite = math.inf, self.nonfinite + 1
        elif len(self.first) < FIRST:
            self.first.append(loss)
            self.start = median(self.first)
        self.recent.append(loss)
        self.seen += 1
        if self.seen > WINDOW:
            self.nonfinite -= self.recent.pop(0) == math.inf
        if self.seen % WINDOW == 0 and median(self.recent) < self.lowest:
            self.begin_at_latest()

    def begin_at_latest(self) -> None:
        """Count as the lowest what the latest losses are, which may be higher: data may have become harder."""
        ordered = sorted(self.recent)
        self.lowest, self.spread = median(ordered), ordered[3 * WINDOW // 4] - ordered[WINDOW // 4]
        self.bound = self.lowest + self._rise()

    def forget(self) -> None:
        """Begin the latest losses anew."""
        self.recent, self.seen, self.nonfinite = [], 0, 0

    def _rise(self) -> float:
        """Return how far above the lowest a loss has blown up: a quarter of what was gained is lost again.

        Where a gain may be chance, less than a tenth of the loss or than twice its spread, a loss has to triple.
        """
        gain = self.start - self.lowest
        return LOST * gain if gain > max(abs(self.start) / 10, 2 * self.spread) else 2 * abs(self.lowest)

    def blown_up(self) -> bool:
        """Whether all of the latest losses are so far up."""
        recent = self.recent
        return len(recent) == WINDOW and recent[-1] > self.bound and min(recent) > self.bound

    def good(self) -> bool:
        """Whether the median of the latest losses is not half as far up."""
        return len(self.recent) == WINDOW and median(self.recent) <= (self.lowest + self.bound) / 2

    def worse(self) -> str:
        """Return a sentence where the latest losses are higher than the first ones, beyond chance; else nothing."""
        pairs = len(self.first) * len(self.recent)
        if sum(last > first for first in self.first for last in self.recent) <= WORSE * pairs:
            return ""
        before, now = median(self.first), median(self.recent)
        return f"the training loss ends higher than it began: {now:.4g} now, {before:.4g} at first"
