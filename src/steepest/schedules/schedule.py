"""A schedule: the learning rate as a pure function of the position in the run."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from numbers import Integral, Real
from typing import Any

from steepest.schedules.settings import Amount, settle


@dataclass(frozen=True, repr=False)
class Schedule(ABC):
    """The factor of the learning rate at each step of a run.

    One of your own is a frozen dataclass with the method `factor`; its fields are its settings.
    """

    def __post_init__(self) -> None:
        settle(self)

    @abstractmethod
    def factor(self, step: int, steps: int) -> float:
        """Return the factor for update `step`, 0 <= step < steps; the caller has checked both."""

    def __call__(self, step: int, steps: int) -> float:
        """Return the factor for update `step` (0 to steps - 1) of a run of `steps` updates.

        Raises ValueError outside the run, TypeError for what is no whole number.
        """
        step, steps = _whole("step", step), _run(steps)
        if not 0 <= step < steps:
            raise ValueError(f"Step {step} is outside the run: {steps} steps are numbered 0 to {steps - 1}.")
        return self.factor(step, steps)

    def over(self, steps: int) -> "BoundSchedule":
        """Bind to a run of `steps` updates: a function of the step alone, as `LambdaLR` takes it."""
        return BoundSchedule(self, steps)

    def __mul__(self, other: "Schedule | float") -> "Schedule":
        return NotImplemented if (right := _as_schedule(other)) is None else product(self, right)

    def __rmul__(self, other: float) -> "Schedule":
        return NotImplemented if (left := _as_schedule(other)) is None else product(left, self)

    __array_ufunc__ = None  # so that a NumPy number on the left leaves the multiplication to __rmul__

    def __repr__(self) -> str:
        shown, by_position = [], True
        for setting in fields(self):
            value = getattr(self, setting.name)
            by_position = by_position and not setting.kw_only and value != setting.default
            if value != setting.default:
                shown.append(repr(value) if by_position else f"{setting.name}={value!r}")
        return f"{type(self).__name__}({', '.join(shown)})"


@dataclass(frozen=True, repr=False)
class BoundSchedule:
    """A schedule over a run of known length: `bound(step)`. After the end it stays at the last value.

    >>> from steepest.schedules import linear
    >>> [linear().over(4)(step) for step in range(6)]
    [1.0, 0.75, 0.5, 0.25, 0.25, 0.25]
    """

    # LambdaLR puts the __dict__ of its function into the checkpoint. A schedule is code, not state: its stays empty.
    __slots__ = ("__dict__", "schedule", "steps")
    schedule: Schedule
    steps: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "steps", _run(self.steps))
        self.schedule.factor(0, self.steps)  # a schedule that does not fit the run says so before the run

    def __call__(self, step: int) -> float:
        """Return the factor for update `step`, counted from 0."""
        return self.schedule(min(step, self.steps - 1), self.steps)

    def __repr__(self) -> str:
        text = f"({self.schedule!r})" if isinstance(self.schedule, _Product) else repr(self.schedule)
        return f"{text}.over({self.steps})"

    def __reduce__(self) -> tuple[Any, ...]:
        return BoundSchedule, (self.schedule, self.steps)


@dataclass(frozen=True, repr=False)
class constant(Schedule):
    """The same factor at every step."""

    value: Amount = 1.0

    def factor(self, step: int, steps: int) -> float:
        """Return the value."""
        return self.value


def product(*factors: Schedule) -> Schedule:
    """Multiply schedules, each over the whole run: `warmup(0.05) * cosine()`."""
    if wrong := [factor for factor in factors if not isinstance(factor, Schedule)]:
        raise TypeError(f"product takes schedules; received {wrong[0]!r}.")
    flat = [part for factor in factors for part in (factor.factors if isinstance(factor, _Product) else (factor,))]
    return _Product(tuple(flat)) if len(flat) != 1 else flat[0]


@dataclass(frozen=True, repr=False)
class _Product(Schedule):
    """Schedules multiplied from left to right."""

    factors: tuple[Schedule, ...]

    def factor(self, step: int, steps: int) -> float:
        """Return the product of all factors."""
        value = 1.0
        for schedule in self.factors:
            value *= schedule.factor(step, steps)
        return value

    def __repr__(self) -> str:
        if len(self.factors) < 2:
            return "product()"
        texts = [repr(schedule) for schedule in self.factors]
        if isinstance(self.factors[0], constant) and not isinstance(self.factors[1], constant):
            texts[0] = repr(self.factors[0].value)
        return " * ".join(texts)


def _as_schedule(other: Any) -> Schedule | None:
    if isinstance(other, Real) and not isinstance(other, bool):
        return constant(float(other))
    return other if isinstance(other, Schedule) else None


def _whole(name: str, value: Any) -> int:
    if isinstance(value, Integral) and not isinstance(value, bool):
        return int(value)
    raise TypeError(f"{name} must be a whole number; received {value!r}.")


def _run(steps: Any) -> int:
    if (number := _whole("steps", steps)) < 1:
        raise ValueError(f"A run has 1 step or more; received steps={steps!r}.")
    return number
