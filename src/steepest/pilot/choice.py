"""A plan made into what trains: optimizer, schedule, the folding of first layers, and the decay of what comes again."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from steepest.groups import Groups, groups
from steepest.loop import Factor
from steepest.optim import Muon
from steepest.pilot.folding import Fold, Folding
from steepest.pilot.repeats import Repeats
from steepest.pilot.rescale import apply
from steepest.record import Plan
from steepest.schedules.text import parse

EPOCHS = 10.0
"""What weights remember of many epochs."""

LEAST, MOST = 100.0, 500.0
"""Steps that they remember."""

ONCE = 1.25
"""Epochs after which half of the first samples have come again."""

OF_EMBEDDINGS = {"lr": 2.0, "weight_decay": 0.3}
"""Factors of embeddings, whose rows are seen by few of the steps."""


@dataclass
class Choice:
    """What to train with. `begin` is for a run that begins, and not for one that goes on."""

    optimizer: Optimizer
    schedule: Factor
    folding: Folding
    model: nn.Module
    _settings: dict[str, Any]

    @property
    def watches(self) -> bool:
        """Whether it matters if samples come again."""
        return self._settings["forgets"]

    def come_again(self, seen: Repeats, done: float, step: int) -> str:
        """Let weights decay as is fit for samples that come again; say so.

        seen: what was seen until half of the first samples had come again, in 1 to 1.5 epochs; done: of the run, by
        then, 0 of a run without a budget. A weight that decays by lr decay each step remembers 1 / (lr decay) steps.
        That should be some epochs, however many there are (Wang & Aitchison 2024, arXiv:2405.13698): EPOCHS of them, or
        the run if it is shorter, and no more than MOST steps: weights that remember more grow, and say what they say
        with too much confidence. A model with fewer parameters than samples learns less of them by heart, and nothing
        where the loss is quadratic. Nor is anything learned by heart that is learned already, from samples when they
        were new. A run without a budget is taken for one of many epochs, for it may become that.
        """
        if seen.learned:
            return f"samples come again, after the loss has fallen from {seen.first:.3g} to {seen.recent:.3g}"
        parameters = sum(each.numel() for group in self.optimizer.param_groups for each in group["params"])
        room = min(1.0, parameters * ONCE / seen.samples)
        if room < 1 and self._settings["output"] is not None:
            return f"samples come again, and are more than the {parameters} parameters can learn by heart"
        remembered = max(LEAST, min(MOST, step / (done + room * ONCE / EPOCHS)))
        decay = 2 / (self._settings["rate"] * remembered)  # the rate is half of its peak in the mean, or a mean is kept
        for group in self.optimizer.param_groups:
            group["weight_decay"] *= decay / self._settings["decay"]
        often = f"some {ONCE / done:.3g} times in this run" if done else "for as long as this run goes on"
        return f"samples come again, {often}: weights decay by {decay:.2g} times the rate"

    @torch.no_grad()
    def begin(self) -> None:
        """Change what the plan changes of the weights before the first step."""
        names = set(self._settings["anew"])
        for name, fold in zip(self._settings["inputs"], self.folding.folds, strict=True):
            if name in names:
                fold.begin_anew()
        apply(self.model, self._settings["rescaled"])
        output = self._settings["output"]
        if output is None:
            return
        bias = self.model.get_submodule(output["layer"]).bias
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
    rate, decay, output = settings["rate"], settings["decay"], settings["output"]
    plain = groups(model, lr=rate, weight_decay=decay)
    embeddings = {each.name for each in plain.assignments if each.why.startswith("embedding")}
    overrides: dict[str, dict[str, Any]] = {name: {"rule": "adamw"} for name in settings["inputs"]}
    for name in embeddings:
        overrides[name] = {"lr": rate * OF_EMBEDDINGS["lr"], "weight_decay": decay * OF_EMBEDDINGS["weight_decay"]}
    if output is not None and output["size"] > 1:
        layer, size = output["layer"], output["size"]
        names = (f"{layer}.weight".lstrip("."), f"{layer}.bias".lstrip("."))
        for each in plain.assignments:
            if each.name in names:  # units of the output do not make it forget faster
                new = {"lr": rate * size, "weight_decay": each.weight_decay / size}
                overrides.setdefault(each.name, {}).update(new)
    missing = overrides.keys() - {each.name for each in plain.assignments}
    if missing:
        raise ValueError(
            f"The plan was made for another model: {type(model).__name__} has no parameter {min(missing)!r}."
        )
    assigned = groups(model, lr=rate, weight_decay=decay, overrides=overrides)
    for group in assigned:
        if group["rule"] == "adamw":
            group["eps"] = 1e-12  # so that steps have no scale: a loss times 1e-4 is trained as the loss
    return assigned


def _fold(parameters: dict[str, nn.Parameter], name: str, values: dict[str, Any]) -> Fold:
    owner, _, own = name.rpartition(".")
    bias = parameters.get(f"{owner}.{own.replace('weight', 'bias')}".lstrip("."))
    return Fold.of(parameters[name], bias, values["scale"], values["mean"])
