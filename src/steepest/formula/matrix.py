"""Functions of a parameter seen as a matrix: sides, means of rows and columns, orthogonal factors."""

import math
import sys
from typing import Any

import numpy as np

from steepest.formula.functions import NUMPY, double, maximum
from steepest.formula.symbol import FormulaError, Symbol


def sides(p: Any) -> tuple[int, int]:
    """Return (rows, columns) of a matrix. More than two dimensions count as one row for each first index."""
    if isinstance(p, Symbol):
        if p.tape.matrix is None:
            raise FormulaError("this rule looks at the sides of matrices, so declare it with @rule(matrix=True)")
        return p.tape.matrix
    rows = p.shape[0] if p.ndim else 1
    return rows, math.prod(p.shape[1:])


def is_matrix(p: Any) -> bool:
    """Return whether the parameter has two sides longer than 1."""
    return min(sides(p)) > 1


def row_mean(x: Any) -> Any:
    """Return the mean of each row, m x 1, added in double precision."""
    if isinstance(x, Symbol):
        return x.tape.add("row_mean", x.shape[0] + "1", x.index)
    return _as(double(x).mean(-1, **_keep(x)), x)


def column_mean(x: Any) -> Any:
    """Return the mean of each column, 1 x n, added in double precision."""
    if isinstance(x, Symbol):
        return x.tape.add("column_mean", "1" + x.shape[1], x.index)
    return _as(double(x).mean(-2, **_keep(x)), x)


def _keep(x: Any) -> dict[str, bool]:
    return {"keepdims": True} if isinstance(x, NUMPY) else {"keepdim": True}


def _as(result: Any, like: Any) -> Any:
    return result.astype(like.dtype) if isinstance(like, NUMPY) else result.to(like.dtype)




def transpose(x: Any) -> Any:
    """Return the transposed matrix (of each matrix, where x is a stack of them)."""
    return x.T if isinstance(x, Symbol) else x.swapaxes(-1, -2)


def orthogonalize(x: Any, steps: int = 5, coefficients: tuple[float, float, float] = (3.4445, -4.7750, 2.0315)) -> Any:
    """Return U V^T of x = U S V^T, nearly: every singular value goes to about 1 (between 0.7 and 1.2).

    Newton-Schulz iteration X <- a X + b (X X^T) X + c (X X^T)^2 X from X = x / |x|; Jordan et al. 2024,
    https://kellerjordan.github.io/posts/muon. x: (..., m, n).
    """
    if isinstance(x, Symbol):
        return x.tape.add("orthogonalize", x.shape, x.index, (steps, *coefficients))
    if x.shape[-2] > x.shape[-1]:
        return transpose(orthogonalize(transpose(x), steps, coefficients))
    a, b, c = coefficients
    length = (x * x).sum((-2, -1), **_keep(x)) ** 0.5
    x = x / maximum(length, 1e-7)
    for _ in range(steps):
        gram = x @ transpose(x)
        x = a * x + (b * gram + c * (gram @ gram)) @ x
    return x


def qr(x: Any) -> Any:
    """Return the orthogonal factor Q of x = Q R. x: (..., k, k)."""
    if isinstance(x, Symbol):
        return x.tape.add("qr", x.shape, x.index)
    return (np.linalg.qr(x) if isinstance(x, NUMPY) else _torch().linalg.qr(x))[0]


def eigenbasis(x: Any) -> Any:
    """Return the eigenvectors of a symmetric matrix as columns, largest eigenvalue first. x: (..., k, k)."""
    if isinstance(x, Symbol):
        return x.tape.add("eigenbasis", x.shape, x.index)
    vectors = (np.linalg.eigh(x) if isinstance(x, NUMPY) else _torch().linalg.eigh(x))[1]
    return vectors[..., ::-1] if isinstance(x, NUMPY) else vectors.flip(-1)


def _torch() -> Any:
    return sys.modules["torch"]  # the array in hand is torch's, so it has been imported
