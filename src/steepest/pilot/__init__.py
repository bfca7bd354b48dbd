"""Decides for the user how to train: so far one fixed choice for every model."""

from dataclasses import dataclass

from torch import nn
from torch.optim import Optimizer

from steepest.groups import groups
from steepest.loop import Factor
from steepest.optim import Muon
from steepest.record import Decision, Plan
from steepest.schedules import linear, warmup

RATE = 0.01


@dataclass(frozen=True)
class Choice:
    """What to train with, and the plan that explains it."""

    optimizer: Optimizer
    schedule: Factor
    plan: Plan


def choose(model: nn.Module, rounding: str = "nearest") -> Choice:
    """Return optimizer and schedule for a model. Raises ValueError when none of its weights can be trained.

    rounding: of weights in 16 bits, as `steepest.optim.Optimizer` has it.
    """
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ValueError(
            f"The model {type(model).__name__} has no parameter that requires a gradient, so there is nothing to train."
        )
    assigned = groups(model)
    schedule = warmup(0.05) * linear()
    decisions = (
        ("rule", _rules(assigned), "Muon steps equally far in all directions of a matrix; AdamW is for all others"),
        ("rate", f"{RATE:g}", "steps are scaled so that one rate serves all shapes; fixed, not tuned to the model"),
        ("schedule", repr(schedule), "a short warm-up, then in a line to zero at the end of the run"),
    )
    plan = Plan(tuple(Decision(*each) for each in decisions))
    return Choice(Muon(assigned, lr=RATE, skip_nonfinite=True, rounding=rounding), schedule, plan)


def _rules(assigned: list[dict]) -> str:
    counts: dict[str, int] = {}
    for group in assigned:
        counts[group["rule"]] = counts.get(group["rule"], 0) + len(group["params"])
    return ", ".join(f"{rule} for {count} tensors" for rule, count in counts.items())
