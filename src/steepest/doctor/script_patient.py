"""One optimizer of a script, and the model that it steps, under a doctor that is told what the script does."""

from __future__ import annotations

import math
import types
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from steepest.doctor.doctor import watch
from steepest.doctor.history import Pass, Update
from steepest.doctor.script_loss import Leaves, Recipe
from steepest.doctor.script_read import Reader, Unknown
from steepest.doctor.script_trace import Trace
from steepest.doctor.twin import copy_of, modes_of
from steepest.record import Finding

SURE, OFTEN = 3, 12
"""Losses that are computed anew at first, and where others are called than before; and so many in all."""

MOST_LIKE = 1e-6
"""Part by which a loss may differ on an accelerator, where sums are not made in one order; elsewhere it may not."""


class Round:
    """One time that a script goes over a loader."""

    def __init__(self, loader: Any) -> None:
        self.loader, self.done = loader, False


class Patient:
    """A model and its optimizer. why: the reason for which its loss is not known, "" where it is.

    since: steps of all optimizers up to the last one of its own. checked: losses that came out to the bit. others:
    modules besides the model that a loss hangs on.
    """

    def __init__(self, model: nn.Module, optimizer: Optimizer, trace: Trace, alone: Callable[[], Any]) -> None:
        self.called, self.optimizer = model, optimizer
        self.recipe = Recipe()
        self.doctor = watch(model, optimizer, self.recipe)
        self.lab, self.tap = self.doctor.lab, self.doctor.lab.tap
        self.why, self.checked, self.since = "", 0, trace.steps
        self._trace, self._alone = trace, alone
        self._reason = ""
        self.others: Sequence[nn.Module] = ()
        self._round: Round | None = None
        self._flow: Iterator[Any] | None = None
        self._over = False
        self._stepped, self._used = -1, False
        self._known: set[tuple[str, ...]] = set()
        self._keep_harmless()

    def modules(self) -> dict[int, str]:
        """Return id of each module of the model -> its name; what wraps the model counts as the model."""
        found = {id(module): name for name, module in self.doctor.model.named_modules()}
        return found | {id(self.called): ""}

    def begin(self, module: nn.Module, args: tuple[Any, ...], at: Round | None) -> None:
        """Hear that the model, or a part of it, is about to be called with gradients; `at` is what gave the batch."""
        if module is not self.called and module is not self.doctor.model:
            self.tap.forward(module, args)
        if self._has_begun():
            return
        if self._flow is None or at is not self._round:
            self.leave()
            self._flow, self._round, self._over = self.doctor(self._feed()), at, False
        next(self._flow)
        self.tap.forget_given()
        self.lab.source = None if at is None else at.loader
        self._stepped, self._used = self.tap.stepped, False

    def outside(self, at: Round | None) -> None:
        """Hear that another loader gives batches: what comes is not the training, until it goes on."""
        if at is not self._round:
            self.tap.grammar.inside = False

    def leave(self, at: Round | None = None) -> None:
        """Hear that a loader has come to its end; without one, that the script has, or begins anew."""
        if self._flow is None or (at is not None and at is not self._round):
            return
        self._over = True
        if at is None:
            getattr(self._flow, "close", lambda: None)()
        else:
            next(self._flow, None)
        self._flow = None

    def hear(self, loss: Tensor, gradient: Tensor | None) -> None:
        """Hear that a backward pass is about to be made."""
        of = self.tap.current
        if self.why or of is None or self._stepped != self.tap.stepped:
            return
        try:
            if gradient is not None or loss.numel() != 1:
                raise Unknown("it is not one number")
            names = {id(each): name for name, each in self.doctor.model.named_parameters()}
            leaves = Reader(self._trace, self.modules(), names).read(loss, self.since)
        except Unknown as unknown:
            self._reason, self.others = str(unknown), unknown.others
            return
        if of.batch:
            self.give_up("a batch has several backward passes")
            return
        self._take(of, leaves, self._trace.told(loss))

    def give_up(self, why: str) -> None:
        """Go on without a loss."""
        self.why, self.lab.loss = self.why or why, None

    def findings(self) -> list[Finding]:
        """Stop watching; return what was found."""
        self.leave()
        with self._alone():
            try:
                if self.tap.open:  # nobody will use these gradients any more
                    self.doctor.look()
                return self.doctor.findings
            finally:
                self.doctor.close()

    def _take(self, of: Pass, leaves: Leaves, told: Tensor) -> None:
        formula = leaves.formula
        assert formula is not None
        if self.checked < SURE or (formula.signature not in self._known and self.checked < OFTEN):
            of.batch = leaves
            with self._alone():
                anew = self.lab.ask(copy_of(self.doctor.model, modes_of(self.doctor.model)), of).detach()
            if not same(anew, told):
                self.give_up(f"computed anew it is {float(anew):.6g}, and not {float(told):.6g}")
                return
            self.checked += 1
            self._known.add(formula.signature)
        leaves.formula = formula.without_factor()
        of.batch = leaves
        self.recipe.learn(leaves)
        for each in leaves:
            self._trace.keep(each, partial(_replace, of))

    def _has_begun(self) -> bool:
        """Return whether the batch at hand has not had its backward pass yet."""
        return self.tap.current is not None and self._stepped == self.tap.stepped and not self._used

    def _feed(self) -> Iterator[Any]:
        while not self._over:
            yield ()

    def _before_step(self, update: Update) -> None:
        if self.lab.loss is not None and any(not backward.of.batch for backward in update.backwards):
            self.give_up(self._reason or "it could not be read")

    def _keep_harmless(self) -> None:
        """What goes wrong in the doctor goes no further, and what it does on the way is not heard by anyone."""
        tap, before, after, backward = self.tap, self.tap.before_step, self.tap.after_step, self.tap.backward
        arrived = tap.touch

        def before_step(update: Update) -> None:
            self._before_step(update)
            before(update)

        def touch() -> None:
            self._used = True
            arrived()

        def through(loss: Tensor, retained: bool, run: Callable[[], None]) -> None:
            made = False

            def once() -> None:
                nonlocal made
                made = True
                run()

            try:
                backward(loss, retained, once)
            except Exception as error:
                if made and not _is_ours(error):
                    raise
                self._count("backward", error)
                if not made:
                    run()

        tap.before_step, tap.after_step = self._harmless(before_step), self._harmless(after)
        tap.forward, tap.touch = self._harmless(tap.forward), self._harmless(touch)
        tap.step_begins, tap.step_ends = self._harmless(tap.step_begins), self._harmless(tap.step_ends)
        tap.backward = through

    def _harmless(self, part: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any) -> None:
            try:
                with self._alone():
                    part(*args)
            except Exception as error:
                self._count(part.__name__, error)

        return run

    def _count(self, what: str, error: Exception) -> None:
        self.doctor.errors.append(f"{what}: {type(error).__name__}: {error}")


def _replace(of: Pass, old: Tensor, new: Tensor) -> None:
    of.batch = of.batch.replaced(old, new)


def same(anew: Tensor, told: Tensor) -> bool:
    """Return whether a loss came out as it was told."""
    a, b = float(anew), float(told)
    near = MOST_LIKE * abs(b) if told.device.type != "cpu" and math.isfinite(b) else 0.0
    return a == b or (a != a and b != b) or abs(a - b) <= near


def _is_ours(error: Exception) -> bool:
    trace: types.TracebackType | None = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and trace.tb_frame.f_globals.get("__name__", "").startswith("steepest.")
