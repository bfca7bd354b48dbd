"""Schedules made of others, one after another."""

from dataclasses import KW_ONLY, dataclass, field
from itertools import pairwise
from typing import Any

from steepest.schedules.schedule import Schedule
from steepest.schedules.settings import LENGTH, Length, checked, count, no_room
from steepest.schedules.shapes import one_minus_sqrt, ramp


@dataclass(frozen=True, repr=False, init=False)
class sequence(Schedule):
    """One schedule after another, each over its own part of the run; the last takes what remains.

    >>> from steepest.schedules import linear, warmup
    >>> trapezoid = sequence((0.4, warmup()), linear())
    >>> [round(trapezoid(step, 10), 2) for step in range(10)]
    [0.25, 0.5, 0.75, 1.0, 1.0, 0.83, 0.67, 0.5, 0.33, 0.17]

    parts: pairs (length, schedule), length a fraction of the run or a number of steps; then the last schedule alone.
    Raises ValueError when the lengths leave nothing for the last, or when the run is shorter than they ask for.
    """

    parts: tuple[tuple[int | float, Schedule], ...]
    last: Schedule

    def __init__(self, *parts: tuple[float, Schedule] | Schedule) -> None:
        if not parts or not isinstance(parts[-1], Schedule):
            raise TypeError(
                "sequence ends with a schedule alone, which takes what remains of the run: "
                f"sequence((0.1, warmup()), linear()); received {parts[-1] if parts else 'nothing'!r}."
            )
        object.__setattr__(self, "parts", tuple(_part(part) for part in parts[:-1]))
        object.__setattr__(self, "last", parts[-1])
        if (taken := sum(length for length, _ in self.parts if isinstance(length, float))) >= 1:
            raise ValueError(f"sequence: the parts before the last take {taken:.4g} of the run, which leaves nothing.")

    def factor(self, step: int, steps: int) -> float:
        """Return the factor of the part that the step is in, at its place in that part."""
        ends = self._ends(steps)
        if ends[-1] > steps:
            raise no_room(self, steps)
        for (start, end), (_, schedule) in zip(pairwise(ends), self.parts, strict=True):
            if step < end:
                return schedule.factor(step - start, end - start)
        return self.last.factor(step - ends[-1], steps - ends[-1])

    def _ends(self, steps: int) -> list[int]:
        ends, reached = [0], 0.0
        for length, _ in self.parts:
            reached += length if isinstance(length, int) else length * steps
            ends.append(round(reached))
        return ends

    def __repr__(self) -> str:
        return f"sequence({', '.join(repr(part) for part in (*self.parts, self.last))})"


@dataclass(frozen=True, repr=False)
class wsd(Schedule):
    """Warm up, stay, decay: the length of the run may be chosen late (Hu et al. 2024, arXiv:2404.06395).

    warmup, decay: fractions of the run or numbers of steps. shape: the schedule of the decay.
    """

    warmup: Length = 0.05
    decay: Length = 0.2
    _: KW_ONLY
    shape: Schedule = field(default=one_minus_sqrt())

    def __post_init__(self) -> None:
        super().__post_init__()
        if sum(part for part in (self.warmup, self.decay) if isinstance(part, float)) > 1:
            raise ValueError(f"wsd: warmup={self.warmup} and decay={self.decay} together are more than the run.")

    def factor(self, step: int, steps: int) -> float:
        """Return the factor of the phase that the step is in."""
        decay_from = count(1 - self.decay, steps) if isinstance(self.decay, float) else steps - self.decay
        rise = count(self.warmup, steps)
        if rise > decay_from and (isinstance(self.warmup, int) or isinstance(self.decay, int)):
            raise no_room(self, steps)
        if step >= decay_from:
            return self.shape.factor(step - decay_from, steps - decay_from)
        return ramp(step, min(rise, decay_from))  # fractions that fill the run may be rounded to one step too many


def _part(part: Any) -> tuple[int | float, Schedule]:
    if not (isinstance(part, tuple) and len(part) == 2 and isinstance(part[1], Schedule)):
        raise TypeError(f"A part of a sequence is a pair (length, schedule), as (0.1, warmup()); received {part!r}.")
    return checked("sequence: a length", part[0], LENGTH), part[1]
