"""Reads how a loss was computed from the calls that were noted: what of it is data, what the model, what a constant."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from steepest.doctor.script_loss import Formula, Leaves, Line, Slot
from steepest.doctor.script_trace import CONVERSIONS, Call, Ref, States, Trace, alike, flat, leading_to, walked

SMALL = 2**20
"""Entries of a tensor that is kept as it is now, because the script may write into it."""


class Unknown(Exception):
    """Says why a loss cannot be read. others: modules that it hangs on, and that are not in the model."""

    def __init__(self, why: str, others: Sequence[nn.Module] = ()) -> None:
        super().__init__(why)
        self.others = others


@dataclass
class Reader:
    """Reads how a loss was computed. model: that it is of; modules, parameters: their names, by id."""

    trace: Trace
    modules: dict[int, str]
    parameters: dict[int, str]
    calls: list[Call] = field(default_factory=list)

    def read(self, loss: Tensor, since: int) -> Leaves:
        """Return the batch, with its formula. since: steps that had been made after the last one of the optimizer.

        Raises Unknown.
        """
        end = self.trace.origin(loss)
        if end is None:
            raise Unknown("the loss comes from something that is not a torch function called in the loop")
        self.calls = leading_to(end.call)
        called = [each for each in self.calls if isinstance(each.function, nn.Module)]
        others = {id(each.function): each.function for each in called if id(each.function) not in self.modules}
        if others:
            kinds = ", ".join(type(each).__name__ for each in others.values())
            raise Unknown(f"it also hangs on {kinds}, which is not in the model", list(others.values()))
        if any(each.when < since for each in called):
            raise Unknown("its graph reaches back to before the last step")
        return _Writing(self, _rows(self.calls)).written(end)


class _Writing:
    """A formula that is being written."""

    def __init__(self, reader: Reader, rows: int | None) -> None:
        self._reader, self._rows = reader, rows
        self._lines: list[Line] = []
        self._results: dict[int, int] = {}
        self._leaves: list[Tensor] = []
        self._slots: dict[int, Any] = {}
        self._states: States | None = None

    def written(self, end: Ref) -> Leaves:
        mixed = any(each.autocast for each in self._reader.calls)
        for call in self._reader.calls:
            module = self._reader.modules[id(call.function)] if isinstance(call.function, nn.Module) else None
            if call.changes and isinstance(call.args[0], Tensor) and not call.args[0].requires_grad:
                self._slots[id(call.args[0])] = call.args[0]  # what is written into is no data
            args, kwargs = walked(call.args, self._slot), walked(call.kwargs, self._slot)
            full = mixed and not call.autocast
            self._lines.append(Line(call.function, args, kwargs, module, full, call.changes, self._random(call)))
            self._results[id(call)] = len(self._lines) - 1
        if not self._leaves:
            raise Unknown("no data of a batch go into it")
        calls = self._reader.calls
        end_slot = Slot("made", self._results[id(end.call)], end.place)
        formula = Formula(self._lines, end_slot, self._rows, tuple(each.name for each in calls))
        return Leaves(self._leaves).known(formula)

    def _random(self, call: Call) -> States | None:
        before, self._states = self._states, self._states if call.random is None else call.random[1]
        if call.random is None or (before is not None and alike(before, call.random[0])):
            return None
        return call.random[0]

    def _slot(self, value: Any) -> Any:
        if isinstance(value, Ref):
            return Slot("made", self._results[id(value.call)], value.place)
        if isinstance(value, torch.Generator):
            raise Unknown("it draws random numbers from a generator of its own")
        if not isinstance(value, Tensor):
            return value
        if id(value) not in self._slots:
            self._slots[id(value)] = self._tensor(value)
        return self._slots[id(value)]

    def _tensor(self, value: Tensor) -> Any:
        """Return the slot of a tensor that no call gave; of data, of what they were before they changed their shape."""
        name = self._reader.parameters.get(id(value))
        if name is not None:
            return Slot("own", name)
        if value.requires_grad:
            raise Unknown("it hangs on a tensor that asks for a gradient and is not a parameter of the model")
        chain = _chain(value, self._reader.trace)
        ends = [number for number, each in enumerate(chain) if self._has_rows(each[0])]
        if not ends:
            return value.clone() if value.numel() <= SMALL and not isinstance(value, nn.Parameter) else value
        slot = self._leaf(chain[ends[-1]][0])
        for _, call in reversed(chain[: ends[-1]]):
            assert call is not None
            self._lines.append(Line(call.function, (slot, *call.args[1:]), call.kwargs))
            slot = Slot("made", len(self._lines) - 1)
        return slot

    def _leaf(self, value: Tensor) -> Slot:
        for place, each in enumerate(self._leaves):
            if each is value:
                return Slot("leaf", place)
        self._leaves.append(value)
        return Slot("leaf", len(self._leaves) - 1)

    def _has_rows(self, value: Tensor) -> bool:
        return value.ndim > 0 and (self._rows is None or len(value) == self._rows)


def _rows(calls: list[Call]) -> int | None:
    """Return how many rows the model is given first."""
    for call in calls:
        given = [each for each in flat([*call.args, call.kwargs]) if each.ndim]
        if isinstance(call.function, nn.Module) and given:
            return len(given[0])
    return None


def _chain(value: Tensor, trace: Trace) -> list[tuple[Tensor, Call | None]]:
    """Return data, what they were before their last conversion, and so on; each with the conversion it came by."""
    chain: list[tuple[Tensor, Call | None]] = []
    while len(chain) < len(CONVERSIONS):
        call = trace.source(value)
        chain.append((value, call))
        if call is None or call.args[0].dtype == torch.bool:  # what is true is made a number, and is a target as one
            break
        value = call.args[0]
    return chain
