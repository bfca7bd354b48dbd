"""How long a run is: a number of updates, or a time that it ends on."""

import re
from dataclasses import dataclass, replace
from typing import Any

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
FINE = 1_000_000
"""Of a run that is measured in time, schedules are asked for this number of steps."""


@dataclass
class Budget:
    """One of steps and seconds. reserve: seconds at the end that are not for updates but for evaluating and saving."""

    steps: int | None = None
    seconds: float | None = None
    reserve: float = 0.0

    def done(self, steps: int, seconds: float) -> float:
        """Return the part of the run that lies behind, from 0 to 1. seconds: since it began, over all sittings."""
        if self.steps is not None:
            return steps / self.steps
        assert self.seconds is not None
        return min(1.0, seconds / max(self.seconds - self.reserve, 1e-9))

    def spent(self, steps: int, seconds: float) -> bool:
        """Whether there is no update left; of a time, whether another one would likely end after it."""
        if self.steps is not None:
            return steps >= self.steps
        return steps > 0 and self.done(steps, seconds + 0.5 * seconds / steps) >= 1

    def place(self, steps: int, seconds: float) -> tuple[int, int]:
        """Return (step, steps) as schedules want them: where the coming update stands."""
        if self.steps is not None:
            return steps, self.steps
        return min(int(self.done(steps, seconds) * FINE), FINE - 1), FINE

    def without(self, steps: int) -> "Budget":
        """Return what is left when so many steps' worth was spent already; of a time, the clock has counted it."""
        return self if self.steps is None else replace(self, steps=max(1, self.steps - steps))

    def __str__(self) -> str:
        return f"{self.steps} steps" if self.steps is not None else f"{self.seconds:g} s"


def budget_of(steps: Any, epochs: Any, time: Any, batches: int | None) -> Budget:
    """Return the budget from what the user gave, one of the three; batches: how many an epoch has, if that is known."""
    given = {"steps": steps, "epochs": epochs, "time": time}
    given = {name: value for name, value in given.items() if value is not None}
    if len(given) != 1:
        received = " and ".join(f"{name}={value!r}" for name, value in given.items()) or "none of them"
        raise ValueError(f"A run has one budget, steps=, epochs= or time=; received {received}.")
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
