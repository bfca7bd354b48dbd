"""Hyper-parameters as users write them: under torch's names."""

from functools import cache
from typing import Any

from steepest.rule import Rule

OPTIONS: dict[str, Any] = {
    "maximize": False,
    "cautious": False,
    "rounding": "nearest",
    "state_dtype": None,
    "blocks": 1,
}
"""Options of every rule, for each group of parameters."""

PATHS = ("foreach", "fused", "capturable", "differentiable")
"""Arguments by which torch chooses between its copies of a rule. Here there is one, so they mean nothing."""

WHOLE: dict[str, Any] = {"clip": None, "skip_nonfinite": False, "ema": None}
"""Options that concern all parameters at once."""

GROUP = ("params", "param_names", "rule", "schedule", "name", "initial_lr")
"""Keys of a group that are not hyper-parameters: torch's and ours."""


def front(rule: Rule) -> dict[str, Any]:
    """Return a rule's hyper-parameters under the names users know: beta1, beta2, ... are written betas=(...)."""
    betas = _betas(rule)
    shown: dict[str, Any] = {}
    for name, default in rule.options.items():
        if name in betas:
            shown.setdefault("betas", tuple(rule.options[beta] for beta in betas))
        else:
            shown[name] = default
    return shown


@cache
def _betas(rule: Rule) -> tuple[str, ...]:
    """Return the options that are written as one: beta1, beta2, ... where they stand side by side."""
    names = list(rule.options)
    if "beta1" not in names:
        return ()
    following = names[names.index("beta1") :]
    betas = tuple(name for place, name in enumerate(following) if name == f"beta{place + 1}")
    return betas if len(betas) > 1 else ()


def merged(rule: Rule) -> tuple[str, ...]:
    """Return the names under which several hyper-parameters of a rule are written as one."""
    return ("betas",) if _betas(rule) else ()


def hyper(rule: Rule, group: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of a rule's formula from a group of parameters."""
    values = {name: group[name] for name in rule.options if name in group}
    if _betas(rule):
        values.update(zip(_betas(rule), group["betas"], strict=True))
    values["lr"] = float(values["lr"])
    return values
