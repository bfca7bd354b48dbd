"""The check of a repair some steps later: what the run would be without it, beside what it is."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from steepest.doctor.history import Backward, Update
from steepest.doctor.lab import Lab
from steepest.doctor.repair_proof import Proof, is_sound, typical
from steepest.doctor.replay import AS_IT_WAS, Change, Way, replay
from steepest.doctor.twin import Twin

STEPS = 25
"""Steps after which a repair is checked."""

WORSE = 0.02
"""Part of its loss by which a run may be above what it would be without a repair."""


@dataclass
class Before:
    """A run as it was before a repair: a copy, its options, its loss function, how it clipped.

    batches: number of a batch -> what the source gave, before the repair had a part in it.
    """

    twin: Twin
    options: list[dict[str, Any]]
    loss: Any
    way: Way
    batches: dict[int, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, lab: Lab) -> "Before":
        """Remember a run."""
        options = [{name: value for name, value in group.items() if name != "params"} for group in _groups(lab)]
        twin = Twin.of(lab.model, lab.optimizer, lab.now, lab.modes)
        return cls(twin, copy.deepcopy(options), lab.loss, lab.way)

    def without(self, lab: Lab, change: Change) -> tuple[Proof | None, float]:
        """Return what the run would be now without a change, and its loss; None and infinity where it would be lost."""
        updates = [self._undone(each, change) for each in lab.remembered(self.twin, lab.now)]
        if not updates or not is_sound(self.twin.model):
            return None, float("inf")
        made = replay(self.twin, updates, self.loss, self.way)
        if not made.finite or not is_sound(made.twin.model):
            return None, float("inf")
        twin = made.twin.copy()
        change.prepare(twin)
        loss = typical(lab, twin.model)
        return Proof(AS_IT_WAS, self.twin, updates, made, loss, loss, True), loss

    def _undone(self, update: Update, change: Change) -> Update:
        rate = 1.0 if callable(change.rate) else change.rate
        settings = [
            {**group, "lr": group["lr"] / rate, **{name: own[name] for name in change.settings if name in group}}
            for group, own in zip(update.settings, self.options, strict=True)
        ]
        return replace(update, settings=settings, backwards=self._raw(update.backwards))

    def _raw(self, backwards: Sequence[Backward]) -> list[Backward]:
        found = {id(each.of): each.of for each in backwards}
        raw = {key: replace(of, batch=self.batches.get(of.number, of.batch)) for key, of in found.items()}
        return [replace(each, of=raw[id(each.of)]) for each in backwards]


def _groups(lab: Lab) -> list[dict[str, Any]]:
    return lab.optimizer.param_groups
