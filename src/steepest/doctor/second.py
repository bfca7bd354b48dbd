"""A second fault, which the first one hides: looked for in a loop of our own with the first one repaired."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import cycle, islice
from typing import Any

import torch
from torch import Tensor, nn

from steepest.doctor.cause import Cause, Found, repair_of
from steepest.doctor.history import Pass, Update
from steepest.doctor.lab import Lab
from steepest.doctor.replay import AS_IT_WAS, Change, set_groups
from steepest.doctor.twin import Twin, autocast
from steepest.snapshot import restore_random_state

ENOUGH, MOST = 30, 180
"""Updates that such a loop needs, and that it makes, over and over the same batches, where the run had as many."""

LOOP = frozenset(["A01", "A02", "A03", "A21", "A23", "D05"])
"""What is wrong in the order of calls, or in what the rate was, and not in a loop of our own."""

RATES = frozenset({"A23", "D05"})
"""Of these, what the rate was; such a loop stays at its peak."""

Watch = Callable[[nn.Module, Any, Any, Any], Any]


@dataclass(frozen=True)
class Cured:
    """A loop over the batches that are remembered, from the first weights, with a fault repaired."""

    twin: Twin
    updates: list[Update]
    change: Change
    lab: Lab

    def loss(self, model: nn.Module, batch: Any) -> Tensor:
        """Return the loss of a batch, as the repaired loop computes it."""
        with self.change.inside():
            value = self.lab.loss(model, batch)
        value = (value["loss"] if isinstance(value, dict) else value).reshape(())
        return value if self.change.loss is None else self.change.loss(value)

    def batches(self) -> Iterator[Any]:
        """Yield the batches, with the random numbers that they had."""
        for of in map(_of, self.updates):
            restore_random_state(of.random)
            yield of.batch if self.change.batch is None else self.change.batch(of.batch)

    def run(self, doctor: Any) -> None:
        """Make the steps under a doctor."""
        model, optimizer = self.twin.model, self.twin.optimizer
        clip = self.change.clip if self.change.clip is not None else self.lab.clip
        for made, batch in enumerate(doctor(self.batches())):
            factor = self.change.rate(made) if callable(self.change.rate) else self.change.rate
            set_groups(self.twin, self.updates[made], self.change, factor)
            self.change.before(self.twin, made)
            optimizer.zero_grad()
            with autocast(model, _of(self.updates[made]).autocast):
                loss = self.loss(model, batch)
            loss.backward()
            if clip is not None:
                nn.utils.clip_grad_norm_(model.parameters(), clip)
            optimizer.step()


def second(lab: Lab, cause: Cause, found: Found, watch: Watch) -> list[tuple[Cause, Found]]:
    """Return what a doctor says, with proof, of a loop in which a proven fault is repaired; nothing where none can be.

    watch: makes the doctor. A fault that is in no call of the loop, and that nothing is offered against, stays in it:
    then nothing that is said of it means anything.
    """
    changes = _cures(lab, cause, found)
    if not changes or lab.start is None or lab.loss is None:
        return []
    updates = _plain(lab, cause)
    if len(updates) < ENOUGH:
        return []
    cured = Cured(lab.start.copy(), updates, _best(lab, changes), lab)
    cured.change.prepare(cured.twin)
    doctor = watch(cured.twin.model, cured.twin.optimizer, cured.loss, None)
    with torch.enable_grad():
        cured.run(doctor)
        said = [(other, each) for other, (_, each) in doctor.said()]
    doctor.close()
    if any(other.id == cause.id for other, _ in said):
        return []
    return [(other, each) for other, each in said if each.proven]


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


def _plain(lab: Lab, cause: Cause) -> list[Update]:
    """Return an update for each batch, at the rates of the first one where the rates were at fault."""
    kept = {id(backward.of): (backward, update) for update in (*lab.history.first, *lab.history.latest)
            for backward in update.backwards}  # fmt: skip
    updates = [replace(update, backwards=[backward], clips=[], left={}) for backward, update in kept.values()]
    if cause.id in RATES and updates:
        peak = max(updates, key=lambda update: max(update.rates, default=0.0))
        updates = [replace(update, settings=peak.settings) for update in updates]
    return list(islice(cycle(updates), max(len(updates), min(lab.now, MOST))))


def _of(update: Update) -> Pass:
    return update.backwards[0].of
