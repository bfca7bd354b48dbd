"""What the settings of a schedule may be; said as the type of a field, checked when a schedule is made."""

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from numbers import Integral, Real
from typing import Annotated, Any


@dataclass(frozen=True)
class Must:
    """A condition on a setting, with the words for it."""

    be: str
    holds: Callable[[Any], bool]

    def __repr__(self) -> str:
        return self.be


Share = Annotated[float, Must("a number from 0 to 1", lambda x: 0 <= x <= 1)]
Part = Annotated[float, Must("a number above 0 and at most 1", lambda x: 0 < x <= 1)]
Amount = Annotated[float, Must("a finite number, 0 or more", lambda x: 0 <= x < math.inf)]
Positive = Annotated[float, Must("a finite number above 0", lambda x: 0 < x < math.inf)]
Growth = Annotated[float, Must("a finite number, 1 or more", lambda x: 1 <= x < math.inf)]

LENGTH = Must(
    "a fraction of the run below 1, such as 0.1, or a whole number of steps, such as 100",
    lambda x: x >= 0 and (isinstance(x, int) or x < 1),
)
Length = Annotated[int | float, LENGTH]
Period = Annotated[int | float, Must(f"above 0: {LENGTH}", lambda x: x > 0 and LENGTH.holds(x))]


def settle(schedule: Any) -> None:
    """Check each annotated field of a dataclass and make its value a plain Python number; None where it is the default.

    Raises TypeError for what is no number, ValueError for a number outside its range.
    """
    for setting in fields(schedule):
        value = getattr(schedule, setting.name)
        for must in getattr(setting.type, "__metadata__", ()):
            if value is not None or setting.default is not None:
                where = f"{type(schedule).__name__}: {setting.name}"
                object.__setattr__(schedule, setting.name, checked(where, value, must))


def checked(where: str, value: Any, must: Must) -> int | float:
    """Return value as an int or float; `where` begins the sentence of the error."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{where} must be {must.be}; received {value!r}.")
    number = int(value) if isinstance(value, Integral) else float(value)
    if not must.holds(number):
        raise ValueError(f"{where} must be {must.be}; received {value!r}.")
    return number


def count(length: int | float, steps: int) -> int:
    """Return the number of steps that a length stands for in a run of `steps`."""
    return length if isinstance(length, int) else round(length * steps)


def no_room(schedule: Any, steps: int) -> ValueError:
    """Return the error of a schedule whose numbers of steps are more than it has."""
    return ValueError(f"{schedule!r} does not fit into {steps} steps: give it fewer, or fractions of the run.")
