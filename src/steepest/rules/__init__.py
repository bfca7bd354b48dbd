"""What a step is: one file for each update rule, in the letters of its paper. Knows only arithmetic."""

import importlib
import pkgutil

from steepest.rule import Rule

RULES: dict[str, Rule] = {
    module.name: getattr(importlib.import_module(f"{__name__}.{module.name}"), module.name)
    for module in sorted(pkgutil.iter_modules(__path__), key=lambda module: module.name)
}
globals().update(RULES)  # a rule and its file share a name: `rules.adamw` is the rule


def __getattr__(name: str) -> Rule:
    raise AttributeError(f"there is no rule {name!r}; the rules are {', '.join(RULES)}")
