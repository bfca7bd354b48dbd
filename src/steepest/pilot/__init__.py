"""Decides for the user how to train: which rule, which rate, in which units."""

from contextlib import closing
from typing import Any

from torch import nn

from steepest.data import open_source, to_device
from steepest.loop import Loss, checks
from steepest.loop.budget import budget_of
from steepest.pilot.choice import Choice, build
from steepest.pilot.measure import measure
from steepest.record import Plan
from steepest.snapshot import same_random_state_after, seed_everything

__all__ = ["Choice", "Plan", "build", "measure", "plan"]


def plan(  # noqa: PLR0913
    model: nn.Module,
    loss: Loss,
    data: Any,
    steps: int | None = None,
    *,
    epochs: int | None = None,
    time: str | float | None = None,
    batch_size: int = 32,
    seed: int = 0,
) -> Plan:
    """Decide how to train a model for so many steps, and explain it; the model is left as it is.

    The arguments are those of `steepest.fit`, which trains by the plan: `fit(model, loss, data, steps=N, plan=plan)`.
    steps, epochs, time: the budget, one of the three, or none for a run that is open. The first batches are looked at.
    `print(plan)` reads as a note, `plan.save(path)` and `Plan.load(path)` keep it.
    """
    checks.check_model(model)
    checks.check_loss_function(loss)
    checks.check_seed(seed)
    device = next((parameter.device for parameter in model.parameters()), None)
    with same_random_state_after(), closing(open_source(data, batch_size, seed)) as source:
        seed_everything(seed)
        budget = budget_of(steps, epochs, time, source.batches)
        batches = (to_device(batch, device) if device else batch for batch in source.epoch(0))
        return measure(model, loss, batches, budget.length)
