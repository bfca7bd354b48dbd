"""The optimizer class of each rule, made from its signature."""

import inspect
from collections.abc import Callable
from typing import Any

from steepest.formula.symbol import ELEMENT
from steepest.optim.graph import default_states
from steepest.optim.optimizer import Optimizer
from steepest.optim.settings import OPTIONS, WHOLE, front
from steepest.rule import Rule, class_name
from steepest.rules import RULES


def optimizer_class(rule: Rule) -> type[Optimizer]:
    """Return a subclass of `Optimizer` for one rule. Hyper-parameters may be given in order, as in torch."""
    names = [*front(rule)]

    def __init__(self: Optimizer, params: Any, *values: Any, **options: Any) -> None:
        if len(values) > len(names):
            raise TypeError(
                f"{type(self).__name__} takes at most {len(names)} hyper-parameters in order, got {len(values)}"
            )
        for name, value in zip(names, values, strict=False):
            if name in options:
                raise TypeError(f"{type(self).__name__} got {name} twice")
            options[name] = value
        Optimizer.__init__(self, params, rule, **options)

    __init__.__signature__ = _signature(rule)  # type: ignore[attr-defined]
    fields = {"__init__": __init__, "__doc__": document(rule), "__module__": "steepest.optim", "rule": rule}
    return type(class_name(rule.name), (Optimizer,), fields)


def _signature(rule: Rule) -> inspect.Signature:
    P = inspect.Parameter
    first = [P("self", P.POSITIONAL_ONLY), P("params", P.POSITIONAL_OR_KEYWORD)]
    own = [P(name, P.POSITIONAL_OR_KEYWORD, default=default) for name, default in front(rule).items()]
    options = {name: default for name, default in {**OPTIONS, **WHOLE}.items() if name != "blocks"}
    rest = [P(name, P.KEYWORD_ONLY, default=default) for name, default in options.items()]
    return inspect.Signature([*first, *own, *rest])


def document(rule: Rule) -> str:
    """Return the docstring of the class of a rule."""
    states = sum(shape == ELEMENT for shape in default_states(rule).values())
    parts = [inspect.getdoc(rule.formula) or "", f"Source: {rule.paper or 'your own'}."]
    if rule.same_as:
        parts.append(f"The same numbers as {rule.same_as}.")
    parts.append(f"Memory: {states} tensor{'s' * (states != 1)} of state in the shape of the parameter, by default.")
    parts.append("Options of every rule: see `steepest.optim.Optimizer`.")
    return "\n\n".join(parts)


CLASSES: dict[str, Callable[..., Optimizer]] = {class_name(name): optimizer_class(rule) for name, rule in RULES.items()}
