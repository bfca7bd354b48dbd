"""The tensors that are stepped together, and how one step of a program runs over them."""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from steepest.kernels.cpu import Launcher, Rows
from steepest.kernels.plan import Program
from steepest.kernels.stage import kept, temporary
from steepest.kernels.values import Values

Shapes = list[tuple[int, int, int]] | None
Sums = dict[tuple[str, int], Any]  # (label, which of that label) -> sum over all tensors; on a GPU a tensor of one

_address = Tensor.data_ptr


class Form(NamedTuple):
    """What tensors must have in common to be stepped together.

    matrix: (rows, columns) of each unit where a rule looks at matrices, else None. blocks: how many units one parameter
    is split into, along its rows (the gates of an LSTM, query-key-value).
    """

    device: str
    dtype: torch.dtype
    matrix: tuple[int, int] | None = None
    blocks: int = 1

    def facts(self) -> dict[str, Any]:
        """Return what a formula may ask of the numbers it computes with."""
        return {"dtype": self.computed_in, "stored": _real(self.dtype), "epsilon": torch.finfo(self.dtype).eps}

    @property
    def computed_in(self) -> torch.dtype:
        """The dtype of the arithmetic: double for double, else single."""
        return torch.float64 if self.dtype in (torch.float64, torch.complex128) else torch.float32


class Graph(NamedTuple):
    """A program, the values of its constants at this step, and the name of the rule that it came from.

    constants: of all tensors, or, where the program allows it, lines of them.
    """

    program: Program
    constants: Any
    rule: str


class Batch:
    """Parameters with their gradients and states, addressed by kernels.

    fixed: the parameters stay where they are. states: name -> one tensor for each parameter (those shaped like it).
    stacked: name -> all units in one tensor: scalars (units,), matrix-shaped states (units, m, 1 | 1, n | m, m | n, n).
    lines: of each unit, which line of constants is its own; None where there is one for all. shapes: (count, m, n) of
    units one after the other, where they are matrices of several shapes; then each of these has a line.
    """

    def __init__(
        self, form: Form, parameters: list[Tensor], fixed: bool, lines: np.ndarray | None = None, shapes: Shapes = None
    ) -> None:
        self.form, self.parameters, self.fixed, self.lines, self.shapes = form, parameters, fixed, lines, shapes
        self.states: dict[str, list[Tensor]] = {}
        self.stacked: dict[str, Tensor] = {}
        parts = 2 if form.dtype.is_complex else 1  # a complex number is a pair of reals, as in torch
        sizes = np.array([p.numel() * parts // form.blocks for p in parameters], np.int64)
        self.rows = Rows(np.repeat(sizes, form.blocks).tolist())
        self.size = torch.from_numpy(np.maximum(self.rows.sizes, 1).astype(np.float64))
        self.facts = form.facts()
        self.pieces = (np.cumsum(self.rows.sizes) - self.rows.sizes) * form.computed_in.itemsize  # of a stack, in bytes
        self.launchers: dict[Program, Launcher] = {}
        self.addresses: dict[tuple[int, str], list[int] | int] = {}
        self.offsets = np.tile(np.arange(form.blocks), len(parameters)) * np.repeat(sizes, form.blocks)

    def launcher(self, program: Program) -> Launcher:
        """Return the machine code of a program for these tensors."""
        launcher = self.launchers.get(program)
        if launcher is None:
            dtypes = {"p": self.form.dtype, "g": self.form.dtype}
            dtypes |= {name: tensors[0].dtype for name, tensors in self.states.items() if tensors}
            launcher = Launcher(program, self.rows, {name: real(d) for name, d in dtypes.items()}, self.lines)
            self.launchers[program] = launcher
        return launcher

    def point(self, launcher: Launcher, column: str, tensors: list[Tensor]) -> None:
        """Set a column of the pointer table, if it changed.

        A kernel believes its table. States are looked at here; gradients, and the place of parameters that stay where
        they are, by whoever brings them.
        """
        key = (id(launcher), column)
        if column == "p" and self.fixed and key in self.addresses:
            return
        addresses = list(map(_address, tensors))
        if self.addresses.get(key) == addresses:
            return
        for tensor, p in zip(tensors, self.parameters, strict=True) if column != "g" else ():
            if (
                real(tensor.dtype) != launcher.dtypes[column]
                or tensor.is_complex() != p.is_complex()
                or tensor.device != p.device
                or tensor.shape != p.shape
                or tensor.stride() != p.stride()
            ):
                raise ValueError(
                    f"a tensor of the state {column!r} is {_described(tensor)}, and the parameter is {_described(p)}: "
                    f"states are replaced by load_state_dict"
                )
        self.addresses[key] = addresses
        table = np.array(addresses, np.int64)
        if self.form.blocks > 1:
            item = {"float64": 8, "float32": 4}.get(launcher.dtypes[column], 2)
            table = np.repeat(table, self.form.blocks) + self.offsets * item
        launcher.point(column, table)


def _described(tensor: Tensor) -> str:
    return f"{tensor.dtype} {tuple(tensor.shape)} with strides {tensor.stride()} on {tensor.device}"


def real(dtype: torch.dtype) -> str:
    """Return the name of a dtype, of one part for complex numbers."""
    return str(_real(dtype)).removeprefix("torch.")


def _real(dtype: torch.dtype) -> torch.dtype:
    return {torch.complex64: torch.float32, torch.complex128: torch.float64}.get(dtype, dtype)


class Run:
    """One step of one program over one batch, stage by stage.

    gradients: one for each parameter, in its memory order. given: values of inputs that are not tensors of the batch.
    """

    def __init__(self, batch: Batch, graph: Graph, gradients: list[Tensor], given: Mapping[str, Any]) -> None:
        self.program, self.constants, self.rule = graph
        self.batch, self.gradients, self.given = batch, gradients, given
        self.launcher = batch.launcher(self.program)
        self.totals: dict[int, float] = {}
        tensors = {"p": batch.parameters, "g": gradients, **batch.states}
        for name in self.launcher.columns:
            if name in tensors:
                batch.point(self.launcher, name, tensors[name])

    @cached_property
    def values(self) -> Values:
        """All values of this step; many a rule asks for none outside of its kernel."""
        return Values(self.program, self.constants, _Inputs(self.batch, self.gradients, self.given), batched=True)

    def stage(self, k: int) -> None:
        """Run stage k. All batches that share a sum with this one must have run the stages before it."""
        stage = self.program.stages[k]
        if k == len(self.program.stages) - 1:
            for index in self.program.read_between:  # before they are overwritten
                self.values[index]
        for index in stage.temporaries:
            self.values[index] = self._temporary(index)
            self._point_stack(temporary(index), self.values[index])
        stacks = {index: self._stack(kept(index)) for index in stage.kept}
        sums = self._launch(k)
        for index, stack in stacks.items():
            self.values[index] = stack
        if stage.reductions:
            self._know_sums(stage.reductions, sums)

    def _temporary(self, index: int) -> Tensor:
        """Return the value of a matrix function as kernels take it."""
        return self.values[index].to(self.batch.form.computed_in).contiguous()

    def _launch(self, k: int) -> Any:
        """Run the kernel of stage k; return its sums, one line for each tensor and one column for each reduction."""
        stage, slots = self.program.stages[k], self.program.slots[k]
        if slots is None:
            constants = [float(self.values[index]) for index in stage.constants]
        elif self.batch.lines is None:
            constants = [self.constants[slot] for slot in slots]
        else:
            constants = [[line[slot] for slot in slots] for line in self.constants]
        return self.launcher.run(k, constants, [np.asarray(self.values[index]) for index in stage.scalars])

    def _know_sums(self, reductions: Sequence[int], sums: Any) -> None:
        for place, index in enumerate(reductions):
            if index in self.program.only_added:
                self.totals[index] = 0.0 if sums is None else float(sums[:, place].sum())
            else:
                self.values[index] = torch.from_numpy(sums[:, place].copy())  # type: ignore[index]

    def total(self, index: int) -> float:
        """Return the sum of a scalar over the tensors of the batch."""
        return self.totals[index] if index in self.totals else float(self.values[index].sum())

    def know(self, index: int, value: Any) -> None:
        """Take a value that all tensors share."""
        if index in self.program.unread:
            self.totals[index] = value
        else:
            self.values[index] = shared(value)

    def _stack(self, column: str) -> Tensor:
        form = self.batch.form
        assert form.matrix is not None
        stack = torch.empty((len(self.batch.rows.sizes), *form.matrix), dtype=form.computed_in, device=form.device)
        self._point_stack(column, stack)
        return stack

    def _point_stack(self, column: str, stack: Tensor) -> None:
        key, address = (id(self.launcher), column), stack.data_ptr()
        if self.batch.addresses.get(key) != address:
            self.batch.addresses[key] = address
            self.launcher.point(column, self.batch.pieces + address)

    def finish(self) -> dict[str, Any]:
        """Write the states that kernels do not, and return the values that belong to no state of this batch."""
        others = {}
        for name, index in self.program.small:
            value = self.totals[index] if index in self.totals else self.values[index]
            if name in self.batch.stacked:
                stack = self.batch.stacked[name]
                stack.copy_(value) if isinstance(value, Tensor) else stack.fill_(value)  # a fill waits for no device
            else:
                others[name] = value
        return others


class _Inputs(dict):
    """The tensors of a batch as stacks, made when asked for."""

    def __init__(self, batch: Batch, gradients: list[Tensor], given: Mapping[str, Any]) -> None:
        super().__init__(given, **batch.stacked, **batch.facts, size=batch.size)
        self.batch, self.gradients = batch, gradients

    def __missing__(self, name: str) -> Tensor:
        batch, form = self.batch, self.batch.form
        tensors = {"p": batch.parameters, "g": self.gradients}.get(name) or batch.states[name]
        assert form.matrix is not None
        stack = torch.stack([tensor.detach().reshape(-1, *form.matrix) for tensor in tensors])
        self[name] = stack.reshape(-1, *form.matrix).to(form.computed_in)
        return self[name]


class Running(Protocol):
    """One step of one program over one batch: compiled (`Run`) or by torch operations (`eager.EagerRun`)."""

    program: Program
    rule: str

    def stage(self, k: int) -> None:
        """Run stage k."""
        ...

    def total(self, index: int) -> Any:
        """Return the sum of a scalar over the tensors of the batch."""
        ...

    def know(self, index: int, value: Any) -> None:
        """Take a value that all tensors share."""
        ...

    def finish(self) -> dict[str, Any]:
        """Write what is left to write; return the values that belong to no state of the batch."""
        ...


def shared(value: Any) -> Tensor:
    """Return a value that all tensors share as a tensor, for which dividing by 0 is no error."""
    return torch.tensor(float(value), dtype=torch.float64, device="cpu")


def together(runs: Sequence[Running], proceed: Callable[[Sums], bool] | None = None) -> list[dict[str, Any]] | None:
    """Run one step of all batches, stage by stage, so that sums over all tensors of the optimizer are known to each.

    proceed: asked as soon as sums are known; if it says no, nothing has been written yet, nothing will be, and the
    result is None. Else the result is what `Run.finish` returned for each batch.
    """
    last = max((len(run.program.stages) for run in runs), default=0)
    places = _places(runs)
    for k in range(last):
        sums = _share(places.get(k, ()))
        if sums and proceed and not proceed(sums):
            return None
        for run in runs:
            if k < len(run.program.stages):
                run.stage(k)
    _share(places.get(last, ()))
    return [run.finish() for run in runs]


def _places(runs: Sequence[Running]) -> dict[int, list[tuple[Running, int, tuple]]]:
    """Return what `everywhere` sums over all tensors by the stage before which it is known: (run, index, sum)."""
    places: dict[int, list[tuple[Running, int, tuple]]] = {}
    for run in runs:
        order: dict[str, int] = {}
        for index, level in run.program.shared:
            label = run.program.nodes[index][3] or run.rule
            order[label] = order.get(label, -1) + 1
            places.setdefault(level, []).append((run, index, (label, order[label])))
    return places


def _share(places: Sequence[tuple[Running, int, tuple]]) -> Sums:
    """Add up sums over all tensors, and tell each batch."""
    sums: Sums = {}
    for run, index, key in places:
        sums[key] = _sum(sums.get(key, 0.0), run.total(run.program.arguments(index)[0]))
    for run, index, key in places:
        run.know(index, sums[key])
    return sums


def _sum(a: Any, b: Any) -> Any:
    """Add sums of two batches; numbers of two devices meet on the host."""
    if isinstance(a, Tensor) and isinstance(b, Tensor) and a.device != b.device:
        return float(a) + float(b)
    return a + b
