"""Launches the stages of one program over the tensors of one batch, on the CPU."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from steepest.kernels import machine, pool
from steepest.kernels.plan import Program, Stage
from steepest.kernels.stage import FIRST_WORD, ROW, assemble, kept, temporary


class Rows:
    """How the tensors of a batch are cut into rows. sizes: elements of each tensor."""

    def __init__(self, sizes: Sequence[int]) -> None:
        self.sizes = np.array(sizes, np.int64)
        self.elements = int(self.sizes.sum())
        each = np.maximum(1, -(-self.sizes // ROW))  # an empty tensor has one empty row, so that its sums are zero
        self.first = np.concatenate([[0], np.cumsum(each)[:-1]]) if len(each) else np.zeros(0, np.int64)
        self.tensor = np.repeat(np.arange(len(each), dtype=np.int32), each)
        self.start = ((np.arange(len(self.tensor)) - np.repeat(self.first, each)) * ROW).astype(np.int64)


class Launcher:
    """The machine code of one program, and the order sheets and pointer table that it reads.

    dtypes: dtype in memory of p, g and every state of the program. lines: of each tensor, which of several lines of
    constants is its own; None where all share one. The table keeps addresses, not tensors: whoever calls `point` keeps
    the tensors alive until `run` has returned.
    """

    def __init__(
        self, program: Program, rows: Rows, dtypes: Mapping[str, str], lines: np.ndarray | None = None
    ) -> None:
        names = ["p", "g", *(n for n, shape in program.states.items() if shape == "mn")]
        self.computed_in = "float64" if dtypes["p"] == "float64" else "float32"
        for stage in program.stages:
            names += [temporary(i) for i in stage.temporaries] + [kept(i) for i in stage.kept]
        names = list(dict.fromkeys(names))
        self.program, self.rows, self.lines = program, rows, lines
        self.columns = {name: place for place, name in enumerate(names)}
        self.dtypes = {name: dtypes.get(name, self.computed_in) for name in names}
        self.table = np.zeros((len(rows.sizes), len(names)), np.int64)
        self.stages = [self._prepare(stage) for stage in program.stages]

    def _prepare(self, stage: Stage) -> "_Prepared | None":
        if not (stage.reductions or stage.kept or stage.stores):
            return None
        text = assemble(self.program, stage, self.columns, self.dtypes, self.lines is not None)
        return _Prepared(machine.function_address(text), stage, self)

    def point(self, column: str, addresses: Sequence[int] | np.ndarray) -> None:
        """Set the address of each tensor in a column."""
        self.table[:, self.columns[column]] = addresses

    def run(self, stage: int, constants: Sequence[Any], scalars: Sequence[np.ndarray]) -> np.ndarray | None:
        """Run one stage. Returns its sums, one line for each tensor and one column for each reduction.

        constants: of all tensors, or lines of them.
        """
        prepared = self.stages[stage]
        if prepared is None or not len(self.rows.sizes):
            return None
        prepared.constants[:] = constants
        for place, values in enumerate(scalars):
            prepared.scalars[:, place] = values
        prepared.sheet[0] = 0
        pool.run(prepared.address, prepared.sheet_address, self.rows.elements)
        return prepared.totals()


class _Prepared:
    """One stage ready to run: its code and its order sheet."""

    def __init__(self, address: int, stage: Stage, launcher: Launcher) -> None:
        rows = launcher.rows
        self.address = address
        self.first = rows.first
        self.largest = [launcher.program.nodes[index][0] == "largest" for index in stage.reductions]
        lines = np.zeros(0, np.int64) if launcher.lines is None else launcher.lines
        self.constants = np.zeros((max(lines, default=0) + 1, len(stage.constants)))
        self.scalars = np.zeros((len(rows.sizes), len(stage.scalars)))
        self.sums = np.zeros((len(rows.tensor), len(stage.reductions)))
        arrays = (rows.tensor, rows.start, launcher.table, rows.sizes, self.constants, lines, self.scalars, self.sums)
        self.sheet = np.zeros(FIRST_WORD + 1 + len(arrays), np.int64)
        self.sheet[FIRST_WORD:] = [len(rows.tensor), *(array.ctypes.data for array in arrays)]
        self.sheet_address = self.sheet.ctypes.data
        self.owned = arrays  # the sheet holds addresses only

    def totals(self) -> np.ndarray | None:
        """Add up the rows of each tensor, in order."""
        if not self.largest or len(self.first) == len(self.sums):
            return self.sums if self.largest else None
        totals = np.add.reduceat(self.sums, self.first, axis=0)
        for place, is_largest in enumerate(self.largest):
            if is_largest:
                totals[:, place] = np.maximum.reduceat(self.sums[:, place], self.first)
        return totals
