"""What a case is, what its program is given, and how the cases of a folder are collected."""

import importlib
import pkgutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from faults.causes import CAUSES

PARTS = ("dev", "healthy", "blind", "second")
OPTIMIZERS = {"SGD": {"momentum": 0.9}, "Adam": {}, "AdamW": {}, "RMSprop": {}, "Adagrad": {}, "LBFGS": {}}
"""Name in torch.optim -> what a program would give besides the rate."""

Loss = Callable[[nn.Module, Any], Tensor]
Measure = Callable[[], float]
"""Says how good the trained model is, lower is better."""


@dataclass(frozen=True)
class Case:
    """A training program, and what is wrong with it.

    causes: a tuple for each fault that is planted, of the ids that name it, the planted one first; none in a control.
    severity: 1 is marginal, 3 is clear. onset: the step, counted in batches from 0, at which the fault begins;
    decidable: the first one at which it can be known. scary: a control that looks like a fault.
    """

    part: str
    name: str
    program: Callable[["Run"], Measure]
    family: str
    optimizer: str
    causes: tuple[tuple[str, ...], ...] = ()
    severity: int = 0
    onset: int = 0
    decidable: int = 0
    scary: bool = False

    @property
    def planted(self) -> str:
        """Return the planted ids, joined by +."""
        return "+".join(ids[0] for ids in self.causes)


@dataclass
class Run:
    """What a program is given: whether the fault is to be there, and what makes the doctor.

    doctors: those that the program asked for.
    """

    case: Case
    faulty: bool
    seed: int
    make: Callable[..., Any]
    doctors: list[Any] = field(default_factory=list)

    @property
    def task(self) -> Any:
        """Return model, loss and data of the case's family."""
        from faults.families import task

        return task(self.case.family)

    @property
    def rate(self) -> float:
        """Return a good learning rate for the family and the optimizer."""
        return self.task.rates[self.case.optimizer]

    def watch(self, model: nn.Module, optimizer: Any, loss: Loss | None = None, scheduler: Any = None) -> Any:
        """Return what watches the training; it is called as `steepest.watch` is."""
        self.doctors.append(self.make(model, optimizer, loss=loss, scheduler=scheduler))
        return self.doctors[-1]

    def optimizer(self, parameters: Iterable[Any], lr: float | None = None, **more: Any) -> Any:
        """Return the case's optimizer, with the family's rate unless another is given."""
        settings = {"lr": self.rate if lr is None else lr, **OPTIMIZERS[self.case.optimizer], **more}
        return getattr(torch.optim, self.case.optimizer)(parameters, **settings)

    def pick(self, marginal: Any, medium: Any, clear: Any) -> Any:
        """Return what belongs to the case's severity."""
        return (marginal, medium, clear)[self.case.severity - 1]

    def either(self, faulty: Any, sound: Any) -> Any:
        """Return the first where the fault is to be there, else the second."""
        return faulty if self.faulty else sound


_FOUND: dict[str, Case] = {}


def _add(case: Case) -> None:
    if case.name in _FOUND:
        raise ValueError(f"Two cases are called {case.name}: give one of the programs another name.")
    _FOUND[case.name] = case


def plant(causes: str, *where: str, also: str = "", onset: int = 0, decidable: int | None = None) -> Callable:
    """Make cases of a program: one for each "family optimizer severity" in where.

    causes: the ids that are planted, joined by + where there are several. also: further ids that name the same fault,
    between spaces. onset and decidable: as in Case; what begins at onset can be known then, unless another step is
    given.
    """
    ids = causes.split("+")
    unknown = [each for each in (*ids, *also.split()) if each not in CAUSES]
    if unknown:
        raise ValueError(f"There is no cause {', '.join(unknown)}; see causes.py.")

    def collect(program: Callable[[Run], Measure]) -> Callable[[Run], Measure]:
        for each in where:
            family, optimizer, severity = each.split()
            name = ".".join([causes, program.__name__, family, optimizer, severity])
            named = tuple((one, *also.split()) for one in ids)
            start = onset if decidable is None else decidable
            _add(Case(_part(program), name, program, family, optimizer, named, int(severity), onset, start))
        return program

    return collect


def healthy(*where: str, scary: bool = False) -> Callable:
    """Make controls of a program: one for each "family optimizer" in where. scary: it looks like a fault."""

    def collect(program: Callable[[Run], Measure]) -> Callable[[Run], Measure]:
        for each in where:
            family, optimizer = each.split()
            name = ".".join(["ok", program.__name__, family, optimizer])
            _add(Case(_part(program), name, program, family, optimizer, scary=scary))
        return program

    return collect


def _part(program: Callable) -> str:
    """Return the folder that a program is written in."""
    return program.__module__.split(".")[1]


@cache
def cases(part: str) -> tuple[Case, ...]:
    """Return the cases of all modules in the folder of that name, by name."""
    package = importlib.import_module(f"faults.{part}")
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"faults.{part}.{module.name}")
    return tuple(sorted((case for case in _FOUND.values() if case.part == part), key=lambda case: case.name))


def every() -> dict[str, Case]:
    """Return name -> case, all parts."""
    return {case.name: case for part in PARTS for case in cases(part)}


def named(name: str) -> Case:
    """Return the case of that name; only the parts before the one that has it are read."""
    for part in PARTS:
        for case in cases(part):
            if case.name == name:
                return case
    raise ValueError(f"No case is called {name!r}.")


def chosen(part: str = "", prefix: str = "", forms: bool = False) -> list[Case]:
    """Return the cases of a part, or of all, whose names begin so; with forms, one of each program.

    Raises ValueError when there is none.
    """
    found = [case for each in PARTS if part in ("", each) for case in cases(each) if case.name.startswith(prefix)]
    if forms:
        found = list({case.program: case for case in reversed(found)}.values())[::-1]
    if not found:
        raise ValueError(f"No case of {part or 'any part'} begins with {prefix!r}.")
    return found
