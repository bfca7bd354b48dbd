"""The doctor: when what is looked for, and what is made of what was found."""

import copy
import math
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Any, TypeVar

from torch import nn
from torch.optim import Optimizer

from steepest.doctor.aside import aside
from steepest.doctor.cause import EVENT, EXACT, IDLE, MARK, STEP, Cause, Found, catalogue, checks
from steepest.doctor.fresh import compare
from steepest.doctor.history import LAST, History, Update, Visit
from steepest.doctor.lab import Lab
from steepest.doctor.parts import WHOLE, divide, form, parts
from steepest.doctor.rises import Rises
from steepest.doctor.second import second
from steepest.doctor.tap import Tap
from steepest.doctor.twin import Twin, modes_of, set_modes
from steepest.record import Finding

SAMPLED = (0, 1, 2, 4, 7, 12, 20, 35, 60, 100, 160, 250, 400, 600, 1000, 1600, 2500, 4000, 6000)
"""Steps whose gradient is computed anew; after the last, every so many."""

MARKS = (3, 35, 60, 120, 240, 480, 960, 1920, 3840)
"""Batches after which it is looked at what has come of the training; after the last, every so many."""

SNAPSHOTS = 25
"""Batches from one snapshot to the next, at first."""

SHOWN = 0.8
"""What weighs less than the heaviest finding by more is not said."""

FAILS = 3
"""So often loss= may fail before it is given up, if it has never worked."""

CURIOUS, ALARMS = 4, 6
"""So many steps are looked at when something has changed in the order of calls; it may change so often."""

DEEP = 120
"""Steps before a second fault is looked for, in a run that goes on."""

Batch = TypeVar("Batch")
Said = tuple[Cause, tuple[int, Found]]


class Doctor:
    """Watches a loop: `for batch in doctor(loader)`. See `watch`. deep: whether a second fault is looked for."""

    def __init__(self, model: nn.Module, optimizer: Optimizer, loss: Any, scheduler: Any, *, deep: bool = True) -> None:
        self.model = _plain(model)
        self.errors: list[str] = []
        held = {id(each) for group in optimizer.param_groups for each in group["params"]}
        trained = [each for each in self.model.parameters() if each.requires_grad]
        sampled = [each for each in trained if id(each) in held] or trained
        self._tap = Tap(self.model, optimizer, sampled[:1] + sampled[1:][-2:])
        self.lab = Lab(self.model, optimizer, loss, History(), self._tap)
        self.lab.scheduler = scheduler
        self._tap.before_step, self._tap.after_step = self._before_step, self._after_step
        self._rises = Rises()
        self._found: dict[Cause, tuple[int, Found]] = {}
        self._second: list[Said] = []
        self._sought: set[str] = set() if deep else set(catalogue())
        self._inside = False
        self._looked = -1
        self._next = SNAPSHOTS
        self._due = list(MARKS)
        self._sign: tuple[Any, ...] = ()
        self._curious, self._alarms = 0, 0
        self._form = ""

    def __call__(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """Yield the batches, and watch what is done with them."""
        self._inside = True
        self.lab.source = batches
        visit = Visit()
        self.lab.visits.append(visit)
        try:
            for batch in batches:
                self._between(batch)
                self._tap.grammar.inside = True
                visit.batches += 1
                yield batch
            visit.done = True
        finally:
            self._inside = self._tap.grammar.inside = False

    def __deepcopy__(self, memo: dict[int, Any]) -> "Doctor":
        return self

    @property
    def findings(self) -> list[Finding]:
        """What was found, best first; nothing of a healthy run. Between iterations, all is looked at once more."""
        return [_finding(cause, *each) for cause, each in self.said()]

    def said(self) -> list[Said]:
        """Return the same as causes, each with the step at which it was said and what was found."""
        if not self._inside and self._looked != self.lab.now and not self._tap.open:
            self.look()
        ranked = self._ranked()
        ids = {cause.id for cause, _ in ranked}
        return [*ranked, *((cause, each) for cause, each in self._second if cause.id not in ids)]

    def look(self) -> None:
        """Look at what has come of the training so far."""
        self._look(MARK)

    def close(self) -> None:
        """Stop watching; what was found stays."""
        self._tap.close()

    def _between(self, batch: Any) -> None:
        """See to what is due before a batch is given out."""
        waiting = self._tap.open and self._tap.unstepped < 20
        if not waiting:
            if self._tap.batches == 0 or (self._tap.batches >= self._next and self._is_calm()):
                self._take_snapshot()
            if self._due and self._tap.batches >= self._due[0]:
                self._due = [each for each in self._due if each > self._tap.batches] or [2 * self._due[-1]]
                self.look()
        if self._tap.unstepped > 2 and (self._tap.unstepped in (3, 4) or self._tap.unstepped % 8 == 0):
            self._look(IDLE)
        self._tap.batch(*parts(batch, self._form or WHOLE))

    def _take_snapshot(self) -> None:
        if self.lab.loss is None:
            return
        with self._guarded("snapshot"):
            twin = Twin.of(self.model, self.lab.optimizer, self.lab.now, self.lab.modes or modes_of(self.model))
            if self.lab.start is None:
                self.lab.start = twin
            else:
                self.lab.recent = twin
        if self._tap.batches:
            self._next = self._tap.batches + (SNAPSHOTS if self._tap.batches < 2 * LAST else 2 * SNAPSHOTS)

    def _is_calm(self) -> bool:
        """Return whether a snapshot would be of a run that is well: one that is not does not replace another."""
        return self.lab.event is None and not self._rises.suspected

    def _before_step(self, update: Update) -> None:
        if not self._is_sampled(update):
            return
        self.lab.update, self.lab.modes = update, modes_of(self.model)
        if update.step == 0 and self.lab.start is not None:
            set_modes(self.lab.start.model, self.lab.modes)  # a loop may call train() after it was given a batch
        if self.lab.loss is not None and update.backwards and not update.closure:
            with self._guarded("fresh gradient"):
                self._open(update)
                self._compare(update)
        self._look(STEP)
        self.lab.update = None
        self.lab.notes.pop("anatomy", None)

    def _compare(self, update: Update) -> None:
        """Compute the gradient anew. A loss= that fails from the beginning is not asked any more."""
        try:
            self.lab.fresh.append(compare(self.model, self.lab.stepped(), self.lab.loss, update, self.lab.modes))
        except Exception as error:
            self.lab.failures.append(f"{type(error).__name__}: {error}")
            if len(self.lab.failures) == FAILS and not self.lab.fresh:
                self.lab.loss = None
            raise

    def _open(self, update: Update) -> None:
        """See once what of a batch the loop gives to loss=."""
        if not self._form:
            self._form = form(self.lab, update.backwards[0].of)
            if self._form != WHOLE:
                divide(update, self._form)

    def _is_sampled(self, update: Update) -> bool:
        """Return whether checks look at this step: at set times, and where the loop goes another way than before."""
        if self._jumped(update) and self._alarms < 2 * ALARMS:
            self._curious, self._alarms = max(self._curious, 2), self._alarms + 1
        sign = (*self._tap.grammar.sign(), update.empty, bool(update.backwards), update.closure)
        if sign != self._sign and update.step and self._alarms < ALARMS:
            self._curious, self._alarms = CURIOUS, self._alarms + 1
        self._sign, self._curious = sign, max(0, self._curious - 1)
        return self._curious > 0 or _is_due(update.step)

    def _jumped(self, update: Update) -> bool:
        """Return whether the loss is half as much again as it has just been."""
        losses = self.lab.history.losses
        if len(losses) < 9 or update.loss <= 1.5 * min(losses[-2:]):
            return False  # as nearly always; one of the latest two is at most the second largest
        before = sorted(losses[-9:])
        return before[4] > 0 and not update.loss <= 1.5 * max(before[4], before[-2])

    def _after_step(self, update: Update) -> None:
        self.lab.history.add(update)
        update.left = {}
        self._tap.grammar.listen = self._curious > 0 or _is_due(update.step + 1)
        history = self.lab.history
        if self.lab.event is None:
            if not math.isfinite(history.losses[-1]):
                self.lab.event = update.step
            elif not history.swings:
                self.lab.event = self._rises.look(history.losses)
            if self.lab.event is not None:
                self._look(EVENT)

    def _look(self, when: str) -> None:
        """Ask the checks of this time, each by itself."""
        if when == MARK:
            self._looked = self.lab.now
        for cause in checks(when):
            if self._is_explained(cause):
                continue
            with self._guarded(f"{cause.id} {cause.name}"):
                found = cause.look(self.lab)
                said = self._found.get(cause)
                if found is not None:
                    self._found[cause] = (self.lab.now if said is None else said[0], found)
                elif said is not None and _weight(cause, said[1]) < EXACT:
                    del self._found[cause]
        if when == MARK and (self.lab.now >= DEEP or not self._inside):
            self._look_deeper()

    def _look_deeper(self) -> None:
        """Look once for what else is wrong where the first fault is proven."""
        for cause, (_, found) in self._ranked()[:1]:
            if found.proven and cause.id not in self._sought:
                self._sought.add(cause.id)
                with self._guarded(f"beside {cause.id}"):
                    beside = second(self.lab, cause, found, partial(Doctor, deep=False))
                    self._second = [(other, (self.lab.now, each)) for other, each in beside]

    def _is_explained(self, cause: Cause) -> bool:
        """Return whether something that will not be taken back explains what this one could find."""
        said = [(other, _weight(other, found)) for other, (_, found) in self._found.items()]
        return any(other.explains(cause) and weight >= max(EXACT, cause.weight) for other, weight in said)

    def _ranked(self) -> list[Said]:
        """Return what was found without what other findings explain, heaviest first."""
        found = sorted(self._found.items(), key=lambda each: -_weight(each[0], each[1][1]))
        kept: list[Said] = []
        for cause, said in found:
            weight = _weight(cause, said[1])
            explained = any(other.explains(cause) and _weight(other, their[1]) >= weight for other, their in found)
            known = any(other.id == cause.id for other, _ in kept)
            if not explained and not known and (not kept or weight >= _weight(kept[0][0], kept[0][1][1]) - SHOWN):
                kept.append((cause, said))
        return kept

    def _guarded(self, what: str) -> "_Guarded":
        return _Guarded(self, what)


class _Guarded:
    """Runs a part of the doctor so that the loop does not notice, and counts what goes wrong in it."""

    def __init__(self, doctor: Doctor, what: str) -> None:
        self._doctor, self._what = doctor, what

    def __enter__(self) -> None:
        self._doctor._tap.busy = True
        self._aside = aside(self._doctor.lab.loss, self._doctor.model)
        self._aside.__enter__()

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> bool:
        self._aside.__exit__(None, None, None)
        self._doctor._tap.busy = False
        if isinstance(error, Exception):
            self._doctor.errors.append(f"{self._what}: {type(error).__name__}: {error}")
            return True
        return False


def watch(
    model: nn.Module, optimizer: Optimizer | Sequence[Optimizer], loss: Any = None, scheduler: Any = None
) -> Doctor:
    """Return a doctor for a loop of your own; the loop stays as it is, but for `for batch in doctor(loader)`.

    optimizer: of several, the first is watched; the others are seen as they step. loss: loss(model, batch) -> a scalar
    tensor, the one that the loop uses; without it, all is found that needs no experiment. scheduler: of the rate, if
    there is one.

    `doctor.findings` says what is wrong, best first: [] where nothing is. The run is watched only: weights, optimizer,
    random numbers and data stay as they would be without.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model is of type {type(model).__name__}; expected a torch.nn.Module.")
    several: list[Any] = list(optimizer) if isinstance(optimizer, list | tuple) else [optimizer]
    if not several or not all(isinstance(each, Optimizer) for each in several):
        kinds = ", ".join(type(each).__name__ for each in several) or "nothing"
        raise TypeError(f"optimizer is a torch.optim.Optimizer, or a list of them; received {kinds}.")
    if loss is not None and not callable(loss):
        raise TypeError(f"loss is a function, loss(model, batch) -> scalar; received {type(loss).__name__}.")
    return Doctor(model, several[0], loss, scheduler)


def _is_due(step: int) -> bool:
    return step in SAMPLED or (step > SAMPLED[-1] and step % SAMPLED[-1] == 0)


def _plain(model: nn.Module) -> nn.Module:
    """Return the module inside a compiled one or one in parallel."""
    inner = getattr(model, "_orig_mod", None) or getattr(model, "module", None)
    return _plain(inner) if isinstance(inner, nn.Module) else model


def _weight(cause: Cause, found: Found) -> float:
    return cause.weight if found.weight is None else found.weight


def _finding(cause: Cause, step: int, found: Found) -> Finding:
    status = "proven" if found.proven else "suspected"
    evidence = copy.copy(found.evidence)
    return Finding(cause.id, cause.name, status, step, found.onset, found.summary, evidence, cause.fix, found.where)
