"""A weight folded with the units of its inputs, and unfolded again (`steepest.pilot.folding`): a compiled pass each."""

from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from steepest.kernels import machine, pool
from steepest.kernels.routine import Routine, module
from steepest.kernels.stage import FIRST_WORD

SHEET = (
    "rows", "columns", "table_bytes", "weight", "gradient", "bias", "bias_gradient", "kept", "folded", "kept_bias",
    "folded_bias", "factor", "inverse", "mean",
)  # fmt: skip
"""Words of the order sheet. table_bytes: from a row of factor, inverse and mean to the next; 0 where all share one."""

_NUMBERS, _WIDTH = "<16 x float>", 16
_ZERO = "zeroinitializer"


class Passes:
    """The two passes over one weight, its bias and their gradients, all of float32.

    tables: factor, inverse and mean of the inputs, (1 | outputs, inputs, ...).
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, tables: tuple[Tensor, Tensor, Tensor]) -> None:
        self.weight, self.bias, self._given = weight, bias, tables
        self.rows, self.columns = len(weight), weight[0].numel()
        spread = [table.expand(len(table), *weight.shape[1:]) for table in tables]
        self._tables = [table.reshape(len(table), -1).contiguous() for table in spread]
        height, size = 4 * self.rows, 4 * self.rows * self.columns
        # Weight and bias as they were, both folded, and a bias and its gradient where there is none.
        self._room = torch.zeros(2 * self.rows * (self.columns + 2), dtype=torch.float32, device="cpu")
        start = self._room.data_ptr()
        kept = [start, start + size, start + 2 * size, start + 2 * size + height]
        nothing = start + 2 * (size + height)
        self._place = FIRST_WORD + SHEET.index("weight")
        self._sheet = np.zeros(FIRST_WORD + len(SHEET), np.int64)
        self._sheet[FIRST_WORD:] = [
            self.rows, self.columns, 4 * self.columns * (len(tables[0]) > 1), 0, 0, nothing, nothing + height, *kept,
            *(table.data_ptr() for table in self._tables),
        ]  # fmt: skip
        self._sheet_address = self._sheet.ctypes.data

    def __reduce__(self) -> tuple[Any, ...]:
        return Passes, (self.weight, self.bias, self._given)  # a copy has addresses of its own

    def fold(self) -> bool:
        """Make of weight, bias and gradients what the rule shall step; return False where one is not as it should be.

        Once a step: what is looked at twice, or allocated, shows in the time of a small model.
        """
        bias = self.bias
        tensors = (self.weight, self.weight.grad) + (() if bias is None else (bias, bias.grad))
        if not all(x is not None and x.dtype is torch.float32 and x.is_contiguous() and x.is_cpu for x in tensors):
            return False
        places = [tensor.data_ptr() for tensor in tensors]  # type: ignore[union-attr]
        self._sheet[self._place : self._place + len(places)] = places
        self._run(True)
        return True

    def unfold(self) -> None:
        """Move weight and bias, as they were, by what the rule moved."""
        self._run(False)

    def _run(self, folds: bool) -> None:
        self._sheet[0] = 0
        pool.run(_address(folds), self._sheet_address, self.rows * self.columns)


@cache
def _address(folds: bool) -> int:
    return machine.function_address(module(_pass(folds)))


def _pass(folds: bool) -> Routine:
    """Take the next row from the counter of all threads, until none is left."""
    code = Routine("stage", ("ptr", "%sheet"), visible=True)
    words = {name: code.address("i64", "%sheet", FIRST_WORD + place) for place, name in enumerate(SHEET)}
    rows, columns, table_bytes = (code.number_at("i64", words[name], 0) for name in SHEET[:3])
    start = {name: code.number_at("ptr", words[name], 0) for name in SHEET[3:]}
    blocks = code.new(f"udiv i64 {code.plus(columns, _WIDTH - 1)}, {_WIDTH}")
    code.line("br label %next")
    code.label("next")
    code.line("%row = atomicrmw add ptr %sheet, i64 1 monotonic")
    code.line(f"br i1 {code.new(f'icmp uge i64 %row, {rows}')}, label %exit, label %work")
    code.label("work")
    offset, in_table = code.times(code.times("%row", columns), 4), code.times("%row", table_bytes)
    line = {name: code.after(start[name], in_table if name in SHEET[-3:] else offset) for name in SHEET[3:]}
    number = {name: code.address("float", start[name], "%row") for name in SHEET[3:] if "bias" in name}
    slope = code.splat("float", code.number_at("float", number["bias_gradient"], 0))
    with code.loop(0, blocks, [(_NUMBERS, "zeroinitializer")]) as each:
        done = code.times(each.index, _WIDTH)
        mask = code.first_lanes(code.minus(columns, done))
        at = {name: code.address("float", address, done) for name, address in line.items()}
        moved = _columns(code, at, mask, slope, folds)
        shift = code.operation("mul", moved, code.load("float32", at["mean"], mask))
        each.carry([code.operation("add", each.values[0], shift)])
    operands = (("float", "0.0"), (_NUMBERS, each.values[0]))
    shift = code.intrinsic("llvm.vector.reduce.fadd.v16f32", "float", *operands)
    _row(code, number, shift, folds)
    code.line("br label %next")
    code.label("exit")
    return code


def _columns(code: Routine, at: dict[str, str], mask: str, slope: str, folds: bool) -> str:
    """Compute 16 columns of a row; return what their inputs' means multiply."""
    load = {name: code.load("float32", at[name], mask) for name in ("weight", "inverse")}
    if folds:
        folded = code.operation("mul", load["weight"], code.load("float32", at["factor"], mask))
        for name, value in (("kept", load["weight"]), ("folded", folded), ("weight", folded)):
            code.store("float32", value, at[name], mask)
        of_bias = code.operation("mul", slope, code.load("float32", at["mean"], mask))
        gradient = code.operation("sub", code.load("float32", at["gradient"], mask), of_bias)
        code.store("float32", code.operation("mul", gradient, load["inverse"]), at["gradient"], mask)
        return load["weight"]
    moved = code.operation("sub", load["weight"], code.load("float32", at["folded"], mask))
    moved = code.operation("mul", moved, load["inverse"])
    code.store("float32", code.operation("add", code.load("float32", at["kept"], mask), moved), at["weight"], mask)
    return moved


def _row(code: Routine, number: dict[str, str], shift: str, folds: bool) -> None:
    """Compute the bias of a row."""
    bias = code.number_at("float", number["bias"], 0)
    if folds:
        code.line(f"store float {bias}, ptr {number['kept_bias']}")
        bias = code.new(f"fadd float {bias}, {shift}")
        code.line(f"store float {bias}, ptr {number['folded_bias']}")
    else:
        kept, folded = (code.number_at("float", number[name], 0) for name in ("kept_bias", "folded_bias"))
        moved = code.new(f"fadd float {kept}, {code.new(f'fsub float {bias}, {folded}')}")
        bias = code.new(f"fsub float {moved}, {shift}")
    code.line(f"store float {bias}, ptr {number['bias']}")
