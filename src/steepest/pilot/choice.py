"""A plan made into what trains: optimizer, schedule, and the folding of first layers."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from steepest.groups import Groups, groups
from steepest.loop import Factor
from steepest.optim import Muon
from steepest.pilot.folding import Fold, Folding
from steepest.record import Plan
from steepest.schedules.text import parse


@dataclass
class Choice:
    """What to train with. `begin` is for a run that begins, and not for one that goes on."""

    optimizer: Optimizer
    schedule: Factor
    folding: Folding
    _model: nn.Module
    _settings: dict[str, Any]

    @torch.no_grad()
    def begin(self) -> None:
        """Change what the plan changes of the weights before the first step."""
        names = set(self._settings["anew"])
        for name, fold in zip(self._settings["inputs"], self.folding.folds, strict=True):
            if name in names:
                fold.begin_anew()
        output = self._settings["output"]
        if output is None:
            return
        bias = self._model.get_submodule(output["layer"]).bias
        if isinstance(bias, torch.Tensor):
            bias += torch.tensor(output["shift"], dtype=bias.dtype, device=bias.device)


def build(model: nn.Module, plan: Plan) -> Choice:
    """Set up the training that a plan describes. ValueError when it was made for another model."""
    settings = plan.settings
    assigned = assign(model, settings)
    optimizer = Muon(assigned, lr=settings["rate"], skip_nonfinite=True, rounding=settings["rounding"])
    parameters = dict(model.named_parameters())
    folding = Folding([_fold(parameters, name, values) for name, values in settings["inputs"].items()])
    folding.attach(optimizer)
    return Choice(optimizer, parse(settings["schedule"]), folding, model, settings)


def assign(model: nn.Module, settings: dict[str, Any]) -> Groups:
    """Return the groups of parameters: Muon for hidden matrices, AdamW for the rest and for both ends."""
    parameters = dict(model.named_parameters())
    overrides: dict[str, dict[str, Any]] = {name: {"rule": "adamw"} for name in settings["inputs"]}
    output = settings["output"]
    if output is not None and output["size"] > 1:
        layer = output["layer"]
        for name in (f"{layer}.weight".lstrip("."), f"{layer}.bias".lstrip(".")):
            if name in parameters:
                overrides.setdefault(name, {})["lr"] = settings["rate"] * output["size"]
    missing = [name for name in overrides if name not in parameters]
    if missing:
        raise ValueError(
            f"The plan was made for another model: {type(model).__name__} has no parameter {missing[0]!r}."
        )
    assigned = groups(model, lr=settings["rate"], weight_decay=settings["decay"], overrides=overrides)
    for group in assigned:
        if group["rule"] == "adamw":
            group["eps"] = 1e-12  # so that steps have no scale: a loss times 1e-4 is trained as the loss
    return assigned


def _fold(parameters: dict[str, nn.Parameter], name: str, values: dict[str, Any]) -> Fold:
    owner, _, own = name.rpartition(".")
    bias = parameters.get(f"{owner}.{own.replace('weight', 'bias')}".lstrip("."))
    return Fold.of(parameters[name], bias, values["scale"], values["mean"])
