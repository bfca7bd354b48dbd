"""Hyper-parameters as users write them: torch's names, checked, with "did you mean" for misspelt ones."""

import difflib
import math
import re
from collections.abc import Iterable
from functools import cache
from numbers import Real
from typing import Any

import torch

from steepest.groups import stack_shape
from steepest.rule import Rule
from steepest.rules import RULES

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

ROUNDINGS = ("nearest", "stochastic", "kahan")
_SYNONYMS = {
    "learning_rate": "lr", "wd": "weight_decay", "epsilon": "eps", "beta": "betas", "beta1": "betas", "b1": "betas",
    "momentum": "betas", "max_grad_norm": "clip", "grad_clip": "clip", "clip_norm": "clip", "ema_decay": "ema",
}  # fmt: skip
_NOT_NEGATIVE = ("lr", "eps", "weight_decay", "momentum")
_BETA = re.compile(r"beta\d")


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


def hyper(rule: Rule, group: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of a rule's formula from a group of parameters."""
    values = {name: group[name] for name in rule.options if name in group}
    if _betas(rule):
        values.update(zip(_betas(rule), group["betas"], strict=True))
    values["lr"] = float(values["lr"])
    return values


def check_names(given: Iterable[str], known: Iterable[str], owner: str) -> None:
    """Raise TypeError for an argument that means nothing to this rule."""
    known = list(known)
    for name in given:
        if name not in known:
            near = [_SYNONYMS.get(name, "")] if _SYNONYMS.get(name) in known else []
            near = near or difflib.get_close_matches(name, known, n=1, cutoff=0.5)
            advice = f"did you mean {near[0]}?" if near else f"it takes {', '.join(k for k in known if k not in PATHS)}"
            raise TypeError(f"{owner} has no argument {name!r}: {advice}")


def check_values(rule: Rule, group: dict[str, Any]) -> None:
    """Raise TypeError or ValueError for a value that the rule cannot work with."""
    for name, default in (front(rule) | OPTIONS).items():
        _check(name, group[name], default)
    if type(group["blocks"]) is not int or group["blocks"] < 1:
        raise ValueError(f"blocks={group['blocks']!r} must be a whole number from 1")
    if group["rounding"] not in ROUNDINGS:
        raise ValueError(f"rounding={group['rounding']!r} is not known: write one of {', '.join(map(repr, ROUNDINGS))}")
    if group["state_dtype"] is not None and not getattr(group["state_dtype"], "is_floating_point", False):
        raise TypeError(f"state_dtype={group['state_dtype']!r} must be a floating torch.dtype such as torch.bfloat16")


def _check(name: str, value: Any, default: Any) -> None:
    if isinstance(default, tuple):
        if not isinstance(value, tuple | list) or len(value) != len(default):
            raise TypeError(f"{name}={value!r} must be {len(default)} numbers, such as {name}={default!r}")
        for part, part_default in zip(value, default, strict=True):
            _check("betas" if name == "betas" else name + "[]", part, part_default)
    elif isinstance(default, bool):
        if not isinstance(value, bool):
            raise TypeError(f"{name}={value!r} must be True or False")
    elif isinstance(default, float | int):
        _check_number(name, value)


def _check_number(name: str, value: Any) -> None:
    if isinstance(value, torch.Tensor) and value.numel() == 1:
        value = value.item()
    if not _is_number(value):
        raise TypeError(f"{name}={value!r} must be a number, and got {type(value).__name__}")
    if math.isnan(value) or (math.isinf(value) and name in _NOT_NEGATIVE):
        raise ValueError(f"{name}={value!r} must be a finite number")
    if name in _NOT_NEGATIVE and value < 0:
        raise ValueError(f"{name}={value!r} must not be negative")
    if (name == "betas" or _BETA.fullmatch(name)) and not 0 <= value < 1:
        raise ValueError(f"{name}={value!r}: a running mean needs 0 <= beta < 1")


def find_rule(rule: Rule | str) -> Rule:
    """Return a rule by itself or by its name."""
    if isinstance(rule, str):
        check_names([rule], RULES, "steepest.rules")
        return RULES[rule]
    if not isinstance(rule, Rule):
        raise TypeError(f"rule={rule!r} must be a rule or the name of one, such as 'adamw'")
    return rule


def check_whole(options: dict[str, Any]) -> tuple[float | None, bool, float | None]:
    """Take the options that concern all parameters at once out of all options, and check them."""
    if options.pop("differentiable", False):
        raise ValueError("differentiable=True is not offered: a step writes in place, outside of autograd")
    clip, skip, ema = (options.pop(name, default) for name, default in WHOLE.items())
    if clip is not None and not (_is_number(clip) and 0 < clip < math.inf):
        raise ValueError(f"clip={clip!r} must be a positive bound of the gradient norm, or None")
    if ema is not None and not (_is_number(ema) and 0 < ema < 1):
        raise ValueError(f"ema={ema!r} must be a decay between 0 and 1, such as 0.999, or None")
    if not isinstance(skip, bool):
        raise TypeError(f"skip_nonfinite={skip!r} must be True or False")
    return clip, skip, ema


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def check_params(group: dict[str, Any], matrices: bool) -> list[Any]:
    """Return the parameters of a group as a list; raise if one is there twice or cannot be stepped as asked.

    matrices: the rule steps nothing but matrices.
    """
    params = [group["params"]] if isinstance(group["params"], torch.Tensor) else list(group["params"])
    tensors = [p[1] if isinstance(p, tuple) else p for p in params]
    if len({id(p) for p in tensors}) < len(tensors):
        raise ValueError("a parameter is given twice in one group, and would be stepped twice: give each once")
    for p in tensors:
        if isinstance(p, torch.nn.parameter.UninitializedParameter):
            raise ValueError("a parameter has no shape yet (a lazy module): run the model on one batch first")
        if not isinstance(p, torch.Tensor):
            raise TypeError(f"params must be tensors, such as model.parameters(), and one is {type(p).__name__}")
        if group["rounding"] == "stochastic" and p.dtype == torch.float16:
            raise ValueError("rounding='stochastic' is for bfloat16 parameters, and one is float16: write 'kahan'")
        if matrices and p.ndim < 2:
            raise ValueError(
                f"{group['rule']} steps matrices, and a parameter has the shape {tuple(p.shape)}: "
                f"give steepest.groups(model) in place of model.parameters(), which leaves such ones to AdamW"
            )
        if group["blocks"] != 1:
            stack_shape(p.shape, group["blocks"])
    return params


def check_given(params: Any) -> list[Any]:
    """Return the parameters or groups as a list; raise if there are none."""
    if isinstance(params, torch.Tensor) or not isinstance(params, Iterable):
        raise TypeError(f"params must be parameters, such as model.parameters(), and got {type(params).__name__}")
    params = list(params)
    if not params:
        raise ValueError("the optimizer was given no parameters; pass model.parameters() of a model that has some")
    return params
