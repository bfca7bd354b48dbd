"""What a cause is: how it shows itself, how it is found, what is to be done; and the catalogue of all of them."""

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from steepest.doctor.lab import Lab
    from steepest.doctor.replay import Change

STEP, MARK, EVENT, IDLE = "step", "mark", "event", "idle"
"""When a check looks: before sampled steps, with the gradient that is about to be used; now and then, and at the end;
when the loss is not finite or has blown up; when gradients arrive and no step is made."""

EXACT, REPLAYED, STATISTIC = 3.0, 2.0, 1.0
"""How much a finding weighs: an invariant does not hold; a replay with one thing changed heals; numbers look so."""


@dataclass(frozen=True)
class Found:
    """What a check has found.

    evidence: name -> number or text. proven: whether an intervention confirmed it. onset: the step it began with.
    weight: EXACT, REPLAYED or STATISTIC, or between, if it is not the cause's own. where: file and line, if known.
    cure: what heals it in a replay.
    """

    summary: str
    evidence: dict[str, Any] = field(default_factory=dict)
    proven: bool = False
    onset: int = 0
    weight: float | None = None
    where: str = ""
    cure: "Change | None" = None


Check = Callable[["Lab"], Found | None]
Repair = Callable[["Lab", Found], Sequence["Change"]]
"""Returns changes that may undo what was found, mildest first: as a replay makes them, a run can be changed."""


@dataclass(frozen=True)
class Cause:
    """One cause of trouble. masks: ids, and letters of classes, of what it explains, which is then not said.

    The first sentence of the check's docstring is what a user sees of it, the rest is how it is found.
    """

    id: str
    name: str
    fix: str
    when: str
    weight: float
    masks: frozenset[str]
    look: Check

    @property
    def symptom(self) -> str:
        """What a user sees of it."""
        return (inspect.getdoc(self.look) or "").partition("\n\n")[0]

    @property
    def proof(self) -> str:
        """How it is found."""
        return (inspect.getdoc(self.look) or "").partition("\n\n")[2]

    def explains(self, other: "Cause") -> bool:
        """Return whether the other is but a symptom where this one is the cause.

        A class is explained without its invariants: where one does not hold, that is a fault beside the other.
        """
        whole_class = other.id[0] in self.masks and other.weight < EXACT
        return other.id != self.id and (other.id in self.masks or whole_class)


def cause(
    number: str, name: str, *, fix: str, when: str = MARK, weight: float = STATISTIC, masks: str = ""
) -> Callable[[Check], Cause]:
    """Make a cause of the check that finds it. masks: what it explains, between spaces."""

    def make(check: Check) -> Cause:
        return Cause(number, name, fix, when, weight, frozenset(masks.split()), check)

    return make


@cache
def catalogue() -> dict[str, tuple[Cause, ...]]:
    """Return id -> causes of that id, from all files of `causes`, by id: some are looked for in two ways."""
    from steepest.doctor import causes

    found: dict[str, list[Cause]] = {}
    for module in pkgutil.iter_modules(causes.__path__):
        members = vars(importlib.import_module(f"{causes.__name__}.{module.name}"))
        for member in members.values():
            if isinstance(member, Cause) and member not in found.setdefault(member.id, []):
                found[member.id].append(member)
    return {number: tuple(found[number]) for number in sorted(found)}


def repair_of(cause: Cause) -> Repair | None:
    """Return what is offered against a cause in a run, `repair` in its file; None where only its user can act."""
    return vars(importlib.import_module(cause.look.__module__)).get("repair")


def demonstration(number: str) -> Callable[[Any], None]:
    """Return the program that shows a cause, which is called `demo` in its file. KeyError where there is none."""
    return vars(importlib.import_module(catalogue()[number][0].look.__module__))["demo"]


def checks(when: str) -> list[Cause]:
    """Return the causes that are looked for at such a time."""
    return [each for same in catalogue().values() for each in same if each.when == when]
