"""What a user wants otherwise for some parameters: options by pattern of the name."""

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from numbers import Real
from typing import Any

from steepest.spelling import meant


def changes(names: Iterable[str], overrides: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the options that overrides set, by name of the parameter. Raises for a pattern that fits none."""
    if not isinstance(overrides, Mapping):
        raise TypeError(f"overrides must be a dict from pattern to options, and got {type(overrides).__name__}")
    found: dict[str, dict[str, Any]] = {name: {} for name in names}
    for pattern, options in overrides.items():
        _check(pattern, options)
        fitting = [name for name in found if fnmatchcase(name, pattern)]
        if not fitting:
            raise ValueError(f"the override {pattern!r} fits no parameter; {meant(pattern, found)}")
        for name in fitting:
            found[name].update(options)
    return found


def _check(pattern: object, options: object) -> None:
    """Raise for what groups itself reads of an override; the other options are looked at by the optimizer."""
    if not isinstance(pattern, str):
        raise TypeError(f"the override {pattern!r} must be a pattern of names, such as 'blocks.0.*'")
    if not isinstance(options, Mapping):
        raise TypeError(f"the override {pattern!r} must be a dict of options, and got {type(options).__name__}")
    if taken := [name for name in ("params", "param_names") if name in options]:
        raise ValueError(f"the override {pattern!r} sets {taken[0]!r}, which follows from the pattern")
    for name in ("lr_factor", "weight_decay"):
        check_amount(f"the override {pattern!r}: {name}", options.get(name, 0))
    blocks = options.get("blocks", 1)
    if type(blocks) is not int:
        raise TypeError(f"the override {pattern!r}: blocks={blocks!r} must be a whole number from 1")


def check_amount(name: str, value: object) -> None:
    """Raise unless the value is a number from 0."""
    if not isinstance(value, Real) or isinstance(value, bool):
        raise TypeError(f"{name}={value!r} must be a number, and is of type {type(value).__name__}")
    if not float(value) >= 0:
        raise ValueError(f"{name}={value!r} must be 0 or more")
