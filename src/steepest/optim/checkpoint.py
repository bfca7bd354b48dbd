"""The state of an optimizer as plain data, keyed by parameter name and checked before it is loaded."""

from typing import Any, NamedTuple

from torch import Tensor

from steepest.formula.symbol import ELEMENT, SHARED
from steepest.optim.checks import check_names, check_values
from steepest.optim.members import state_shape

FORMAT = 1
SCHEDULERS = ("initial_lr", "max_lr", "min_lr", "max_momentum", "base_momentum", "momentum")
"""Keys that torch's schedulers leave in a group: `momentum` in every one, if the optimizer's first rule has it."""


def names(groups: list[dict[str, Any]]) -> dict[Tensor, str]:
    """Return the name of each parameter: its own where it was given, else its place among all."""
    found: dict[Tensor, str] = {}
    for group in groups:
        own = group.get("param_names")
        for place, p in enumerate(group["params"]):
            found[p] = own[place] if own else str(len(found))
    return found


def save(optimizer: Any) -> dict[str, Any]:
    """Return {"state": {name: {key: tensor}}, "param_groups": [...], "shared": {...}, "steps": ..., "format": 1}."""
    name_of = names(optimizer.param_groups)
    return {
        "format": FORMAT,
        "state": {name_of[p]: dict(state) for p, state in optimizer.state.items() if p in name_of},
        "param_groups": [
            {
                **{k: v for k, v in group.items() if k not in ("params", "schedule")},
                "params": [name_of[p] for p in group["params"]],
            }
            for group in optimizer.param_groups
        ],
        "shared": {name: float(value) for name, value in optimizer._shared.items()},
        "steps": (optimizer.stats.steps, optimizer.stats.clipped, optimizer.stats.skipped),
    }


def load(optimizer: Any, saved: dict[str, Any]) -> None:
    """Fill an optimizer from a saved state, after everything has been checked."""
    if not isinstance(saved, dict) or "param_groups" not in saved or "state" not in saved:
        raise ValueError(
            f"this is not the state of an optimizer: expected a dict from state_dict(), got {type(saved).__name__}"
        )
    if saved.get("format") != FORMAT:
        theirs = "torch.optim keeps states by place" if "format" not in saved else f"format {saved['format']!r}"
        raise ValueError(f"only a state of format {FORMAT} can be taken up, and this is another ({theirs})")
    groups = _checked_groups(optimizer, saved["param_groups"])
    parameters = {name: p for p, name in names(optimizer.param_groups).items()}
    if unknown := set(saved["state"]) - set(parameters):
        raise ValueError(f"the saved state holds parameters that are not in this optimizer: {some(unknown)}")
    kept = _kept(optimizer)
    state = {
        parameters[name]: _checked(name, parameters[name], entry, kept[parameters[name]])
        for name, entry in saved["state"].items()
    }
    optimizer.state.clear()
    optimizer.state.update(state)
    for group, loaded in zip(optimizer.param_groups, groups, strict=True):
        group.update(loaded)
    optimizer._shared = dict(saved.get("shared", {}))
    optimizer.stats.restore(*saved.get("steps", (0, 0, 0)))
    optimizer._cut = None


def _checked_groups(optimizer: Any, saved: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the options of each saved group, after comparing the groups with those of the optimizer."""
    here = names(optimizer.param_groups)
    if len(saved) != len(optimizer.param_groups):
        raise ValueError(
            f"the saved state has {len(saved)} groups of parameters, this optimizer {len(optimizer.param_groups)}"
        )
    options = []
    for place, (group, before) in enumerate(zip(optimizer.param_groups, saved, strict=True)):
        own = {here[p] for p in group["params"]}
        missing, unknown = own - set(before["params"]), set(before["params"]) - own
        if missing or unknown:
            raise ValueError(
                f"group {place} of the saved state holds other parameters"
                + (f"; not saved: {some(missing)}" if missing else "")
                + (f"; not in this optimizer: {some(unknown)}" if unknown else "")
            )
        if before.get("rule") != group["rule"]:
            raise ValueError(
                f"group {place} was stepped by {before.get('rule')}, and is stepped by {group['rule']} here"
            )
        loaded = {k: v for k, v in before.items() if k not in ("params", "param_names", "rule")}
        check_names([key for key in loaded if key not in SCHEDULERS], group, f"group {place} of the saved state")
        check_values(optimizer.rule_of(group), {**group, **loaded})
        options.append(loaded)
    return options


class _Kept(NamedTuple):
    """What a state is saved as: its shape, and whether its numbers are complex."""

    shape: tuple[int, ...]
    is_complex: bool


def _kept(optimizer: Any) -> dict[Tensor, dict[str, _Kept]]:
    """Return what each state of each parameter is saved as."""
    found = {}
    for group in optimizer.param_groups:
        shapes = {n: shape for n, shape in optimizer.rule_of(group).states.items() if shape != SHARED}
        shapes |= {"ema": ELEMENT, "compensation": ELEMENT}
        for p in group["params"]:
            found[p] = {
                name: _Kept(state_shape(shape, p, group["blocks"]), shape == ELEMENT and p.is_complex())
                for name, shape in shapes.items()
            } | {"step": _Kept((), False)}
    return found


def _checked(name: str, p: Tensor, entry: dict[str, Any], known: dict[str, _Kept]) -> dict[str, Any]:
    """Return a copy of one parameter's state, on its device, after comparing every shape."""
    result = {}
    for key, value in entry.items():
        if not isinstance(value, Tensor):
            raise ValueError(f"the saved state {key} of {name} is a {type(value).__name__}, and must be a tensor")
        if key not in known:
            raise ValueError(f"the saved state {key!r} of {name} is unknown here; known are {', '.join(known)}")
        if tuple(value.shape) != known[key].shape:
            raise ValueError(
                f"the saved state {key!r} of {name} has shape {tuple(value.shape)}, and here {known[key].shape}"
            )
        if not (value.is_complex() if known[key].is_complex else value.is_floating_point()):
            raise ValueError(f"the saved state {key!r} of {name} is {value.dtype}, and the parameter is {p.dtype}")
        result[key] = value.detach().clone().to(p.device if key != "step" else "cpu")
    return result


def some(items: set[Any]) -> str:
    """Name up to three of many."""
    listed = sorted(map(str, items))
    return ", ".join(listed[:3]) + (f" and {len(listed) - 3} more" if len(listed) > 3 else "")
