"""Works out any value of a program with tensors: what lies between the stages, and all of it where no kernel runs."""

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from steepest import formula
from steepest.formula.symbol import CONSTANT, REDUCTIONS, SCALAR, SHARED
from steepest.kernels import matrix, rounding
from steepest.kernels.plan import Program

_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "add": operator.add, "sub": operator.sub, "mul": operator.mul, "neg": operator.neg, "abs": abs, "lt": operator.lt,
    "le": operator.le, "eq": operator.eq, "ne": operator.ne, "and": operator.and_, "or": operator.or_,
    "not": lambda x: ~x if isinstance(x, Tensor) else not x, "sqrt": formula.sqrt, "exp": formula.exp,
    "log": formula.log, "sign": formula.sign, "maximum": formula.maximum, "minimum": formula.minimum,
    "matmul": operator.matmul, "transpose": formula.transpose, "row_mean": formula.row_mean,
    "column_mean": formula.column_mean, "sort_columns": formula.sort_columns,
    "qr": matrix.qr, "eigenbasis": matrix.eigenbasis, "stochastic": rounding.stochastic_bfloat16,
}  # fmt: skip


def _divide(a: Any, b: Any, dtype: torch.dtype) -> Any:
    if isinstance(b, Tensor) and not isinstance(a, Tensor):
        a = _made(a, b.dtype, b.device)  # number / tensor is reciprocal and times in torch
    return a / b


def _where(condition: Any, a: Any, b: Any, dtype: torch.dtype) -> Any:
    if not isinstance(condition, Tensor):
        return a if condition else b
    return torch.where(condition, *(_made(x, dtype, condition.device) for x in (a, b)))


def _made(x: Any, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return a number as a tensor; torch.as_tensor would wait for a GPU."""
    return x.to(dtype) if isinstance(x, Tensor) else torch.full((), x, dtype=dtype, device=device)


def _number(x: Any, dtype: torch.dtype) -> Any:
    return x.to(dtype) if isinstance(x, Tensor) else float(x)


# Where torch would take a dtype from numbers: these are told the one of the result.
_TYPED: dict[str, Callable[..., Any]] = {"div": _divide, "where": _where, "float": _number}


class Values:
    """The values of one program, each computed when first asked for.

    inputs: tensors by name, "size" (number of elements), "epsilon", "dtype" (computed in) and "stored" (the
    parameter's). Batched, they hold many tensors at once: elements and matrices are stacks (count, m, n), scalars are
    (count,) in double. Else there is one tensor, and scalars are numbers or 0-d tensors.
    """

    def __init__(self, program: Program, constants: Sequence[float], inputs: Mapping[str, Any], batched: bool) -> None:
        self.program = program
        self.constants = constants
        self.inputs = inputs
        self.batched = batched
        self.known: dict[int, Any] = {}

    def __setitem__(self, index: int, value: Any) -> None:
        self.known[index] = value

    def __getitem__(self, index: int) -> Any:
        if index not in self.known:
            self.known[index] = self._compute(index)
        return self.known[index]

    def _compute(self, index: int) -> Any:
        operation, shape, *rest = self.program.nodes[index]
        if operation == "constant":
            return self.constants[rest[0]]
        if operation == "input":
            return self.inputs[rest[0]]
        if operation in ("size", "epsilon"):
            return self.inputs[operation]
        settings = [item for item in rest if type(item) is not int]
        arguments = [self._argument(a, shape) for a in self.program.arguments(index)]
        if operation in REDUCTIONS:
            return self._reduce(operation, *arguments)
        if operation == "spread":
            return torch.empty_like(self.inputs["p"]).copy_(torch.as_tensor(arguments[0]))
        if operation == "nearest":
            return arguments[0].to(self.inputs["stored"]).to(self.inputs["dtype"])
        if operation == "orthogonalize":
            x, a, b, c, eps = arguments
            own = self.batched and rest[0] in self.program.handed_over
            return matrix.orthogonalize(x, (settings[0][0], (a, b, c), eps), own)
        if operation in _TYPED:
            return _TYPED[operation](*arguments, torch.float64 if shape in (SCALAR, SHARED) else self.inputs["dtype"])
        return _FUNCTIONS[operation](*arguments, *settings)

    def _argument(self, index: int, shape: str) -> Any:
        """Return a value as an operand of an operation of this shape: a scalar meets elements rounded, and spread."""
        value = self[index]
        meets = shape not in (SCALAR, SHARED, CONSTANT) and self.program.nodes[index][1] in (SCALAR, SHARED)
        if not meets or not isinstance(value, Tensor):
            return value
        if value.dtype.is_floating_point:
            value = value.to(self.inputs["dtype"])
        return value.reshape(-1, 1, 1) if value.ndim else value

    def _reduce(self, operation: str, x: Tensor, y: Tensor | None = None) -> Tensor:
        over = (-2, -1) if self.batched else tuple(range(x.ndim))
        x = x.double()
        if operation == "largest":
            return x.amax(over) if x.numel() else x.sum(over)
        return {"total": x, "square_total": x * x, "dot": x * (x if y is None else y.double())}[operation].sum(over)
