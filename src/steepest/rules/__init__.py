"""What a step is: one file for each update rule, in the letters of its paper. Knows only arithmetic."""

import importlib
import pkgutil

from steepest.rule import Rule, class_name
from steepest.spelling import meant

RULES: dict[str, Rule] = {
    module.name: getattr(importlib.import_module(f"{__name__}.{module.name}"), module.name)
    for module in sorted(pkgutil.iter_modules(__path__), key=lambda module: module.name)
}
globals().update(RULES)  # a rule and its file share a name: `rules.adamw` is the rule
_SPELLINGS = {class_name(name).lower(): rule for name, rule in RULES.items()} | RULES


def find(rule: Rule | str) -> Rule:
    """Return a rule by itself, by its name, or by the name of its class, in capitals or not.

    >>> find("schedule_free_sgd") is find("ScheduleFreeSGD")
    True

    Raises ValueError for a name that no rule has and TypeError for what is neither a rule nor a name.
    """
    if isinstance(rule, Rule):
        return rule
    if not isinstance(rule, str):
        raise TypeError(f"rule={rule!r} must be a rule or the name of one, such as 'adamw'.")
    if rule.lower() not in _SPELLINGS:
        raise ValueError(_unknown(rule))
    return _SPELLINGS[rule.lower()]


def _unknown(name: str) -> str:
    return f"There is no rule {name!r}; {meant(name, RULES)}"


def __getattr__(name: str) -> Rule:
    raise AttributeError(_unknown(name))
