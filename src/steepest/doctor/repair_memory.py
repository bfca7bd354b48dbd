"""A doctor whose patient may be changed: it hears of steps that were not made, and learns another past."""

import math
from collections import deque
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import torch
from torch import nn

from steepest.data import to_device
from steepest.doctor.cause import Cause, Found, repair_of
from steepest.doctor.doctor import SNAPSHOTS, Doctor
from steepest.doctor.history import Backward, Pass, Update
from steepest.doctor.repair_proof import Proof
from steepest.doctor.replay import Change
from steepest.doctor.rises import Rises
from steepest.doctor.twin import Twin
from steepest.loop import Loss

HEARD = 8
"""So many steps that were not made are looked into; what makes more has been named by then."""


class Attendant(Doctor):
    """The doctor of a run that leaves out steps whose loss is not finite, and may be repaired."""

    good: Twin | None = None
    """The last snapshot after which the run went well until another was taken; no other takes its place."""

    has_missed = False
    """Whether the last step that it knows of was not made."""

    _newest: Twin | None = None
    _heard = 0
    _before: Mapping[Cause, tuple[int, Found]] = MappingProxyType({})

    def note_snapshots(self) -> None:
        """Count a snapshot as good when the next one is taken, which is only done of a run that is well."""
        if self.lab.recent is not self._newest:
            self.good, self._newest = self._newest or self.good, self.lab.recent

    def verify(self) -> None:
        """Count the run as good as it is now."""
        self.good = Twin.of(self.model, self.lab.optimizer, self.lab.now, self.lab.modes)

    def missed(self, loss: float) -> None:
        """Take in a step that was not made: its loss, or its gradient, is not finite; look for why."""
        tap, of = self._tap, self._tap.current
        tap.forget_backward()
        if of is None or math.isfinite(loss) or self.lab.event is not None or self._heard >= HEARD:
            return
        self.has_missed, self._heard, self._before = True, self._heard + 1, dict(self._found)
        settings = self.lab.history.latest[-1].settings if self.lab.history.latest else _settings(self)
        update = Update(tap.stepped, [Backward(of, torch.tensor(loss), False, True)], settings)
        tap.stepped += 1
        self._after_step(update)

    def forget_missed(self) -> None:
        """Forget the last step, which was not made, and what it was the sign of."""
        history = self.lab.history
        last = history.latest.pop()
        if history.first and history.first[-1] is last:
            history.first.pop()
        history.losses.pop()
        history.rates.pop()
        self._tap.stepped -= 1
        recent = self.lab.recent
        self._calm()
        self.lab.recent = self._newest = recent
        self._found.update(self._before)

    def foremost(self) -> tuple[Cause, Found] | None:
        """Return what was found, and can be repaired, and weighs most; where nothing can be, what weighs most."""
        ranked = [(cause, found) for cause, (_, found) in self._ranked()]
        mendable = [(cause, found) for cause, found in ranked if found.proven and repair_of(cause) is not None]
        return next(iter(mendable + ranked), None)

    def aside(self) -> Any:
        """Return the context of experiments, which the loop does not notice."""
        return self._guarded("repair")

    @property
    def looked(self) -> int:
        """The step at which all was last looked at."""
        return self._looked

    @property
    def current(self) -> Pass | None:
        """The batch that was last given out."""
        return self._tap.current

    def remember(self, proof: Proof, loss: Any) -> None:
        """Take what a replay made for what the run did: from its snapshot on, with the change. loss: as it is now."""
        lab, change, start = self.lab, proof.change, proof.origin.copy()
        lab.loss = on_device(loss)
        if proof.rewinds:
            change.prepare(start)
            made = [
                _changed(update, step, proof)
                for step, update in zip(range(start.step, start.step + len(proof.updates)), proof.updates, strict=True)
            ]
            before = [each for each in (*lab.history.first, *lab.history.latest) if each.step < start.step]
            kept = {each.step: each for each in (*before, *made)}
            first, latest = len(lab.history.first), len(lab.history.latest)
            ordered = [kept[step] for step in sorted(kept)]
            lab.history.first, lab.history.latest = ordered[:first], deque(ordered[-latest:])
            lab.history.losses[start.step :] = proof.made.losses
            lab.history.rates[start.step :] = [max(each.rates, default=0.0) for each in made]
            lab.start, self._tap.stepped = start, len(lab.history.losses)
        if change.clip is not None:
            lab.fresh.clear()  # they tell of the clipping there was
        self._calm()

    def _calm(self) -> None:
        """Begin to look anew."""
        lab, self.has_missed = self.lab, False
        lab.event, lab.recent, self._newest = None, None, None
        lab.notes.clear()
        lab._replays.clear()
        self._found.clear()
        self._second = []
        self._rises = Rises()
        self._next = self._tap.batches + SNAPSHOTS


def on_device(loss: Loss) -> Loss:
    """Return a loss that moves the batch to where the model is, as the run does."""

    def moved(model: nn.Module, batch: Any) -> Any:
        device = next((each.device for each in model.parameters()), None)
        return loss(model, batch if device is None else to_device(batch, device))

    return moved


def _settings(doctor: Doctor) -> list[dict[str, Any]]:
    groups = doctor.lab.optimizer.param_groups
    return [{name: value for name, value in group.items() if name != "params"} for group in groups]


def _changed(update: Update, step: int, proof: Proof) -> Update:
    """Return an update as the replay made it."""
    change, number = proof.change, step - proof.origin.step
    settings = [set_by(change, group, number) for group in update.settings]
    loss = torch.tensor(proof.made.losses[number])
    backwards = [replace(each, of=_mended(each.of, change), loss=loss) for each in update.backwards]
    return replace(update, step=step, settings=settings, backwards=backwards)


def set_by(change: Change, group: dict[str, Any], made: int) -> dict[str, Any]:
    """Return a group's options as a change has them."""
    rate = change.rate(made) if callable(change.rate) else change.rate
    own = {name: value for name, value in change.settings.items() if name in group}
    return {**group, "lr": group["lr"] * rate, **own}


def _mended(of: Pass, change: Change) -> Pass:
    batch = of.batch if change.batch is None else change.batch(of.batch)
    return replace(of, batch=batch, autocast=of.autocast if change.inside is nullcontext else None)
