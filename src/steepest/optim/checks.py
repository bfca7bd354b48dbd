"""What an optimizer is given, looked at before anything is done: each mistake is one sentence."""

import math
import re
from collections.abc import Iterable
from numbers import Real
from typing import Any

import numpy as np
import torch

from steepest.formula import FormulaError
from steepest.groups import stack_shape
from steepest.optim.graph import MEASURES
from steepest.optim.settings import GROUP, OPTIONS, PATHS, WHOLE, front, merged
from steepest.rule import Rule
from steepest.spelling import meant

TAKEN_STATES = frozenset({"step", "ema", "compensation", "seed", "size", "epsilon", "dtype", "stored", *MEASURES})
"""What an optimizer keeps, or gives to a formula, beside the states that a rule declares."""

ROUNDINGS = ("nearest", "stochastic", "kahan")
_SYNONYMS = {
    "learning_rate": "lr", "wd": "weight_decay", "epsilon": "eps", "beta": "betas", "beta1": "betas", "b1": "betas",
    "momentum": "betas", "max_grad_norm": "clip", "grad_clip": "clip", "clip_norm": "clip", "ema_decay": "ema",
}  # fmt: skip
_MEAN = re.compile(r"betas?|beta\d|rho")  # the decay of a running mean


def check_names(given: Iterable[str], known: Iterable[str], owner: str) -> None:
    """Raise TypeError for an argument that means nothing to this rule."""
    known = list(known)
    for name in given:
        if name not in known:
            synonym = _SYNONYMS.get(name)
            word = synonym if synonym in known else name
            raise TypeError(f"{owner} has no argument {name!r}; {meant(word, known)}")


def check_rule(rule: Rule) -> None:
    """Raise FormulaError for a rule whose words mean something else here, and would be taken for that."""
    for kind, words, taken in (
        ("state", rule.states, TAKEN_STATES),
        ("hyper-parameter", rule.options, {*OPTIONS, *PATHS, *WHOLE, *GROUP, *merged(rule)}),
    ):
        if both := [word for word in words if word in taken]:
            raise FormulaError(f"rule {rule.name}: the {kind} {both[0]} needs another name, for that one is taken")


def check_values(rule: Rule, group: dict[str, Any]) -> None:
    """Raise TypeError or ValueError for a value that the rule cannot work with."""
    for name, default in front(rule).items():
        _check(name, group[name], default)
    for name in ("maximize", "cautious"):
        _check(name, group[name], OPTIONS[name])
    if type(group["blocks"]) is not int or group["blocks"] < 1:
        raise ValueError(f"blocks={group['blocks']!r} must be a whole number from 1")
    if group["rounding"] not in ROUNDINGS:
        raise ValueError(f"rounding={group['rounding']!r} is not known: write one of {', '.join(map(repr, ROUNDINGS))}")
    if group["state_dtype"] is not None and not getattr(group["state_dtype"], "is_floating_point", False):
        raise TypeError(f"state_dtype={group['state_dtype']!r} must be a floating torch.dtype such as torch.bfloat16")


def _check(name: str, value: Any, default: Any) -> None:
    """Compare a value with the default that a rule declares: its kind, and its sign."""
    if isinstance(default, tuple):
        if not isinstance(value, tuple | list) or len(value) != len(default):
            raise TypeError(f"{name}={value!r} must be {len(default)} numbers, such as {name}={default!r}")
        for part, part_default in zip(value, default, strict=True):
            if part is not None or part_default is not None:
                _check_number(name, part, 0.0 if part_default is None else float(part_default))
    elif isinstance(default, bool):
        if not isinstance(value, bool):
            raise TypeError(f"{name}={value!r} must be True or False")
    elif isinstance(default, float | int):
        if type(default) is int and default > 1 and (type(value) is not int or value < 1):
            raise TypeError(f"{name}={value!r} must be a whole number from 1, such as {default}")
        _check_number(name, value, default)


def _check_number(name: str, value: Any, default: float) -> None:
    if name == "lr" and isinstance(value, torch.Tensor) and value.numel() == 1:
        value = value.item()  # as torch has it, for compiled steps
    if not _is_number(value):
        raise TypeError(f"{name}={value!r} must be a number, and got {type(value).__name__}")
    if math.isnan(value) or (math.isinf(value) and not math.isinf(default)):
        raise ValueError(f"{name}={value!r} must be a finite number")
    if _MEAN.fullmatch(name) and not 0 <= value < 1:
        raise ValueError(f"{name}={value!r}: a running mean needs 0 <= beta < 1")
    if value < 0 <= default:
        raise ValueError(f"{name}={value!r} must not be negative")
    if default < 0 < value and not name.startswith("ns_"):
        raise ValueError(f"{name}={value!r} must not be positive")


def plain(value: Any) -> Any:
    """Return a number of NumPy as Python's, so that a saved state holds plain data; everything else as it is."""
    if isinstance(value, tuple | list):
        return type(value)(plain(part) for part in value) if type(value) in (tuple, list) else value
    return value.item() if isinstance(value, np.generic) else value


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


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


def check_given(params: Any) -> list[Any]:
    """Return the parameters or groups as a list; raise if there are none."""
    unordered = isinstance(params, set | frozenset)
    if isinstance(params, torch.Tensor) or not isinstance(params, Iterable) or unordered:
        why = ", in an order that stays the same," if unordered else ","
        raise TypeError(f"params must be parameters{why} such as model.parameters(), and got {type(params).__name__}")
    params = list(params)
    if not params:
        raise ValueError("the optimizer was given no parameters; pass model.parameters() of a model that has some")
    return params


def check_params(group: dict[str, Any], rule: Rule, orthogonal: bool) -> list[Any]:
    """Return the parameters of a group as a list; raise if one is there twice or cannot be stepped as asked.

    orthogonal: the rule makes matrices orthogonal, so it steps nothing else.
    """
    if "params" not in group:
        raise ValueError('a group has no "params": give it the parameters it is for')
    params = [group["params"]] if isinstance(group["params"], torch.Tensor) else group["params"]
    if isinstance(params, set | frozenset) or not isinstance(params, Iterable):
        raise TypeError(f'"params" of a group must be a list of parameters, and got {type(params).__name__}')
    params = list(params)
    tensors = [p[1] if isinstance(p, tuple) else p for p in params]
    if len({id(p) for p in tensors}) < len(tensors):
        raise ValueError("a parameter is given twice in one group, and would be stepped twice: give each once")
    for p in tensors:
        _check_parameter(p, group, rule, orthogonal)
    return params


def check_stepped(p: torch.Tensor) -> None:
    """Raise TypeError for a parameter that has a gradient, and that no rule can move."""
    if not (p.is_floating_point() or p.is_complex()):
        raise TypeError(f"a parameter with a gradient is {p.dtype}, and a step needs floating-point numbers")


def _check_parameter(p: Any, group: dict[str, Any], rule: Rule, orthogonal: bool) -> None:
    if isinstance(p, torch.nn.parameter.UninitializedParameter):
        raise ValueError("a parameter has no shape yet (a lazy module): run the model on one batch first")
    if not isinstance(p, torch.Tensor):
        raise TypeError(f"params must be tensors, such as model.parameters(), and one is {type(p).__name__}")
    if p.layout != torch.strided:
        raise ValueError(f"a parameter has the layout {p.layout}, and only its gradient may be sparse")
    if group["rounding"] == "stochastic" and p.dtype == torch.float16:
        raise ValueError("rounding='stochastic' is for bfloat16 parameters, and one is float16: write 'kahan'")
    if p.is_complex() and (rule.matrix or group["blocks"] != 1):
        raise ValueError(f"{rule.name} looks at matrices of real numbers, and a parameter is {p.dtype}")
    if orthogonal and p.ndim < 2:
        raise ValueError(
            f"{rule.name} steps matrices, and a parameter has the shape {tuple(p.shape)}: "
            f"give steepest.groups(model) in place of model.parameters(), which leaves such ones to AdamW"
        )
    if group["blocks"] != 1:
        stack_shape(p.shape, group["blocks"])
