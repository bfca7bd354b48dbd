"""The public names of steepest, each imported when it is first used."""

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from steepest import (
        optim as optim,
        rules as rules,
        schedules as schedules,
        testing as testing,
    )
    from steepest.doctor import examine as examine, watch as watch
    from steepest.fit import fit as fit
    from steepest.formula import (
        column_mean as column_mean,
        dot as dot,
        eigenbasis as eigenbasis,
        epsilon as epsilon,
        everywhere as everywhere,
        exp as exp,
        is_matrix as is_matrix,
        largest as largest,
        log as log,
        maximum as maximum,
        mean as mean,
        minimum as minimum,
        norm as norm,
        orthogonalize as orthogonalize,
        qr as qr,
        rms as rms,
        row_mean as row_mean,
        sides as sides,
        sign as sign,
        size as size,
        sort_columns as sort_columns,
        sqrt as sqrt,
        square_total as square_total,
        total as total,
        transpose as transpose,
        where as where,
    )
    from steepest.groups import groups as groups
    from steepest.loop import Run as Run, Task as Task
    from steepest.pilot import plan as plan
    from steepest.record import Plan as Plan
    from steepest.rule import rule as rule
    from steepest.schedules import Schedule as Schedule

__version__ = "0.1.0.dev0"

# Public name -> the module that defines it; a module of the package is defined by the package.
_WHERE = {
    "examine": "steepest.doctor",
    "fit": "steepest.fit",
    "groups": "steepest.groups",
    "optim": "steepest",
    "Plan": "steepest.record",
    "plan": "steepest.pilot",
    "rule": "steepest.rule",
    "rules": "steepest",
    "Run": "steepest.loop",
    "Schedule": "steepest.schedules",
    "schedules": "steepest",
    "Task": "steepest.loop",
    "testing": "steepest",
    "watch": "steepest.doctor",
}
_WHERE |= dict.fromkeys(
    [
        "column_mean", "dot", "eigenbasis", "epsilon", "everywhere", "exp", "is_matrix", "largest", "log", "maximum",
        "mean", "minimum", "norm", "orthogonalize", "qr", "rms", "row_mean", "sides", "sign", "size", "sort_columns",
        "sqrt", "square_total", "total", "transpose", "where",
    ],
    "steepest.formula",
)  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        from steepest.spelling import meant

        raise AttributeError(f"steepest has no {name!r}; {meant(name, _WHERE)}")
    if _WHERE[name] == __name__:
        return importlib.import_module(f"{__name__}.{name}")
    value = getattr(importlib.import_module(_WHERE[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*_WHERE, "__version__"]


class _Package(ModuleType):
    """The package, whose public names win over modules of the same name.

    Importing the module `steepest.fit` binds it to `steepest.fit`, where the function `fit` has to stay. The import
    system binds by setting an attribute of the package, so this is where the function takes the module's place.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, ModuleType) and _WHERE.get(name) == value.__name__:
            value = getattr(value, name)
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
