"""A change in a living run: made so that it can be undone, as a replay makes it on a copy."""

import copy
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from steepest.doctor.repair_proof import SPARING, gradient_is_bad
from steepest.doctor.replay import Change
from steepest.doctor.twin import Twin
from steepest.loop import Loss, Run
from steepest.loop.precision import Precision

SPARED = 0.005
"""Part of its steps that a run may leave out as a repair; one at least."""

OWN = ("param_groups", "steps")
"""What an optimizer saves that a copy does not give back: its options are the run's."""

Undo = Callable[[], None]


class Sparing(Precision):
    """Makes steps as before, but for those whose gradient is not finite; at most `most` of them are left out."""

    def __init__(self, before: Precision, most: int) -> None:
        self.__dict__.update(vars(before))
        self.most, self.spared = most, 0

    def step(self, optimizer: Optimizer) -> bool:
        """Move every parameter; return whether nothing was moved. Raises FloatingPointError beyond the limit."""
        if self.scales or not gradient_is_bad(optimizer):
            return super().step(optimizer)
        if self.spared >= self.most:
            raise FloatingPointError(
                f"The gradient is not finite once more, after {self.spared} such steps that were left out: more would "
                "hide a fault that the loss has at every so many batches. The weights are those of the last sound "
                "step; see what the doctor has found for the line to change."
            )
        self.spared += 1
        return True


def allowed(run: Run) -> int:
    """Return how many steps may be left out as a repair."""
    return max(1, int(SPARED * (run.steps or run.position.step)))


def change_run(run: Run, change: Change) -> Undo:
    """Do to a run what a change does to a replay, but for batches, which its source has to change; return the undoing.

    The schedule of a run stays as it is, at another height. One that an optimizer holds itself sets the rate of replays
    as well, so that no other rate is ever proven to help there.
    """
    options = [{name: value for name, value in group.items() if name != "params"} for group in _groups(run)]
    numbers = [(module, _numbers(module)) for module in run.model.modules()]
    clip, precision, loss = run.clip, run.precision, run.gradient.loss

    def undo() -> None:
        for group, before in zip(_groups(run), options, strict=True):
            group.update(before)
        for module, before in numbers:
            vars(module).update(before)
        run.clip, run.precision, run.gradient.precision, run.gradient.loss = clip, precision, precision, loss

    if change is SPARING:
        run.precision = run.gradient.precision = Sparing(precision, allowed(run))
        return undo
    change.prepare(Twin(run.model, run.optimizer, run.position.step))
    for group in _groups(run):
        group.update({name: value for name, value in change.settings.items() if name in group})
        if not callable(change.rate) and change.rate != 1:
            _scale(group, change.rate)
    if change.clip is not None:
        run.clip = change.clip if change.clip < float("inf") else None
    if change.inside is not nullcontext:
        run.precision = run.gradient.precision = Precision("float32", run.device)
    run.gradient.loss = changed_loss(loss, change)
    return undo


def changed_loss(loss: Loss, change: Change) -> Loss:
    """Return the loss function as a change would have it."""
    if change.inside is nullcontext:
        return loss

    def inside(model: nn.Module, batch: Any) -> Any:
        with change.inside():
            return loss(model, batch)

    return inside


def _groups(run: Run) -> list[dict[str, Any]]:
    return run.optimizer.param_groups


def _scale(group: dict[str, Any], factor: float) -> None:
    for name in ("lr", "initial_lr"):
        if name in group:
            group[name] = group[name] * factor


def _numbers(module: nn.Module) -> dict[str, Any]:
    return {name: value for name, value in vars(module).items() if isinstance(value, int | float)}


@torch.no_grad()
def take_over(run: Run, twin: Twin) -> None:
    """Let a run go on from the weights, buffers and optimizer state of a copy, with the options that it has."""
    pairs = [(run.model.parameters(), twin.model.parameters()), (run.model.buffers(), twin.model.buffers())]
    for own, others in pairs:
        for one, other in zip(own, others, strict=True):
            _fill(one, other)
    saved = {name: value for name, value in twin.optimizer.state_dict().items() if name not in OWN}
    run.optimizer.load_state_dict({**run.optimizer.state_dict(), **copy.deepcopy(saved)})
    run.optimizer.zero_grad()
    run.average.begin_anew()
    run.position.skipped_in_a_row = 0


def _fill(one: Tensor, other: Tensor) -> None:
    if one.dtype == other.dtype and one.shape == other.shape:
        one.copy_(other)
    else:  # a copy in single precision, or one that was not
        one.data = other.detach().clone()
