"""Finds the optimizers, models and batches of a script while it runs, and puts them under doctors."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from steepest.doctor.script_patient import Patient, Round
from steepest.doctor.script_trace import Trace, states

MOST = 4
"""Optimizers that are watched, of one script."""

WIDENED = 2
"""Steps after which no other module is taken into a model."""


class Attendance:
    """What is known of a script. errors: what went wrong in finding out. unseen: optimizers that were too many."""

    def __init__(self) -> None:
        self.errors: list[str] = []
        self.patients: list[Patient] = []
        self.unseen = 0
        self.trace = Trace(self._backward, self.errors)
        self._waiting: list[weakref.ref[Optimizer]] = []
        self._rounds: weakref.WeakKeyDictionary[Any, Round] = weakref.WeakKeyDictionary()
        self._at: Round | None = None
        self._last: weakref.ref[nn.Module] | None = None
        self._why = ""
        self.deaf = False

    def optimizer(self, made: Optimizer) -> None:
        """Hear that an optimizer was made."""
        with self._harmless("an optimizer"):
            self._waiting.append(weakref.ref(made))

    def call(self, original: Callable[..., Any], module: nn.Module, args: Any, kwargs: Any) -> Any:
        """Call a module that no other one calls, and hear of it."""
        self.deaf = True
        try:
            with self.trace.silent():
                if torch.is_grad_enabled():
                    with self._harmless("a call"):
                        self._begin(module, args)
                before = states()
                output = original(module, *args, **kwargs)
        finally:
            self.deaf = False
        self.trace.called(module, args, kwargs, (output, before))
        return output

    def opened(self, batches: Any, loader: Any) -> None:
        """Hear that a loader is gone over."""
        with self._harmless("a loader"):
            self._rounds[batches] = Round(loader)

    def given(self, batches: Any) -> None:
        """Hear that it has given a batch."""
        with self._harmless("a batch"):
            self._at = at = self._rounds.get(batches)
            for patient in self.patients:
                patient.outside(at)

    def ended(self, batches: Any) -> None:
        """Hear that it has come to its end."""
        with self._harmless("a loader"), self.alone():
            at = self._rounds.get(batches)
            for patient in self.patients if at is not None else ():
                patient.leave(at)
            self._at = None if self._at is at else self._at

    def stepped(self, optimizer: Optimizer) -> None:
        """Hear that an optimizer has made a step."""
        if self.deaf:
            return
        with self._harmless("a step"):
            self.trace.steps += 1
            for patient in self.patients:
                if patient.optimizer is optimizer:
                    patient.since = self.trace.steps
            known = self._last() if self._last is not None else None
            if known is not None and any(each() is optimizer for each in self._waiting):
                self._admit(known, optimizer)  # it holds nothing of what is called

    def give_up(self, why: str) -> None:
        """Go on without reading losses."""
        self._why = why
        self.trace.stop()
        for patient in self.patients:
            patient.give_up(why)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Let nobody hear what is done inside."""
        before, busy = self.deaf, [(each.tap, each.tap.busy) for each in self.patients]
        self.deaf = True
        for tap, _ in busy:
            tap.busy = True
        try:
            with self.trace.silent():
                yield
        finally:
            self.deaf = before
            for tap, was in busy:
                tap.busy = was

    def _begin(self, module: nn.Module, args: Any) -> Any:
        self._last = weakref.ref(module)
        own = {id(each) for each in module.parameters()}
        for optimizer in [each() for each in self._waiting]:
            held = set() if optimizer is None else held_by(optimizer)
            if optimizer is not None and held & own:
                self._admit(module if held <= own else owner(held, module), optimizer)
        for patient in list(self.patients):
            if patient.others and patient.why:
                self._widen(patient)
        for patient in self.patients:
            if id(module) in patient.modules():
                patient.begin(module, args, self._at)

    def _widen(self, patient: Patient) -> None:
        """Begin anew with a model that has all modules in it that the loss hangs on; not without end."""
        every = [patient.doctor.model, *patient.others]
        whole = owner({id(one) for each in every for one in each.parameters()}, patient.doctor.model)
        patient.others = ()
        if patient.lab.now < WIDENED and whole is not patient.doctor.model:
            patient.leave()
            patient.doctor.close()
            self.patients.remove(patient)
            self._admit(whole, patient.optimizer)

    def _admit(self, model: nn.Module, optimizer: Optimizer) -> None:
        self._waiting = [each for each in self._waiting if each() is not None and each() is not optimizer]
        if len(self.patients) >= MOST:
            self.unseen += 1
            return
        self.patients.append(Patient(model, optimizer, self.trace, self.alone))
        if self._why:
            self.patients[-1].give_up(self._why)

    def _backward(self, loss: Tensor, gradient: Tensor | None, retained: bool) -> None:
        if self.deaf:
            return
        end = self.trace.origin(loss)
        for patient in self.patients:
            patient.hear(loss, gradient)
        if end is not None and not retained:
            self.trace.forget(end.call)

    @contextmanager
    def _harmless(self, what: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self.errors.append(f"{what} of the script: {type(error).__name__}: {error}")


def held_by(optimizer: Optimizer) -> set[int]:
    """Return the ids of what an optimizer holds."""
    return {id(each) for group in optimizer.param_groups for each in group["params"]}


def owner(held: set[int], called: nn.Module) -> nn.Module:
    """Return the smallest module with all these parameters; several in one where none has; at worst what is called."""
    modules = [each for each in gc.get_objects() if issubclass(type(each), nn.Module)]
    having = [(each, own) for each in modules if (own := {id(one) for one in each.parameters()}) & held]
    whole = [(len(own), number) for number, (_, own) in enumerate(having) if held <= own]
    if whole:
        return having[min(whole)[1]][0]
    inner = {id(one) for each, _ in having for one in each.modules() if one is not each}
    parts = [(each, own) for each, own in having if id(each) not in inner]
    together = set().union(*(own for _, own in parts))
    return nn.ModuleList([each for each, _ in parts]) if len(parts) > 1 and held <= together else called
