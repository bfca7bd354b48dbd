"""The shapes a learning rate takes on its way up and down."""

import math
from dataclasses import KW_ONLY, dataclass
from typing import Annotated

from steepest.schedules.schedule import Schedule
from steepest.schedules.settings import LENGTH, Period, Positive, Share, count, no_room


@dataclass(frozen=True, repr=False)
class warmup(Schedule):
    """Rise in equal steps to the full rate, then stay there.

    Step k of the first w is taken at (k + 1) / w. Multiplied with a decay, both run at the same time; in a `sequence`
    the decay begins when the warm-up is over.

    length: a fraction of the run (0.05) or a number of steps (100); None: all of it. A number of steps that the run
    does not have raises ValueError.
    """

    length: Annotated[int | float | None, LENGTH] = None

    def factor(self, step: int, steps: int) -> float:
        """Return (step + 1) / w, and 1 from then on."""
        rise = steps if self.length is None else count(self.length, steps)
        if rise > steps:
            raise no_room(self, steps)
        return ramp(step, rise)


@dataclass(frozen=True, repr=False)
class linear(Schedule):
    """Fall in a line: 1 - step / steps.

    Minimax for the last iterate of convex problems (Defazio et al. 2023, arXiv:2310.07831).

    >>> [linear()(step, 4) for step in range(4)]
    [1.0, 0.75, 0.5, 0.25]
    """

    _: KW_ONLY
    floor: Share = 0.0

    def factor(self, step: int, steps: int) -> float:
        """Return 1 - step / steps, raised to the floor."""
        return above(self.floor, (steps - step) / steps)


@dataclass(frozen=True, repr=False)
class cosine(Schedule):
    """Fall along half a period of the cosine (Loshchilov & Hutter 2016, arXiv:1608.03983)."""

    _: KW_ONLY
    floor: Share = 0.0

    def factor(self, step: int, steps: int) -> float:
        """Return (1 + cos(pi step / steps)) / 2, raised to the floor."""
        return above(self.floor, half_cosine(step / steps))


@dataclass(frozen=True, repr=False)
class polynomial(Schedule):
    """Fall as a power of what is left of the run: above 1 early, below 1 late."""

    power: Positive = 2.0
    _: KW_ONLY
    floor: Share = 0.0

    def factor(self, step: int, steps: int) -> float:
        """Return (1 - step / steps) ** power, raised to the floor."""
        return above(self.floor, ((steps - step) / steps) ** self.power)


@dataclass(frozen=True, repr=False)
class one_minus_sqrt(Schedule):
    """Fall fast, then slowly: the best known short cooldown (Hägele et al. 2024, arXiv:2405.18392)."""

    _: KW_ONLY
    floor: Share = 0.0

    def factor(self, step: int, steps: int) -> float:
        """Return 1 - sqrt(step / steps), raised to the floor."""
        return above(self.floor, 1 - math.sqrt(step / steps))


@dataclass(frozen=True, repr=False)
class inverse_sqrt(Schedule):
    """Fall as 1 / sqrt(time), for runs whose end is not known: never reaches 0.

    After a warm-up of the same length this is the schedule of Vaswani et al. 2017, arXiv:1706.03762, section 5.3:
    `sequence((4000, warmup()), inverse_sqrt(4000))`.

    timescale: the rate has fallen to 1 / sqrt(2) after this fraction of the run or number of steps.
    """

    timescale: Period = 1

    def factor(self, step: int, steps: int) -> float:
        """Return 1 / sqrt(1 + step / timescale)."""
        return 1 / math.sqrt(1 + step / max(1, count(self.timescale, steps)))


def ramp(step: int, rise: int) -> float:
    """Return the factor of a warm-up of `rise` steps: its first step is not 0, its last is 1."""
    return (step + 1) / rise if step < rise else 1.0


def half_cosine(x: float) -> float:
    """Return the fall from 1 to 0 along half a cosine, for x from 0 to 1."""
    return (1 + math.cos(math.pi * x)) / 2


def above(floor: float, fall: float) -> float:
    """Return a fall from 1 to 0 as one from 1 to the floor."""
    return floor + (1 - floor) * fall
