"""What has happened in a loop, as far as it is remembered."""

import math
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

FIRST, LAST = 60, 120
"""Batches that are remembered of the beginning, and of what was lately."""

SWINGS = 0.1
"""Part of the steps at which a loss that swings about zero changes its sign."""

OFTEN = 8
"""Updates from one look at how large batches are to the next."""

ROOM = 64 * 2**20
"""Bytes that remembered batches may have, where they are larger than the model."""


@dataclass
class Pass:
    """A batch that was given out. random: state of the generators then; autocast: its dtype in the model, or None."""

    number: int
    batch: Any
    random: dict[str, Any]
    autocast: torch.dtype | None = None


@dataclass
class Visit:
    """One time that a loop goes over its batches: how many it took, and whether it came to their end."""

    batches: int = 0
    done: bool = False


@dataclass
class Backward:
    """A backward pass that reached the model.

    stale: whether a gradient was there before. training: the mode of the model.
    """

    of: Pass
    loss: Tensor
    stale: bool
    training: bool

    @property
    def value(self) -> float:
        """The loss as a number; reading it waits for the device."""
        return float(self.loss)


@dataclass
class Update:
    """What led to one step of the optimizer. settings: of its groups, such as rates, as they were for this step.

    clips: of each call of `clip_grad_norm_`, the greatest length it allows and the one that it found.
    left: gradients that were there before the first backward pass, by id of the parameter, at sampled steps.
    """

    step: int
    backwards: list[Backward]
    settings: list[dict[str, Any]]
    closure: bool = False
    empty: bool = False
    clips: list[tuple[float, Tensor]] = field(default_factory=list)
    left: dict[int, Tensor] = field(default_factory=dict)

    @property
    def plain(self) -> bool:
        """Whether the optimizer called a closure, if it was given one, just once: such a step can be made without."""
        return not self.closure or len(self.backwards) == 1

    @property
    def loss(self) -> float:
        """Mean of the losses, NaN without any."""
        values = [backward.value for backward in self.backwards]
        return sum(values) / len(values) if values else math.nan

    @cached_property
    def rates(self) -> list[float]:
        """Rate of each group."""
        return [float(group["lr"]) for group in self.settings]


@dataclass
class History:
    """All losses, and the updates whose batches are remembered: the first ones and the latest.

    turns: how often the loss has changed its sign.
    """

    room: int = ROOM
    losses: list[float] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)
    first: list[Update] = field(default_factory=list)
    latest: deque[Update] = field(default_factory=deque)
    turns: int = 0
    _most: int = LAST

    def add(self, update: Update) -> None:
        """Take in an update."""
        loss = update.loss
        self.turns += bool(self.losses) and loss * self.losses[-1] < 0
        self.losses.append(loss)
        self.rates.append(max(update.rates, default=0.0))
        if self.steps % OFTEN == 1:
            size = sum(size_of(backward.of.batch) for backward in update.backwards)
            self._most = max(2, min(LAST, self.room // max(1, size)))
        if len(self.first) < min(FIRST, self._most):
            self.first.append(update)
        self.latest.append(update)
        while len(self.latest) > self._most:
            self.latest.popleft()

    @property
    def swings(self) -> bool:
        """Whether the loss swings about zero, as one of rewards does: then it does not say how well training goes."""
        return self.turns > SWINGS * self.steps

    @property
    def steps(self) -> int:
        """Updates so far."""
        return len(self.losses)

    def remembered(self, start: int, count: int) -> list[Update]:
        """Return the updates from step start on, at most count; those that are remembered without a gap."""
        kept = {update.step: update for update in (*self.first, *self.latest)}
        found = []
        for step in range(start, start + count):
            if step not in kept:
                break
            found.append(kept[step])
        return found


def apart(updates: Iterable[Update]) -> list[Update]:
    """Return an update for each batch, where several batches had one together, or the same one had several."""
    kept = {id(each.of): (each, update) for update in updates for each in update.backwards}
    return [replace(update, backwards=[each], clips=[], left={}) for each, update in kept.values()]


def size_of(value: Any) -> int:
    """Return the bytes of all tensors in a batch."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors(value))


def tensors(value: Any) -> Iterator[Tensor]:
    """Yield the tensors in a batch, in order."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        for each in value.values():
            yield from tensors(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from tensors(each)


def owner(passes: Sequence[Pass], inputs: Any) -> Pass | None:
    """Return the latest of some passes whose batch holds what the model is given, or begins with it; None if none."""
    given = {each.data_ptr(): each.numel() for each in tensors(inputs) if each.numel()}
    begins = None
    for of in reversed(passes):
        own = [each for each in tensors(of.batch) if each.data_ptr() in given]
        if any(given[each.data_ptr()] == each.numel() for each in own):
            return of
        begins = of if own and begins is None else begins
    return begins
