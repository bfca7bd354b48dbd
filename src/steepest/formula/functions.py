"""Functions of elements and of whole tensors. Each computes on arrays and, on symbols, adds to the graph."""

import math
import sys
from functools import partial
from typing import Any

import numpy as np

from steepest.formula.recorded import Known, recorded
from steepest.formula.symbol import SCALAR, SHARED, WEAK, FormulaError, Symbol, binary, joint, lift, number, unary

NUMPY = np.ndarray | np.generic


def _home(*values: object) -> Any:
    """The module whose arrays these are: numpy, torch, or math for plain numbers."""
    for value in values:
        if isinstance(value, NUMPY):
            return np
        if type(value).__module__.partition(".")[0] == "torch":
            return sys.modules["torch"]
    return math


def sqrt(x: Any) -> Any:
    """Return the square root of each element, correctly rounded."""
    if isinstance(x, Symbol):
        return unary("sqrt", x)
    return recorded(sqrt, x) if type(x) is Known else _home(x).sqrt(x)


def exp(x: Any) -> Any:
    """Return e to the power of each element."""
    if isinstance(x, Symbol):
        return unary("exp", x)
    return recorded(exp, x) if type(x) is Known else _home(x).exp(x)


def log(x: Any) -> Any:
    """Return the natural logarithm of each element."""
    if isinstance(x, Symbol):
        return unary("log", x)
    return recorded(log, x) if type(x) is Known else _home(x).log(x)


def sign(x: Any) -> Any:
    """Return -1, 0 or 1 for each element; NaN stays NaN, so that a broken gradient is not hidden."""
    if isinstance(x, Symbol):
        return unary("sign", x)
    if type(x) is Known:
        return recorded(sign, x)
    home = _home(x)
    if home is math:
        return float(np.sign(x))
    return home.sign(x) if home is np else home.where(home.isnan(x), x, home.sign(x))


def maximum(a: Any, b: Any) -> Any:
    """Return the larger of two values, element by element; NaN if either is NaN."""
    return _extreme("maximum", a, b)


def minimum(a: Any, b: Any) -> Any:
    """Return the smaller of two values, element by element; NaN if either is NaN."""
    return _extreme("minimum", a, b)


def _extreme(name: str, a: Any, b: Any) -> Any:
    if isinstance(a, Symbol) or isinstance(b, Symbol):
        return binary(name, a, b)
    if type(a) is Known or type(b) is Known:
        return recorded(partial(_extreme, name), a, b)
    home = _home(a, b)
    if home is math:
        return float(getattr(np, name)(a, b))
    if home is np:
        return getattr(np, name)(a, b)
    return getattr(home, name)(*home.broadcast_tensors(*(_tensor(home, x, a, b) for x in (a, b))))


def _tensor(torch: Any, x: Any, *others: Any) -> Any:
    if isinstance(x, torch.Tensor):
        return x
    like = next(other for other in others if isinstance(other, torch.Tensor))
    return torch.full((), x, dtype=like.dtype, device=like.device)  # as_tensor would wait for a GPU


def where(condition: Any, a: Any, b: Any) -> Any:
    """Return a where the condition holds and b elsewhere, element by element."""
    if not isinstance(condition, Symbol):
        if isinstance(condition, bool | np.bool_):
            return a if condition else b
        if isinstance(a, Symbol) or isinstance(b, Symbol):
            raise FormulaError(f"where needs a comparison of elements as its condition, and got {condition!r}")
        if isinstance(condition, NUMPY):
            a, b = _brief(a, b)
        return _home(condition).where(condition, a, b)
    if not condition.is_boolean:
        raise FormulaError("where needs a comparison such as g > 0 as its condition, and got a number")
    tape = condition.tape
    a, b = number(lift(tape, a)), number(lift(tape, b))
    shape = joint(condition.letters, joint(a.letters, b.letters))
    return tape.add("where", shape, condition.index, a.index, b.index)


def _brief(a: Any, b: Any) -> tuple[Any, Any]:
    """Return two plain numbers in float32 if it holds them, for NumPy makes float64 of them beside float32 elements."""
    if all(type(x) in (float, int) and float(np.float32(x)) == x for x in (a, b)):
        return np.float32(a), np.float32(b)
    return a, b


def _reduce(operation: str, *values: Any) -> Symbol:
    tape = next(value.tape for value in values if isinstance(value, Symbol))
    values = tuple(number(lift(tape, value)) for value in values)
    for value in values:
        if value.letters in WEAK:
            raise FormulaError(f"{operation} runs over the elements of a tensor, and got one number")
    return tape.add(operation, SCALAR, *(value.index for value in values))


def double(x: Any) -> Any:
    """Return an array in double precision."""
    if type(x) in (float, int):
        raise FormulaError(f"sums and norms run over the elements of a tensor, and got the number {x!r}")
    return x.astype(np.float64) if isinstance(x, NUMPY) else x.double()


def total(x: Any) -> Any:
    """Return the sum over the tensor, a scalar, added in double precision."""
    return _reduce("total", x) if isinstance(x, Symbol) else float(double(x).sum())


def dot(x: Any, y: Any) -> Any:
    """Return the inner product of two tensors, a scalar, in double precision."""
    if isinstance(x, Symbol):
        return _reduce("dot", x, y)
    return float((double(x) * double(y)).sum())


def square_total(x: Any) -> Any:
    """Return the sum of squares over the tensor, a scalar; squared in double, so that nothing overflows early."""
    return _reduce("square_total", x) if isinstance(x, Symbol) else float((double(x) ** 2).sum())


def norm(x: Any) -> Any:
    """Return the Euclidean (for a matrix: Frobenius) norm of the tensor, a scalar."""
    return sqrt(square_total(x))


def mean(x: Any) -> Any:
    """Return the mean over the tensor, a scalar."""
    return total(x) / size(x)


def rms(x: Any) -> Any:
    """Return the root mean square over the tensor, a scalar."""
    return sqrt(square_total(x) / size(x))


def largest(x: Any) -> Any:
    """Return the largest absolute value in the tensor, a scalar; NaN if there is one, 0 for an empty tensor."""
    if isinstance(x, Symbol):
        return _reduce("largest", abs(x))
    wide = double(abs(x))
    return 0.0 if 0 in wide.shape else float(wide.max())


def size(x: Any) -> Any:
    """Return the number of elements of the tensor, a scalar (1 for an empty tensor, so that a mean of it is 0)."""
    if isinstance(x, Symbol):
        return x.tape.add("size", SCALAR)
    return float(max(1, x.size if isinstance(x, NUMPY) else x.numel()))


def everywhere(x: Any, label: str = "") -> Any:
    """Return the sum of a scalar over all tensors of the optimizer. Of a number (one tensor only) it is that number.

    label: sums of one label are added over all rules of the optimizer; without one, over the tensors of this rule.
    """
    if not isinstance(x, Symbol):
        return x
    if x.letters != SCALAR:
        raise FormulaError("everywhere adds one scalar from each tensor, such as total(g * g)")
    return x.tape.add("everywhere", SHARED, x.index, label)
