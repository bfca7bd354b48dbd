"""The same step by torch operations, for what has no kernel. Right everywhere, fast nowhere."""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from steepest.formula.symbol import ELEMENT, SCALAR
from steepest.kernels.batch import Batch, Graph, shared
from steepest.kernels.values import Values


class EagerRun:
    """One step of one program over one batch, each tensor for itself."""

    def __init__(self, batch: Batch, graph: Graph, gradients: list[Tensor], given: Mapping[str, Any]) -> None:
        self.batch = batch
        self.program, constants, self.rule = graph
        tensors = {"p": batch.parameters, "g": gradients, **batch.states}
        self.memory = {name: [u for tensor in column for u in self._units(tensor)] for name, column in tensors.items()}
        self.values = [
            Values(self.program, constants, self._inputs(unit, given), batched=False)
            for unit in range(len(batch.rows.sizes))
        ]

    def _units(self, tensor: Tensor) -> list[Tensor]:
        tensor = tensor.detach()
        if tensor.is_complex():
            tensor = torch.view_as_real(tensor)
        form = self.batch.form
        return [tensor] if form.matrix is None else list(tensor.view(form.blocks, *form.matrix).unbind(0))

    def _inputs(self, unit: int, given: Mapping[str, Any]) -> dict[str, Any]:
        form = self.batch.form
        inputs = {name: tensors[unit].to(form.computed_in) for name, tensors in self.memory.items()}
        shared = {
            name: value[unit] if isinstance(value, Tensor) and value.ndim else value for name, value in given.items()
        }
        stacked = {name: stack[unit].clone() for name, stack in self.batch.stacked.items()}
        return {**inputs, **shared, **stacked, "size": self.batch.size[unit], **form.facts()}

    def stage(self, k: int) -> None:
        """Do nothing: values are worked out when asked for, and written at the end."""

    def total(self, index: int) -> float:
        """Return the sum of a scalar over the tensors of the batch."""
        with _replicated(self.batch.parameters):
            return sum(float(_whole(values[index])) for values in self.values)

    def know(self, index: int, value: float) -> None:
        """Take a value that all tensors share."""
        for values in self.values:
            values[index] = shared(value)

    def finish(self) -> dict[str, Any]:
        """Write parameters and states, and return the values that belong to no state of this batch."""
        with _replicated(self.batch.parameters):
            return self._finish()

    def _finish(self) -> dict[str, Any]:
        others: dict[str, Any] = {}
        for unit, values in enumerate(self.values):
            results = {name: values[index] for name, index in self.program.outputs}
            for name, index in self.program.outputs:
                if self.program.nodes[index][1] == ELEMENT:
                    self.memory[name][unit].copy_(results[name])
                elif name in self.batch.stacked:
                    self.batch.stacked[name][unit].copy_(_whole(results[name]))
                elif self.program.nodes[index][1] == SCALAR:
                    others.setdefault(name, []).append(_whole(results[name]))
                else:
                    others[name] = _whole(results[name])
        return {name: torch.stack(value) if isinstance(value, list) else value for name, value in others.items()}


def _whole(value: Any) -> Tensor:
    """Return a value as a plain tensor, brought together if it is a distributed one."""
    return value.full_tensor() if hasattr(value, "full_tensor") else torch.as_tensor(value)


def _replicated(parameters: list[Tensor]) -> AbstractContextManager[Any]:
    """Let numbers meet the parts of a distributed tensor, as if each process had them (they are the same in all)."""
    if any(type(p.data).__name__ == "DTensor" for p in parameters[:1]):
        from torch.distributed.tensor.experimental import implicit_replication

        return implicit_replication()
    return nullcontext()
