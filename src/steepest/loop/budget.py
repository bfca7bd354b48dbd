"""How long a run is: a number of updates, a time that it ends on, or as long as somebody lets it."""

import math
import re
from dataclasses import dataclass, replace
from typing import Any

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
FINE = 1_000_000
"""Of a run that is measured in time, schedules are asked for this number of steps."""

ENDLESS = 1_000_000_000
"""A run without a budget is so long, for its schedule."""

EARLY = 500
"""Up to about so many steps a run without a budget counts in steps, from then on in parts of those that are done."""

FALL, SHORTEST = 10, 20
"""A run without a budget ends with a decay over this part of the steps done, and over so many at the least."""


@dataclass
class Budget:
    """One of steps and seconds, or none: the run is open. reserve: seconds at the end for evaluating and saving.

    since: the step at which the final decay of an open run began, which ends with `steps`.
    """

    steps: int | None = None
    seconds: float | None = None
    reserve: float = 0.0
    since: int | None = None

    @property
    def endless(self) -> bool:
        """Whether no end is known yet."""
        return self.steps is None and self.seconds is None

    @property
    def open(self) -> bool:
        """Whether the run began without an end."""
        return self.endless or self.since is not None

    @property
    def length(self) -> float | None:
        """The number of steps, infinite while no end is known; None of a time."""
        return math.inf if self.endless else self.steps

    def finish(self, steps: int, end: int | None = None) -> None:
        """Have an open run end: from this step on its rate falls to zero, over a tenth of the steps or until `end`."""
        if not self.open:
            raise ValueError(f"The run has {self}, and ends then; only a run without a budget can be told to finish.")
        if end is not None and end <= steps:
            raise ValueError(f"The run has made {steps} steps already: it can end after more, not at steps={end}.")
        self.since, self.steps = steps, end or steps + max(SHORTEST, steps // FALL)

    def fall(self, steps: int) -> float:
        """Return the factor of the rate in the final decay of an open run, and 1 before."""
        if self.since is None or self.steps is None:
            return 1.0
        return (self.steps - steps) / (self.steps - self.since)

    def left(self, steps: int) -> float:
        """Return how many steps there are until an open run ends, infinitely many while that is not known."""
        return math.inf if self.since is None or self.steps is None else self.steps - steps

    def done(self, steps: int, seconds: float) -> float:
        """Return the part of the run that lies behind, from 0 to 1. seconds: since it began, over all sittings.

        An open run has no parts, and what is done at each part of a run is done whenever the steps have grown by it:
        its measure is log(1 + steps / 500), which grows by 1/50 where the steps do. It has no bound.
        """
        if self.open:
            return math.log1p(steps / EARLY)
        if self.steps is not None:
            return steps / self.steps
        assert self.seconds is not None
        return min(1.0, seconds / max(self.seconds - self.reserve, 1e-9))

    def spent(self, steps: int, seconds: float) -> bool:
        """Whether there is no update left; of a time, whether another one would likely end after it."""
        if self.endless:
            return False
        if self.steps is not None:
            return steps >= self.steps
        return steps > 0 and self.done(steps, seconds + 0.5 * seconds / steps) >= 1

    def place(self, steps: int, seconds: float) -> tuple[int, int]:
        """Return (step, steps) as schedules want them: where the coming update stands."""
        if self.open:
            return steps, ENDLESS
        if self.steps is not None:
            return steps, self.steps
        return min(int(self.done(steps, seconds) * FINE), FINE - 1), FINE

    def state_dict(self) -> dict[str, Any] | None:
        """Return what an open run has to remember, None for one with a budget."""
        return {"steps": self.steps, "since": self.since} if self.open else None

    def load_state_dict(self, state: dict[str, Any] | None) -> None:
        """Take up the final decay of an open run. Raises ValueError where one has a budget and the other has none."""
        if (state is not None) != self.open:
            raise ValueError(
                f"The state is of a run {'with' if state is None else 'without'} a budget, and this one has {self}. "
                "What began without a budget goes on without one, and is told to finish."
            )
        if state is not None:
            self.steps, self.since = state["steps"], state["since"]

    def without(self, steps: int) -> "Budget":
        """Return what is left when so many steps' worth was spent already; of a time, the clock has counted it."""
        return self if self.steps is None else replace(self, steps=max(1, self.steps - steps))

    def __str__(self) -> str:
        if self.endless:
            return "no end"
        return f"{self.steps} steps" if self.steps is not None else f"{self.seconds:g} s"


def budget_of(steps: Any, epochs: Any, time: Any, batches: int | None) -> Budget:
    """Return the budget from what the user gave: one of the three, or none for an open run.

    batches: how many an epoch has, if that is known.
    """
    given = {"steps": steps, "epochs": epochs, "time": time}
    given = {name: value for name, value in given.items() if value is not None}
    if not given:
        return Budget()
    if len(given) > 1:
        received = " and ".join(f"{name}={value!r}" for name, value in given.items())
        raise ValueError(f"A run has one budget, steps=, epochs= or time=, or none; received {received}.")
    if time is not None:
        return Budget(seconds=seconds_of(time))
    (name, value) = next(iter(given.items()))
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} is a whole number; received {value!r}.")
    if value < 1:
        raise ValueError(f"{name} is 1 or more; received {value}.")
    if epochs is None:
        return Budget(steps=value)
    if batches is None:
        raise ValueError("The data does not say how many batches an epoch has, so epochs= is no budget; give steps=.")
    return Budget(steps=value * batches)


def seconds_of(time: Any) -> float:
    """Return the seconds that a time as "30m", "1h30m" or 1800 names."""
    if isinstance(time, int | float) and not isinstance(time, bool) and 0 < time < float("inf"):
        return float(time)
    if isinstance(time, str):
        parts = re.fullmatch(r"\s*((?:\d+(?:\.\d+)?\s*[smhd]\s*)+)", time)
        if parts:
            found = re.findall(r"(\d+(?:\.\d+)?)\s*([smhd])", parts[1])
            total = sum(float(number) * UNITS[unit] for number, unit in found)
            if total > 0:
                return total
    raise ValueError(f'time is how long to train, as "90s", "30m", "1h30m" or seconds; received {time!r}.')
