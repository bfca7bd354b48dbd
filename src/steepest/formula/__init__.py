"""The letters of a rule: arithmetic that computes on arrays and, on symbols, leaves a graph.

A rule is an ordinary function. Called with NumPy arrays (or torch tensors) it computes: that is its definition.
Called with `Symbol`s it leaves a `Tape`, from which kernels are generated. One convention makes both agree to the bit:
*scalars are Python floats* (double precision), *elements have the dtype of the parameter*, and where they meet the
scalar is rounded once.

Shapes are written in two letters, as a parameter seen as an m x n matrix: "mn" is an element of the parameter itself,
"m1" one value for each row, "1n" one for each column, "mm" and "nn" the square matrices to its left and right,
"" one value for the tensor, "*" one value for all tensors of the optimizer.
"""

from steepest.formula import foreign as _foreign  # noqa: F401  fills the table of NumPy's and torch's functions
from steepest.formula.functions import (
    dot,
    everywhere,
    exp,
    largest,
    log,
    maximum,
    mean,
    minimum,
    norm,
    rms,
    sign,
    size,
    sqrt,
    square_total,
    total,
    where,
)
from steepest.formula.matrix import (
    column_mean,
    eigenbasis,
    epsilon,
    is_matrix,
    orthogonalize,
    qr,
    row_mean,
    sides,
    sort_columns,
    transpose,
)
from steepest.formula.symbol import FormulaError, Symbol, Tape

__all__ = [
    "FormulaError", "Symbol", "Tape", "column_mean", "dot", "eigenbasis", "epsilon", "everywhere", "exp", "is_matrix",
    "largest", "log", "maximum", "mean", "minimum", "norm", "orthogonalize", "qr", "rms", "row_mean", "sides", "sign",
    "size", "sort_columns", "sqrt", "square_total", "total", "transpose", "where",
]  # fmt: skip
