"""The order in which a loop makes its calls, and what it leaves behind where nothing should be left."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

FEW = 32
"""Entries of a gradient that are looked at first."""

NODES = 20_000
"""Nodes of a graph that are looked at."""

OWN = ("torch", "steepest.doctor")
"""Modules whose frames are not the user's; demonstrations are."""

OFTEN = 8
"""Steps from one look at which parameters a model has to the next."""


@dataclass
class Grammar:
    """What is heard between one step and the next, besides what an update holds.

    listen: whether the update that begins will be looked at, so that left-over gradients are worth a copy. left: id of
    a parameter -> its gradient before the first backward pass. wasted: backward passes in a row whose gradients were
    cleared unused; lost: all of them since the last step; skipped: before it; gaps: how many there were between steps.
    vain: those since the last step that reached no parameter.
    retained: graphs that were kept on purpose. oldest: of such a graph, step -> its oldest node and the first one
    since the last step, by number. elsewhere: passes without gradients outside of the loop, by mode; repeated: of the
    same in a row. inside: whether a batch is being worked on.
    mode: in which the model was last called for training. trained: modes in which it ever was. places: of the user's
    calls, file and line.
    """

    model: nn.Module
    optimizer: Optimizer
    listen: bool = True
    left: dict[int, Tensor] = field(default_factory=dict)
    wasted: int = 0
    lost: int = 0
    skipped: int = 0
    gaps: set[int] = field(default_factory=set)
    vain: int = 0
    retained: int = 0
    oldest: dict[int, tuple[int, int]] = field(default_factory=dict)
    elsewhere: dict[bool, int] = field(default_factory=lambda: {True: 0, False: 0})
    repeated: int = 0
    inside: bool = False
    mode: bool = True
    trained: set[bool] = field(default_factory=set)
    places: dict[str, str] = field(default_factory=dict)
    _mark: int = 0
    _same: tuple[int, ...] = ()
    _members: int = 0

    def forward(self, module: nn.Module, inputs: tuple[Any, ...], steps: int) -> None:
        """Hear that the model is called."""
        if torch.is_grad_enabled():
            self.mode = module.training
        elif not self.inside and steps:
            self.elsewhere[module.training] += 1
            same = tuple(id(each) for each in inputs)
            self.repeated = self.repeated + 1 if same == self._same else 0
            self._same = same
            self.places[f"evaluation {module.training}"] = place() if self.elsewhere[module.training] < 3 else ""

    def backward_begins(self, loss: Tensor, first: bool, stale: bool, step: int) -> None:
        """Hear that a backward pass is about to be made. first: since the last step; stale: gradients are there."""
        if first:
            self.left = {}
            if self.listen:
                self.left = dict(self._left())
                self.places["backward"] = place()
        self.wasted = 0 if first or stale else self.wasted + 1
        self.lost += not first and not stale
        if self.listen and self.retained:
            self.oldest[step] = (oldest(loss), self._mark)

    def backward_ends(self, touched: bool) -> None:
        """Hear that it was made."""
        self.trained.add(self.mode)
        self.vain = 0 if touched else self.vain + 1

    def step_begins(self, step: int) -> None:
        """Hear that the optimizer is about to step."""
        if self.listen:
            self.places["step"] = place()
        if step % OFTEN == 0:
            self._members = hash(tuple(id(each) for each in self.model.parameters() if each.requires_grad))

    def step_ends(self) -> None:
        """Hear that it has stepped."""
        if self.lost:
            self.skipped += self.lost
            self.gaps.add(self.lost)
        self.wasted = self.lost = 0
        if self.retained:
            self._mark = newest()

    def sign(self) -> tuple[Any, ...]:
        """Return what does not change from step to step while a loop goes its way."""
        return (bool(self.left), self.vain > 0, self.mode, self.retained > 0, self.elsewhere[True] > 0, self._members)

    def _left(self) -> Iterator[tuple[int, Tensor]]:
        for group in self.optimizer.param_groups:
            for each in group["params"]:
                if each.grad is not None and not each.grad.is_sparse and is_there(each.grad):
                    yield id(each), each.grad.clone()


def is_there(gradient: Tensor | None) -> bool:
    """Return whether a gradient is more than zeros. Looking at a few entries first spares most looks at all of them."""
    if gradient is None:
        return False
    if gradient.numel() > FEW and gradient.layout is torch.strided and gradient.is_contiguous():
        few = gradient.detach().view(-1)[:: gradient.numel() // FEW]
        if bool(few.any()):
            return True
    return bool(gradient.any())


def newest() -> int:
    """Return the number that the next node of a graph would have."""
    with torch.enable_grad():
        node = (torch.zeros(1, requires_grad=True) * 1).grad_fn
    return -1 if node is None else node._sequence_nr()


def oldest(loss: Tensor) -> int:
    """Return the number of the oldest operation in the graph of a loss, -1 if there is none."""
    numbers = [node._sequence_nr() for node in nodes(loss) if not hasattr(node, "variable")]
    return min(numbers, default=-1)


def nodes(loss: Tensor, most: int = NODES) -> Iterator[Any]:
    """Yield the nodes of the graph of a loss, each once; at most so many."""
    waiting, seen = [loss.grad_fn], set()
    while waiting and len(seen) < most:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        yield node
        waiting += [before for before, _ in node.next_functions]


def place() -> str:
    """Return the file and line of the user's that is being run."""
    frame = sys._getframe(1)
    while frame is not None:
        name = frame.f_globals.get("__name__", "")
        if "doctor.causes" in name or not any(name == own or name.startswith(f"{own}.") for own in OWN):
            return f"{frame.f_code.co_filename}:{frame.f_lineno}"
        frame = frame.f_back
    return ""
