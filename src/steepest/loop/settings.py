"""The settings of a run, and what it means when they have changed since a checkpoint was written."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

SAFE = frozenset({"workers", "checkpoint_activations", "evaluate_every", "patience"})
"""Settings that do not touch the updates. (Parts of a batch do: dropout draws and batch norms see them one by one.)"""

CONTENTS = ("params", "param_names", "rule", "initial_lr", "name")
"""What a group of parameters holds besides hyper-parameters."""


@dataclass(frozen=True)
class Change:
    """A setting that is not what it was."""

    name: str
    before: Any
    now: Any

    @property
    def safe(self) -> bool:
        """Whether the updates to come are the same nevertheless."""
        return self.name in SAFE

    def __str__(self) -> str:
        return f"{self.name} {self.before} -> {self.now}"


BUDGET = ("steps", "epochs", "time")
"""Settings that an open run is not made by: where it ends is its state."""


def changes(before: dict[str, Any], now: dict[str, Any], is_open: bool = False) -> list[Change]:
    """Return the settings that differ, those first that change the result."""
    names = [*now, *(name for name in before if name not in now)]
    names = [name for name in names if not (is_open and name in BUDGET)]
    found = [Change(name, before.get(name), now.get(name)) for name in names if before.get(name) != now.get(name)]
    return sorted(found, key=lambda change: change.safe)


def describe_changes(found: list[Change]) -> list[str]:
    """Return a sentence for each class of changes."""
    told = []
    for safe, words in (
        (False, "changes the result: what follows is not what the run would have been"),
        (True, "safe"),
    ):
        listed = ", ".join(str(change) for change in found if change.safe is safe)
        if listed:
            told.append(f"changed since the checkpoint ({words}): {listed}")
    return told


def shapes(model: nn.Module) -> dict[str, list[Any]]:
    """Return dtype and shape of everything that the model saves, by name."""
    return {
        name: [str(value.dtype).removeprefix("torch."), *value.shape]
        for name, value in model.state_dict().items()
        if isinstance(value, torch.Tensor)
    }


def check_shapes(before: dict[str, list[Any]], now: dict[str, list[Any]], where: Any) -> None:
    """Raise ValueError, naming the first difference, unless a checkpoint fits the model."""
    for name in [*before, *now]:
        if before.get(name) != now.get(name):
            there, here = (_tensor(shapes.get(name)) for shapes in (before, now))
            raise ValueError(
                f"{where} belongs to another model: {name} is {there} there and {here} here. "
                "Choose another out= folder, or give the model that it was made with."
            )


def _tensor(described: list[Any] | None) -> str:
    return "missing" if described is None else f"{described[0]}{described[1:]}"


def hyper_parameters(optimizer: Optimizer) -> list[dict[str, Any]]:
    """Return the options of each group of parameters, as plain data."""
    return [
        {name: _plain(value) for name, value in group.items() if name not in CONTENTS}
        for group in optimizer.param_groups
    ]


def put_back(
    optimizer: Optimizer, before: list[dict[str, Any]], now: list[dict[str, Any]], own: list[dict]
) -> list[Change]:
    """Let options that the user has changed since a checkpoint hold, in place of the saved ones; return them.

    A loaded state brings the options of its time along. before, now: `hyper_parameters` then and now, of optimizers as
    they were made. own: the options themselves, as the user gave them now.
    """
    found = []
    for place, (group, was, is_now, values) in enumerate(zip(optimizer.param_groups, before, now, own, strict=False)):
        for name in is_now:
            if was.get(name) != is_now[name]:
                group[name] = values[name]
                if name == "lr":
                    group.pop("initial_lr", None)
                found.append(Change(f"{name} of group {place}", was.get(name), is_now[name]))
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if isinstance(value, torch.Tensor):
        return value.tolist()
    return value if isinstance(value, str | int | float | None) else str(value)
