"""Replays of some steps from a snapshot, as they were or with something changed."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from statistics import median
from typing import Any

import torch
from torch import Tensor

from steepest.doctor.history import Pass, Update
from steepest.doctor.twin import Twin, ask


@dataclass(frozen=True)
class Change:
    """What is done differently in a replay.

    prepare: what is done to the copy before it begins. rate: factor of all rates, or a function of how many steps of
    the replay are made. settings: what groups have instead. before: what is done to the copy before a step, given how
    many are made. batch, loss: what each becomes. clip: largest length of the gradient; math.inf lifts the clipping of
    the loop. inside: makes the context that losses and gradients are computed in.
    """

    name: str
    prepare: Callable[[Twin], None] = lambda twin: None
    before: Callable[[Twin, int], None] = lambda twin, made: None
    rate: float | Callable[[int], float] = 1.0
    settings: dict[str, Any] = field(default_factory=dict)
    batch: Callable[[Any], Any] | None = None
    loss: Callable[[Tensor], Tensor] | None = None
    clip: float | None = None
    inside: Callable[[], AbstractContextManager[Any]] = nullcontext


AS_IT_WAS = Change("as it was")


@dataclass(frozen=True)
class Way:
    """What a loop does besides: the factor it gives the loss before backward, and how long it lets a gradient be.

    bound: how large it lets each entry be. unscaled: whether the factor is taken out of the gradient again, as a
    GradScaler does.
    """

    factor: float = 1.0
    clip: float = math.inf
    bound: float = math.inf
    unscaled: bool = False


@dataclass
class Replayed:
    """What came of a replay: the loss before each step, and the copy after the last one."""

    change: Change
    losses: list[float]
    twin: Twin

    @property
    def finite(self) -> bool:
        """Whether all losses are."""
        return all(math.isfinite(loss) for loss in self.losses)

    def late(self, count: int = 8) -> float:
        """Return the median of the last losses; infinite where one is not finite."""
        last = self.losses[-count:]
        return median(last) if last and self.finite else math.inf


def replay(start: Twin, updates: Sequence[Update], loss: Any, way: Way, change: Change = AS_IT_WAS) -> Replayed:
    """Make the updates again on a copy of a snapshot, at the rates they had, until a loss is not finite."""
    twin = start.copy()
    change.prepare(twin)
    return make(twin, updates, loss, way, change)


def make(twin: Twin, updates: Iterable[Update], loss: Any, way: Way, change: Change) -> Replayed:
    """Make the updates on a copy itself, which is prepared."""
    if change.clip is not None:
        way = replace(way, clip=change.clip)
    losses: list[float] = []
    for made, update in enumerate(updates):
        _set(twin, update, change, change.rate(made) if callable(change.rate) else change.rate)
        change.before(twin, made)
        losses.append(_step(twin, update, loss, change, way))
        twin.step += 1
        if not math.isfinite(losses[-1]):
            break
    return Replayed(change, losses, twin)


def _set(twin: Twin, update: Update, change: Change, rate: float) -> None:
    for group, recorded in zip(twin.optimizer.param_groups, update.settings, strict=False):
        group.update(recorded)
        group["lr"] = recorded["lr"] * rate
        group.update({name: value for name, value in change.settings.items() if name in group})


def _step(twin: Twin, update: Update, loss: Any, change: Change, way: Way) -> float:
    """Return the loss, as the loop would have told it."""
    twin.optimizer.zero_grad()
    total, wanted = 0.0, _trained(twin)
    for of, times in _by_batch(update):
        batch = of.batch if change.batch is None else change.batch(of.batch)
        with change.inside():
            value = ask(twin.model, loss, of, batch) * way.factor
            scale = times / way.factor if way.unscaled else times
            (scale * (value if change.loss is None else change.loss(value))).backward(inputs=wanted)
        total += times * float(value.detach())
    parameters = [each for group in twin.optimizer.param_groups for each in group["params"]]
    if way.clip < math.inf:
        torch.nn.utils.clip_grad_norm_(parameters, way.clip)
    if way.bound < math.inf:
        torch.nn.utils.clip_grad_value_(parameters, way.bound)
    twin.optimizer.step()
    return total / max(1, len(update.backwards))


def _by_batch(update: Update) -> list[tuple[Pass, int]]:
    """Return each batch, and how many backward passes were of it: its loss is computed once."""
    counts = Counter(id(backward.of) for backward in update.backwards)
    batches = {id(backward.of): backward.of for backward in update.backwards}
    return [(of, counts[key]) for key, of in batches.items()]


def _trained(twin: Twin) -> list[Tensor]:
    """Return what gradients are for: not the run's own parameters, on which a state that the loss keeps may hang."""
    held = [each for group in twin.optimizer.param_groups for each in group["params"]]
    every = {id(each): each for each in (*held, *twin.model.parameters())}
    return [each for each in every.values() if each.requires_grad]
