"""loss(model, batch) of a script that has no such function: its steps, as lines that can be run on a copy."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from steepest.doctor.script_trace import States, flat, restore, walked

SCALARS = ("mul", "__mul__", "div", "__truediv__", "true_divide")
"""What a loss goes through when it is given a factor."""


class Leaves(tuple[Tensor, ...]):
    """The tensors that a loss was computed from: a batch. formula: how; None in what others make of it.

    versions: how often each had been written into.
    """

    formula: Formula | None = None
    versions: tuple[int, ...] = ()

    def known(self, formula: Formula | None) -> Leaves:
        """Return them with a formula."""
        self.formula, self.versions = formula, tuple(each._version for each in self)
        return self

    def replaced(self, old: Tensor, new: Tensor) -> Leaves:
        """Return the same batch with another tensor in the place of one."""
        return Leaves(new if each is old else each for each in self).known(self.formula)


@dataclass(frozen=True)
class Slot:
    """What stands for a value: a leaf by its place, a result by the place of its line, a parameter by its name."""

    kind: str
    key: Any
    place: int = 0


@dataclass
class Line:
    """One call of a formula. module: name in the model, None for a function. full: whether autocast was lifted.

    random: states that generators are put into before, None where they are as the call before has left them.
    """

    function: Any
    args: Any
    kwargs: Any
    module: str | None = None
    full: bool = False
    changes: bool = False
    random: States | None = None

    def run(self, model: nn.Module, value: Callable[[Any], Any]) -> Any:
        """Make the call. value: of a slot."""
        args, kwargs = walked(self.args, value), walked(self.kwargs, value)
        if self.changes:
            written = args[0].clone()
            self.function(written, *args[1:], **kwargs)
            return written
        if self.random is not None:
            restore(self.random)
        function = self.function if self.module is None else model.get_submodule(self.module)
        with _lifted(model) if self.full else nullcontext():
            return function(*args, **kwargs)


@dataclass
class Formula:
    """A loss as lines, and which result it is. rows: that a batch had. signature: names of what is called."""

    lines: list[Line]
    result: Slot
    rows: int | None
    signature: tuple[str, ...] = ()

    def run(self, model: nn.Module, leaves: tuple[Tensor, ...], rows: int | None = None) -> Tensor:
        """Return the loss of a batch. rows: of this batch, put where the number of rows was written as a number."""
        results: list[list[Tensor]] = []
        own = dict(model.named_parameters())

        def value(of: Any) -> Any:
            if isinstance(of, Slot):
                return leaves[of.key] if of.kind == "leaf" else own[of.key] if of.kind == "own" else made(of)
            return rows if rows is not None and of == self.rows and type(of) is int else of

        def made(of: Slot) -> Tensor:
            return results[of.key][of.place]

        for line in self.lines:  # each needs the results of those before
            results += [flat(line.run(model, value))]
        return made(self.result)

    def without_factor(self) -> Formula:
        """Return the loss before it was multiplied or divided by a positive number at last."""
        last = self.lines[-1]
        scales = last.module is None and getattr(last.function, "__name__", "") in SCALARS
        factor: tuple[Any, ...] = last.args[1:] if scales else ()
        inner = last.args[0] if factor else None
        if not isinstance(inner, Slot) or inner.kind != "made" or last.changes:
            return self
        if not all(isinstance(each, int | float) and each > 0 for each in factor):
            return self
        return Formula(self.lines[:-1], inner, self.rows, self.signature[:-1]).without_factor()


class Recipe:
    """loss(model, batch) of a script. Raises ValueError of a batch that no formula is known for."""

    def __init__(self) -> None:
        self.forms: dict[Any, Formula] = {}

    def __call__(self, model: nn.Module, batch: Any) -> Tensor:
        """Return the loss of a batch, or of one that was made of one."""
        leaves = tuple(flat(batch))
        if isinstance(batch, Leaves) and batch.formula and batch.versions != tuple(each._version for each in batch):
            raise ValueError("A batch was written over since, so its loss cannot be computed anew.")
        own = getattr(batch, "formula", None) or self.forms.get(form(leaves))
        if own is not None:
            return own.run(model, leaves)
        for other in reversed([each for shapes, each in self.forms.items() if len(shapes) == len(leaves)]):
            rows = {len(each) for each in leaves if each.ndim}
            return other.run(model, leaves, rows.pop() if len(rows) == 1 else None)
        raise ValueError("It is not known how the script would compute the loss of such a batch.")

    def learn(self, leaves: Leaves) -> None:
        """Take in how the loss of a batch was computed."""
        if leaves.formula is not None:
            self.forms.pop(form(leaves), None)
            self.forms[form(leaves)] = leaves.formula


def form(leaves: tuple[Tensor, ...]) -> tuple[Any, ...]:
    """Return what batches have in common whose loss is computed alike."""
    return tuple((each.shape, each.dtype) for each in leaves)


def _lifted(model: nn.Module) -> AbstractContextManager[Any]:
    """Return the context in which autocast is off."""
    device = next((each.device.type for each in model.parameters()), "cpu")
    return torch.autocast(device, enabled=False)
