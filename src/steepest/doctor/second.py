"""A second fault, which the first one hides: looked for in a loop of our own with the first one repaired."""

from collections.abc import Callable, Iterator
from contextlib import closing, nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from steepest.doctor.cause import Cause, Found, repair_of
from steepest.doctor.history import Update, apart
from steepest.doctor.lab import Lab
from steepest.doctor.repair_proof import lengthened
from steepest.doctor.replay import AS_IT_WAS, Change, make
from steepest.doctor.twin import scalar
from steepest.snapshot import restore_random_state

ENOUGH, MOST = 30, 180
"""Updates that such a loop needs, and that it makes, over and over the same batches, where the run had as many."""

RATES = frozenset({"A23", "D05"})
"""What is wrong in what the rate was; a loop of our own stays at its peak."""

LOOP = frozenset({"A01", "A02", "A03", "A21"}) | RATES
"""What is wrong in the order of calls, or in what the rate was, and not in a loop of our own."""

Watch = Callable[[nn.Module, Any, Any, Any], Any]


def second(lab: Lab, cause: Cause, found: Found, watch: Watch) -> list[tuple[Cause, Found]]:
    """Return what a doctor says, with proof, of a loop in which a proven fault is repaired; nothing where none can be.

    watch: makes the doctor. A fault that is in no call of the loop, and that nothing is offered against, stays in it:
    then nothing that is said of it means anything.
    """
    changes = _cures(lab, cause, found)
    updates = _updates(lab, cause)
    if not changes or len(updates) < ENOUGH or lab.start is None or lab.loss is None:
        return []
    change, twin = _best(lab, changes), lab.start.copy()
    change.prepare(twin)

    def loss(model: nn.Module, batch: Any) -> Tensor:
        with change.inside():
            value = scalar(lab.loss(model, batch))
        return value if change.loss is None else change.loss(value)

    mended = [_with_batch(each, change.batch) for each in updates]
    rest = replace(change, batch=None, loss=None, inside=nullcontext)
    doctor = watch(twin.model, twin.optimizer, loss, None)
    with torch.enable_grad(), closing(doctor):
        with closing(doctor(_given_out(mended))) as batches:
            make(twin, (update for _, update in zip(batches, mended, strict=False)), loss, lab.way, rest)
        said = [(other, each) for other, (_, each) in doctor.said()]
    cured = not any(other.id == cause.id for other, _ in said)
    return [(other, each) for other, each in said if cured and each.proven]


def _cures(lab: Lab, cause: Cause, found: Found) -> list[Change]:
    if cause.id in LOOP:
        return [AS_IT_WAS]
    if found.cure is not None:
        return [found.cure]
    offered = repair_of(cause)
    return [] if offered is None else list(offered(lab, found))


def _best(lab: Lab, changes: list[Change]) -> Change:
    """Return the change that gets furthest over the first updates."""
    if len(changes) == 1:
        return changes[0]
    made = [(lab.replay(change), change) for change in changes]
    return min(made, key=lambda each: each[0].late() if each[0] is not None else float("inf"))[1]


def _updates(lab: Lab, cause: Cause) -> list[Update]:
    """Return an update for each batch, as many as the run had; at the highest rates where these were at fault."""
    updates = apart((*lab.history.first, *lab.history.latest))
    if cause.id in RATES and updates:
        peak = max(updates, key=lambda update: max(update.rates, default=0.0))
        updates = [replace(update, settings=peak.settings) for update in updates]
    return lengthened(updates, min(lab.now, MOST)) if updates else []


def _with_batch(update: Update, change: Callable[[Any], Any] | None) -> Update:
    backward = update.backwards[0]
    batch = backward.of.batch if change is None else change(backward.of.batch)
    return replace(update, backwards=[replace(backward, of=replace(backward.of, batch=batch))])


def _given_out(updates: list[Update]) -> Iterator[Any]:
    """Yield the batches, with the random numbers that they had."""
    for update in updates:
        of = update.backwards[0].of
        restore_random_state(of.random)
        yield of.batch
