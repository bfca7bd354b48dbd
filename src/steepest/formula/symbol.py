"""Symbols that stand for a value of a formula, and the tape on which arithmetic with them is written down."""

import numbers
from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np

from steepest.formula.recorded import Known

ELEMENT, SCALAR, SHARED = "mn", "", "*"
CONSTANT = "c"
BOOLEAN = frozenset({"lt", "le", "eq", "ne", "and", "or", "not"})
REDUCTIONS = frozenset({"total", "square_total", "dot", "largest"})
MATRIX = frozenset(
    {"matmul", "transpose", "row_mean", "column_mean", "orthogonalize", "qr", "eigenbasis", "sort_columns"}
)
WEAK = {CONSTANT: 0, SHARED: 1, SCALAR: 2}
PLAIN: dict[str, Any] = {}  # functions of NumPy and torch, by name, that mean the same here: filled by `foreign`
_ALTERNATIVE = {
    "sqrt": "sqrt", "rsqrt": "1 / sqrt", "sign": "sign", "exp": "exp", "log": "log", "abs": "abs", "absolute": "abs",
    "maximum": "maximum", "minimum": "minimum", "max": "maximum(a, b) or largest(x)", "min": "minimum",
    "where": "where", "clip": "minimum(maximum(x, low), high)", "clamp": "minimum(maximum(x, low), high)",
    "sum": "total", "mean": "mean", "norm": "norm", "vector_norm": "norm", "square": "x * x", "pow": "x * x or sqrt",
    "power": "x * x or sqrt", "lerp": "b * x + (1 - b) * y", "mul": "*", "add": "+", "sub": "-", "div": "/",
    "multiply": "*", "subtract": "-", "divide": "/", "dot": "dot", "matmul": "a @ b", "numel": "size", "size": "size",
    "shape": "sides(p) in a @rule(matrix=True), or size(p)", "ndim": "is_matrix(p) in a @rule(matrix=True)",
    "zeros_like": "0", "ones_like": "1", "clone": "x itself, for nothing is overwritten",
}  # fmt: skip

# NumPy adds truth values to a truth value and takes roots of them in float16, so neither is arithmetic.
_OF_COMPARISONS = (
    "a comparison such as g > 0 counts as 0 or 1 only beside an element: write where(condition, 1.0, 0.0), or a & b"
)


class FormulaError(TypeError):
    """A rule wrote something that has no meaning element by element. One sentence, with what to write instead."""


class Tape:
    """What a rule did, in order. `nodes[i] = (operation, shape, *arguments)`; `constants` are its scalars, in double.

    matrix: (rows, columns) of the parameter where the graph is made for one shape, else None.
    """

    __slots__ = ("constants", "matrix", "nodes")

    def __init__(self, matrix: tuple[int, int] | None = None) -> None:
        self.nodes: list[tuple] = []
        self.constants: list[float] = []
        self.matrix = matrix

    def add(self, operation: str, shape: str, *arguments: object) -> "Symbol":
        """Append one operation and return the symbol of its result."""
        nodes = self.nodes
        nodes.append((operation, shape, *arguments))
        return Symbol(self, len(nodes) - 1, shape, operation in BOOLEAN)

    def input(self, name: str, shape: str = ELEMENT) -> "Symbol":
        """Return the symbol of a tensor that the caller supplies."""
        return self.add("input", shape, name)

    def constant(self, value: float) -> "Symbol":
        """Return the symbol of a scalar. Its value is not part of the graph, so a new one compiles nothing."""
        self.constants.append(value)
        return self.add("constant", CONSTANT, len(self.constants) - 1)


class Symbol:
    """One value of a formula that is being traced.

    letters: its shape, as `steepest.formula` writes it. is_boolean: it is the result of a comparison.
    """

    __hash__ = None  # type: ignore[assignment]  # == is a comparison of elements, so identity must not stand in for it
    __slots__ = ("index", "is_boolean", "letters", "tape")

    def __init__(self, tape: Tape, index: int, letters: str, is_boolean: bool = False) -> None:
        self.tape = tape
        self.index = index
        self.letters = letters
        self.is_boolean = is_boolean

    def __add__(self, other: object) -> "Symbol":
        return binary("add", self, other)

    def __radd__(self, other: object) -> "Symbol":
        return binary("add", other, self)

    def __sub__(self, other: object) -> "Symbol":
        return binary("sub", self, other)

    def __rsub__(self, other: object) -> "Symbol":
        return binary("sub", other, self)

    def __mul__(self, other: object) -> "Symbol":
        return binary("mul", self, other)

    def __rmul__(self, other: object) -> "Symbol":
        return binary("mul", other, self)

    def __truediv__(self, other: object) -> "Symbol":
        return binary("div", self, other)

    def __rtruediv__(self, other: object) -> "Symbol":
        return binary("div", other, self)

    def __neg__(self) -> "Symbol":
        return unary("neg", self)

    def __pos__(self) -> "Symbol":
        return self

    def __abs__(self) -> "Symbol":
        return unary("abs", self)

    def __pow__(self, exponent: object) -> "Symbol":
        if isinstance(exponent, Symbol):
            raise FormulaError("an element to the power of an element is not offered: write exp(y * log(x))")
        if exponent == 2:
            return self * self
        if exponent == 0.5:
            return unary("sqrt", self)
        raise FormulaError(
            f"an element to the power {exponent!r} has no exact kernel: write x * x, products of it, or sqrt(x)"
        )

    def __rpow__(self, base: object) -> "Symbol":
        raise FormulaError(f"{base!r} to the power of an element is not offered: write exp(x * log({base!r}))")

    def __lt__(self, other: object) -> "Symbol":
        return binary("lt", self, other)

    def __gt__(self, other: object) -> "Symbol":
        return binary("lt", other, self)

    def __le__(self, other: object) -> "Symbol":
        return binary("le", self, other)

    def __ge__(self, other: object) -> "Symbol":
        return binary("le", other, self)

    def __eq__(self, other: object) -> "Symbol":  # type: ignore[override]
        return binary("eq", self, other)

    def __ne__(self, other: object) -> "Symbol":  # type: ignore[override]
        return binary("ne", self, other)

    def __and__(self, other: object) -> "Symbol":
        return _logic("and", self, other)

    def __or__(self, other: object) -> "Symbol":
        return _logic("or", self, other)

    def __invert__(self) -> "Symbol":
        if not self.is_boolean:
            raise FormulaError("~ needs a comparison such as g > 0, and got a number")
        return self.tape.add("not", self.letters, self.index)

    def __matmul__(self, other: object) -> "Symbol":
        if not isinstance(other, Symbol) or len(self.letters) != 2 or len(other.letters) != 2:
            raise FormulaError("@ multiplies matrices, such as g @ g.T: for elements write a * b or dot(a, b)")
        if self.letters[1] != other.letters[0]:
            raise FormulaError(f"@ of a {self.letters} by a {other.letters} matrix: the inner sides differ")
        return self.tape.add("matmul", self.letters[0] + other.letters[1], self.index, other.index)

    @property
    def T(self) -> "Symbol":  # the field's name
        """The transposed matrix."""
        if len(self.letters) != 2:
            raise FormulaError(".T needs a matrix, and this is one value for the whole tensor")
        return self.tape.add("transpose", self.letters[::-1], self.index)

    def __bool__(self) -> bool:
        raise FormulaError(
            "an element has no single truth value, so `if`, `and`, `or`, max() and min() cannot look at it: "
            "write where(condition, a, b), maximum(a, b), a & b, or use `if` on scalars only"
        )

    def __float__(self) -> float:
        raise FormulaError(
            "an element is not a single number, so float(), round() and the functions of `math` cannot take it: "
            "use the functions of this package, such as steepest.sqrt"
        )

    __int__ = __index__ = __complex__ = __float__  # type: ignore[assignment]

    def __round__(self, digits: object = None) -> float:
        return float(self)

    def __getitem__(self, key: object) -> "Symbol":
        raise FormulaError("a formula speaks of one element and cannot index: write it for all elements at once")

    def __setitem__(self, key: object, value: object) -> None:
        self[key]

    def __iter__(self) -> Iterator["Symbol"]:
        raise FormulaError("a formula speaks of one element and cannot be iterated or unpacked")

    def __len__(self) -> int:
        raise FormulaError("a formula speaks of one element and has no length: write size(x) for how many there are")

    def __floordiv__(self, other: object) -> "Symbol":
        raise FormulaError("// and % of elements are not offered: write a / b")

    __mod__ = __rmod__ = __rfloordiv__ = __divmod__ = __rdivmod__ = __floordiv__

    def __xor__(self, other: object) -> "Symbol":
        raise FormulaError("^ of elements is not offered: write a != b")

    __rxor__ = __xor__

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise FormulaError(_instead(f".{name}", name))

    def __array_ufunc__(self, ufunc: Any, method: str, *arguments: object, **keywords: object) -> Any:
        """Take NumPy's functions, so that np.sqrt(g) and np.float32(2) * g mean what they say."""
        replacement = PLAIN.get(ufunc.__name__)
        if method != "__call__" or keywords or replacement is None:
            raise FormulaError(_instead(f"np.{ufunc.__name__}", ufunc.__name__))
        return _called(f"np.{ufunc.__name__}", replacement, arguments)

    def __array_function__(self, function: Any, types: object, arguments: tuple, keywords: dict) -> Any:
        """Take the rest of NumPy's functions, which would else see an array of one object."""
        replacement = PLAIN.get(function.__name__)
        if keywords or replacement is None:
            raise FormulaError(_instead(f"np.{function.__name__}", function.__name__))
        return _called(f"np.{function.__name__}", replacement, arguments)

    def __array__(self, *arguments: object, **keywords: object) -> Any:
        raise FormulaError("an element cannot become an array: a formula works with elements and numbers")

    @classmethod
    def __torch_function__(cls, function: Any, types: object, arguments: tuple = (), keywords: object = None) -> Any:
        name = getattr(function, "__name__", "?").strip("_")
        replacement = PLAIN.get(name)
        if replacement is None or keywords:
            raise FormulaError(_instead(f"torch.{name}", name))
        return _called(f"torch.{name}", replacement, arguments)


def _called(written: str, replacement: Any, arguments: tuple) -> Any:
    try:
        return replacement(*arguments)
    except FormulaError:
        raise
    except TypeError:
        raise FormulaError(f"{written} takes no further arguments in a formula") from None


def _instead(written: str, name: str) -> str:
    alternative = _ALTERNATIVE.get(name.strip("_"))
    advice = f"write {alternative}" if alternative else "use arithmetic and the functions of steepest.formula"
    return f"{written} cannot be used in a formula, which speaks of one element: {advice}"


def lift(tape: Tape, value: object) -> Symbol:
    """Return the symbol of an operand: of itself, or of a number as a constant."""
    kind = type(value)
    if kind is Symbol:
        if value.tape is not tape:  # type: ignore[attr-defined]
            raise FormulaError(
                "a value that the formula kept from an earlier step stands for nothing in this one: "
                "what a rule remembers is its state, an argument after p and g that it returns anew"
            )
        return value  # type: ignore[return-value]
    if kind is float or kind is int or kind is Known:
        return tape.constant(value)  # type: ignore[arg-type]
    if isinstance(value, numbers.Real | np.bool_) or _is_real_scalar(value):
        return tape.constant(float(value))  # type: ignore[arg-type]
    raise FormulaError(f"a formula works with elements and numbers, and got {kind.__name__}")


def _is_real_scalar(value: object) -> bool:
    """Whether this is an array or tensor without dimensions that holds a real number."""
    return getattr(value, "ndim", None) == 0 and "complex" not in str(getattr(value, "dtype", ""))


def number(symbol: Symbol) -> Symbol:
    """Count a truth value as 0 or 1, as NumPy does."""
    if symbol.is_boolean:
        return symbol.tape.add("float", symbol.letters, symbol.index)
    return symbol


@cache
def joint(a: str, b: str) -> str:
    """Return the shape of elementwise arithmetic between two shapes."""
    if a == b or b == CONSTANT:
        return a
    if a in WEAK or b in WEAK:
        return max(a, b, key=lambda shape: WEAK.get(shape, 3))
    sides = [x if y in (x, "1") else y if x == "1" else None for x, y in zip(a, b, strict=True)]
    if None in sides:
        raise FormulaError(f"elementwise arithmetic between a {a} and a {b} matrix: their sides differ")
    return "".join(side for side in sides if side)


def binary(operation: str, a: object, b: object) -> Symbol:
    """Write down an operation on two operands, one of which is a symbol."""
    tape = a.tape if type(a) is Symbol else b.tape  # type: ignore[union-attr]
    a, b = lift(tape, a), lift(tape, b)
    if a.is_boolean and b.is_boolean and operation not in ("mul", "eq", "ne"):
        raise FormulaError(_OF_COMPARISONS)
    a, b = number(a), number(b)
    return tape.add(operation, joint(a.letters, b.letters), a.index, b.index)


def _logic(operation: str, a: Symbol, b: object) -> Symbol:
    if not (a.is_boolean and isinstance(b, Symbol) and b.is_boolean):
        raise FormulaError("& and | join comparisons, such as (g > 0) & (m > 0), and got a number")
    return a.tape.add(operation, joint(a.letters, b.letters), a.index, b.index)


def unary(operation: str, x: Symbol) -> Symbol:
    """Write down an operation on one operand."""
    if x.is_boolean:
        raise FormulaError(_OF_COMPARISONS)
    return x.tape.add(operation, x.letters, x.index)
