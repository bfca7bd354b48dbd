"""What checks are given: what is known of the run, and experiments on copies of it."""

import inspect
import math
from collections.abc import Sequence
from functools import cached_property
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from steepest.doctor.aside import aside
from steepest.doctor.fresh import SAME, Fresh
from steepest.doctor.history import History, Pass, Update, Visit
from steepest.doctor.replay import AS_IT_WAS, Change, Replayed, Way, replay
from steepest.doctor.spy import Seen, Spy, ends_of
from steepest.doctor.tap import Tap
from steepest.doctor.twin import Twin, ask, copy_of

FORK = 60
"""Steps of a replay, at the most."""

HUGE = 100.0
"""A loss that has grown so much does not come out alike: a blow-up enlarges rounding."""

HALF = 0.5
"""What a run that goes well gains."""

PROOF = 12
"""Steps that have to come out as they did for replays to mean anything."""


class Lab:
    """A run, as far as it is known, and what can be asked of copies of it.

    model, optimizer: the run's own, to be read only. loss: None where it was not given. update: the one that is about
    to be made, for checks before a step. fresh: comparisons of its gradient and of earlier ones. event: the step at
    which the loss blew up, None otherwise. source: what the batches come from. scheduler: of the
    rate, if it was given. visits: each time the loop went over the source.
    failures: what loss= raised when such a gradient was asked for.
    notes: what an instrument has found out and need not find out again.
    """

    def __init__(self, model: nn.Module, optimizer: Optimizer, loss: Any, history: History, tap: Tap) -> None:
        self.model, self.optimizer, self.loss = model, optimizer, loss
        self.history, self.tap = history, tap
        self.fresh: list[Fresh] = []
        self.failures: list[str] = []
        self.update: Update | None = None
        self.modes: list[bool] = []
        self.start: Twin | None = None
        self.recent: Twin | None = None
        self.event: int | None = None
        self.source: Any = None
        self.scheduler: Any = None
        self.visits: list[Visit] = []
        self.notes: dict[Any, Any] = {}
        self._replays: dict[tuple[str, int, int], Replayed] = {}

    @property
    def now(self) -> int:
        """Updates so far."""
        return self.history.steps

    @cached_property
    def names(self) -> dict[int, str]:
        """Id of a parameter of the model -> its name."""
        return {id(parameter): name for name, parameter in self.model.named_parameters()}

    def names_now(self) -> dict[int, str]:
        """Return the same of the parameters that the model has now."""
        return {id(parameter): name for name, parameter in self.model.named_parameters()}

    def stepped(self) -> list[nn.Parameter]:
        """Return the parameters that the optimizer holds."""
        return [each for group in self.optimizer.param_groups for each in group["params"]]

    def passes(self, count: int = FORK) -> list[Pass]:
        """Return the first batches that are remembered."""
        found = {id(each.of): each.of for update in self.history.first for each in update.backwards}
        return list(found.values())[:count]

    def twin(self) -> nn.Module:
        """Return a copy of the model as it is now, in the modes that it trained in."""
        return copy_of(self.model, self.modes)

    def ask(self, model: nn.Module, of: Pass, batch: Any = None) -> Tensor:
        """Return the loss of a batch, or of another one in its place, with its random numbers.

        What the loss keeps from one call to the next is as the loop left it, each time.
        """
        with_gradients = torch.is_grad_enabled()
        with aside(self.loss, self.model), torch.set_grad_enabled(with_gradients):
            return ask(model, self.loss, of, batch)

    def watched(self, of: Pass, model: nn.Module | None = None) -> Seen:
        """Return the torch functions that are called while the loss of a batch is computed, on a copy."""
        with Spy() as spy:
            self.ask(model or self.twin(), of)
        return spy.seen

    @property
    def constant(self) -> float | None:
        """The loss of the best constant prediction, where the criteria are known; from 8 batches, later from 40.

        It is what the loop would tell, which may multiply or divide its losses.
        """
        best = self._ends[0]
        return None if best is None else best * self.way.factor

    @property
    def floor(self) -> float:
        """The loss of predictions that are all right, where the criteria are known; 0 otherwise."""
        return self._ends[1] * self.way.factor

    @property
    def bottomless(self) -> bool:
        """Whether nobody knows how far the loss can fall: it is below 0, and not made of known criteria."""
        return self.constant is None and self.late() < 0

    @property
    def _ends(self) -> tuple[float | None, float]:
        passes = self.passes(8 if self.now < 35 else 40)
        key = ("constant", len(passes))
        if key not in self.notes:
            self.notes[key] = self._between(passes) if self.loss is not None else (None, 0.0)
        return self.notes[key]

    def _between(self, passes: list[Pass]) -> tuple[float | None, float]:
        model = self.twin()
        seen: list[tuple[Tensor, Seen]] = []
        for of in passes:
            with Spy() as spy:
                seen.append((self.ask(model, of), spy.seen))
        return ends_of(seen)

    @property
    def scale(self) -> float | None:
        """What the loss had to fall by: from its first value, or that of the best constant where it is lower, to 0.

        Where it can be below 0, to what it is with all predictions right, or as far as it has fallen.
        """
        known = [each for each in (*self.history.losses[:1], self.constant) if each is not None and math.isfinite(each)]
        if not known:
            return None
        if self.floor < 0:
            return max(abs(min(known) - self.floor), 1e-12)
        fallen = min(known) - self.late() if self.bottomless else 0.0
        return max(abs(min(known)), fallen, 1e-12)

    @property
    def gain(self) -> float:
        """The part of `scale` by which the loss has fallen below it; minus infinity where it is not finite now."""
        late = self.late()
        if self.scale is None or not math.isfinite(late):
            return -math.inf
        first = self.history.losses[0]
        start = min(first, self.constant) if self.constant is not None and math.isfinite(first) else first
        return (start - late) / self.scale

    @property
    def sick(self) -> bool:
        """Whether less than half was gained: a gate for what is looked for only where training does not go well."""
        return self.gain < HALF and not self.history.swings

    def late(self, count: int = 8) -> float:
        """Return the median of the last losses, at most a quarter of all; NaN where the last is not finite."""
        last = self.history.losses[-min(count, max(1, self.now // 4)) :]
        return median(last) if last and math.isfinite(last[-1]) else math.nan

    @property
    def way(self) -> Way:
        """The factor of the loss, and the clipping, that comparisons with fresh gradients have shown."""
        factors = [each.factor for each in self.fresh if each.factor is not None]
        factor = median(factors) if factors else 1.0
        bounds = [each.bound for each in self.fresh if each.bound < math.inf]
        lengths = [each.ratio * abs(factor) for each in self.fresh if each.faithful]
        unscaled = factor != 1.0 and bool(lengths) and abs(median(lengths) - 1) < SAME
        clip = math.inf if self.clip is None or unscaled else self.clip
        return Way(factor, clip, median(bounds) if bounds else math.inf, unscaled)

    @property
    def clip(self) -> float | None:
        """The length that gradients are clipped to: that of most of those that were shortened; None where none were."""
        used = [each.ratio * each.length for each in self.fresh if each.faithful and each.ratio < 1 - SAME]
        if len(used) < 2:
            return None
        middle = median(used)
        close = [each for each in used if abs(each - middle) < 0.02 * middle]
        return middle if len(close) > len(used) / 2 else None

    def remembered(self, start: Twin, count: int) -> Sequence[Update]:
        """Return the updates that can be made again from a snapshot."""
        return self.history.remembered(start.step, count)

    def replay(self, change: Change = AS_IT_WAS, start: Twin | None = None, count: int = FORK) -> Replayed | None:
        """Make updates again with something changed, from the first snapshot unless another is given.

        None where there is no snapshot, nothing is remembered, or the optimizer calls the loss as often as it likes.
        Each is made once.
        """
        start = start or self.start
        updates = self.remembered(start, count) if start is not None and self.loss is not None else ()
        if start is None or not updates or not all(each.plain for each in updates) or _needs_closure(start):
            return None
        key = (change.name, start.step, len(updates))
        if key not in self._replays:
            made = _replayed(start, updates, self.loss, self.way, change)
            if made is None:
                return None
            self._replays[key] = made
        return self._replays[key]

    def go_on(self, start: Twin, updates: Sequence[Update], change: Change) -> Replayed:
        """Make updates, that were made before or not, from any copy; made once for each step and change."""
        key = (change.name, -1 - self.now, len(updates))
        if key not in self._replays:
            self._replays[key] = replay(start, updates, self.loss, self.way, change)
        return self._replays[key]

    def licence(self, start: Twin | None = None) -> bool:
        """Return whether a replay comes out as the run did, so that one with something changed means anything."""
        same = self.replay(start=start, count=PROOF)
        start = start or self.start
        if same is None or start is None:
            return False
        told = self.history.losses[start.step : start.step + len(same.losses)]
        calm = HUGE * max(abs(told[0]), 1e-12) if told else 0.0
        return all(_close(a, b) or abs(b) > calm for a, b in zip(same.losses, told, strict=True))


def _needs_closure(twin: Twin) -> bool:
    """Return whether an optimizer cannot step without a function that computes the loss, as LBFGS cannot."""
    wanted = inspect.signature(twin.optimizer.step).parameters.get("closure")
    return wanted is not None and wanted.default is inspect.Parameter.empty


def _close(a: float, b: float) -> bool:
    return a == b or abs(a - b) <= 0.02 * abs(b) or (a != a and b != b)


def _replayed(start: Twin, updates: Sequence[Update], loss: Any, way: Way, change: Change) -> Replayed | None:
    """Return a replay; None where the loss keeps a state whose graph only the loop itself cuts."""
    try:
        return replay(start, updates, loss, way, change)
    except RuntimeError as error:
        if "graph a second time" in str(error):
            return None
        raise
