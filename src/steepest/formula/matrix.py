"""Functions of a parameter seen as a matrix: sides, means of rows and columns, orthogonal factors."""

import math
import sys
from typing import Any

import numpy as np

from steepest.formula.functions import NUMPY, double, maximum
from steepest.formula.symbol import SCALAR, FormulaError, Symbol, lift


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


def adjusted(lr: float, p: Any, adjust_lr_fn: str | None) -> float:
    """Return the learning rate of an orthogonal step, which is as long as its matrix is large.

    "original" (or None): times sqrt(max(1, m / n)), Jordan 2024. "match_rms_adamw": times 0.2 sqrt(max(m, n)), so that
    the step has the root mean square of a usual AdamW step and one rate serves both; Liu et al. 2025, arXiv:2502.16982.
    """
    rows, columns = sides(p)
    if adjust_lr_fn in (None, "original"):
        return lr * math.sqrt(max(1.0, rows / max(1, columns)))
    if adjust_lr_fn == "match_rms_adamw":
        return lr * 0.2 * math.sqrt(max(rows, columns))
    raise ValueError(
        f'adjust_lr_fn is {adjust_lr_fn!r}, and must be "original" (which None means) or "match_rms_adamw".'
    )


def epsilon(x: Any) -> Any:
    """Return the distance from 1 to the next number in the dtype of x, a scalar."""
    if isinstance(x, Symbol):
        return x.tape.add("epsilon", SCALAR)
    return float(_home(x).finfo(x.dtype).eps)


def row_mean(x: Any) -> Any:
    """Return the mean of each row, m x 1, added in double precision."""
    if isinstance(x, Symbol):
        return x.tape.add("row_mean", x.letters[0] + "1", x.index)
    return _as(double(x).mean(-1, **_keep(x)), x)


def column_mean(x: Any) -> Any:
    """Return the mean of each column, 1 x n, added in double precision."""
    if isinstance(x, Symbol):
        return x.tape.add("column_mean", "1" + x.letters[1], x.index)
    return _as(double(x).mean(-2, **_keep(x)), x)


def _keep(x: Any) -> dict[str, bool]:
    return {"keepdims": True} if isinstance(x, NUMPY) else {"keepdim": True}


def _as(result: Any, like: Any) -> Any:
    return result.astype(like.dtype) if isinstance(like, NUMPY) else result.to(like.dtype)


def transpose(x: Any) -> Any:
    """Return the transposed matrix (of each matrix, where x is a stack of them)."""
    return x.T if isinstance(x, Symbol) else x.swapaxes(-1, -2)


def orthogonalize(
    x: Any,
    steps: int = 5,
    coefficients: tuple[float, float, float] = (3.4445, -4.7750, 2.0315),
    eps: float = 1e-7,
) -> Any:
    """Return U V^T of x = U S V^T, nearly: every singular value goes to about 1 (between 0.7 and 1.2).

    Newton-Schulz iteration X <- a X + b (X X^T) X + c (X X^T)^2 X from X = x / max(|x|, eps); Jordan et al. 2024,
    https://kellerjordan.github.io/posts/muon. x: (..., m, n).
    """
    if isinstance(x, Symbol):
        _require_matrix("orthogonalize", len(x.letters))
        # Numbers as constants, so that a new one compiles nothing.
        given = [lift(x.tape, value).index for value in (*coefficients, eps)]
        return x.tape.add("orthogonalize", x.letters, x.index, *given, (steps,))
    _require_matrix("orthogonalize", x.ndim)
    if x.shape[-2] > x.shape[-1]:
        return transpose(orthogonalize(transpose(x), steps, coefficients, eps))
    a, b, c = coefficients
    x = x / maximum(_length(x), eps)
    for _ in range(steps):
        gram = x @ transpose(x)
        x = a * x + (b * gram + c * (gram @ gram)) @ x
    return x


def _length(x: Any) -> Any:
    """Return the Frobenius norm of each matrix, squared in double, so that no norm overflows that has a number."""
    wide = double(x)
    return _as((wide * wide).sum((-2, -1), **_keep(x)) ** 0.5, x)


def qr(x: Any) -> Any:
    """Return the orthogonal factor Q of x = Q R. x: (..., k, k)."""
    if isinstance(x, Symbol):
        return x.tape.add("qr", x.letters, x.index)
    return _home(x).linalg.qr(x)[0]


def eigenbasis(x: Any) -> Any:
    """Return the eigenvectors of a symmetric matrix as columns, largest eigenvalue first. x: (..., k, k).

    A matrix with an infinity or a NaN has no eigenvectors: they are NaN, as in arithmetic, and not an error.
    """
    if isinstance(x, Symbol):
        return x.tape.add("eigenbasis", x.letters, x.index)
    home = _home(x)
    sound = home.isfinite(x).all(-1, **_keep(x)).all(-2, **_keep(x))
    vectors = home.linalg.eigh(home.where(sound, x, home.zeros_like(x)))[1]
    vectors = vectors[..., ::-1] if home is np else vectors.flip(-1)
    return home.where(sound, vectors, home.full_like(x, math.nan))


def sort_columns(x: Any, by: Any) -> Any:
    """Return the columns of x, the one with the largest `by` first. x: (..., m, n), by: (..., 1, n)."""
    if isinstance(x, Symbol):
        if by.letters != "1" + x.letters[1]:
            raise FormulaError(f"sort_columns needs one number for each column, 1{x.letters[1]}, and got {by.letters}")
        return x.tape.add("sort_columns", x.letters, x.index, by.index)
    if isinstance(x, NUMPY):
        return np.take_along_axis(x, np.argsort(-by, axis=-1, kind="stable"), -1)
    order = by.argsort(dim=-1, descending=True, stable=True)
    return x.gather(-1, order.expand(x.shape))


def _require_matrix(function: str, dimensions: int) -> None:
    if dimensions < 2:
        raise FormulaError(
            f"{function} needs matrices, and got a tensor with {dimensions} dimensions: give vectors to a rule such as "
            f"adamw (steepest.groups does)"
        )


def _home(x: Any) -> Any:
    return np if isinstance(x, NUMPY) else sys.modules["torch"]  # the array in hand is torch's, so it has been imported
