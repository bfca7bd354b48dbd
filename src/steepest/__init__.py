"""The public names of steepest, each imported when it is first used."""

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from steepest import rules as rules
    from steepest import schedules as schedules
    from steepest.rule import rule as rule
    from steepest.schedules import Schedule as Schedule

__version__ = "0.1.0.dev0"

# Public name -> the module that defines it; a module of the package is defined by the package.
_WHERE = {
    "Schedule": "steepest.schedules",
    "rule": "steepest.rule",
    "rules": "steepest",
    "schedules": "steepest",
}


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"steepest has no {name!r}; its names are {', '.join(_WHERE)}.")
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
