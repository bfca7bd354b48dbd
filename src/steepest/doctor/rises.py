"""Whether a loss has risen for good: what comes down again by itself is no event."""

from collections.abc import Sequence
from statistics import median

SOME = 12
"""Losses that are looked at together."""

RISEN, STAYS = 1.6, 1.5
"""So many times its best is a running median that has risen, and that has not come down again."""

OF_FIRST = 0.15
"""Part of the first loss by which it has to have risen."""

WAIT = 24
"""Steps after which it has to be still there. Warm restarts, the edge of stability and early spikes have settled."""

EVERY = 8
"""Steps from one look to the next."""


class Rises:
    """Is told of the losses every few steps; `look` returns the step at which a rise began that stays."""

    def __init__(self) -> None:
        self._best = float("inf")
        self._began: int | None = None
        self._base = 0.0

    def look(self, losses: Sequence[float]) -> int | None:
        """Take in the losses so far; None where nothing has risen, or not for long enough."""
        if len(losses) < SOME or len(losses) % EVERY:
            return None
        now, first = median(losses[-SOME:]), abs(losses[0])
        if self._began is not None:
            return self._settle(now, len(losses))
        if now > self._best + max((RISEN - 1) * abs(self._best), OF_FIRST * first):
            self._began, self._base = len(losses) - SOME, self._best
        self._best = min(self._best, now)
        return None

    @property
    def suspected(self) -> bool:
        """Whether the loss has risen, and may come down again."""
        return self._began is not None

    def _settle(self, now: float, step: int) -> int | None:
        began = self._began
        if began is None or step < began + SOME + WAIT:
            return None
        self._began = None
        return began if now > self._base + (STAYS - 1) * abs(self._base) else None
