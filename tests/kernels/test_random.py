"""Formulas drawn at random, with sums, scalars of sums, rows, columns and products of matrices: kernel = formula."""

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from stepping import by_formula, by_kernel, problem

from steepest import formula
from steepest.rule import rule

NUMBERS = st.sampled_from([0.5, -2.0, 1e-3, 0.1, 3.0])
ONE = st.sampled_from(["bounded", "inverse", "sign", "root", "neg"])


@st.composite
def scalars(draw, depth):
    """A number of a whole tensor. No divisor is zero."""
    kind = draw(st.sampled_from(["sum", "sum", "dot", "size", "two", "one", "choose"])) if depth else "size"
    if kind == "sum":
        name = draw(st.sampled_from(["norm", "rms", "mean", "largest", "total", "square_total"]))
        return (name, draw(elements(depth - 1)))
    if kind == "dot":
        return ("dot", draw(elements(depth - 1)), draw(elements(depth - 1)))
    if kind == "two":
        other = draw(NUMBERS) if draw(st.booleans()) else draw(scalars(depth - 1))
        return (draw(st.sampled_from(["+", "-", "*", "maximum", "minimum"])), draw(scalars(depth - 1)), other)
    if kind == "one":
        return (draw(ONE), draw(scalars(depth - 1)))
    if kind == "choose":
        return ("choose", draw(scalars(depth - 1)), draw(scalars(depth - 1)), draw(NUMBERS))
    return ("size",)


@st.composite
def elements(draw, depth, matrix=False):
    """A value for each element, perhaps with what only matrices have."""
    kinds = ["two", "two", "with a scalar", "one", "where"] + ["sides", "left", "right", "orthogonal"] * matrix
    kind = draw(st.sampled_from(kinds)) if depth else "leaf"

    def part():
        return draw(elements(depth - 1, matrix))

    if kind == "two":
        return (draw(st.sampled_from(["+", "-", "*", "maximum", "minimum"])), part(), part())
    if kind == "with a scalar":
        return (draw(st.sampled_from(["+", "-", "*", "maximum"])), draw(scalars(depth - 1)), part())
    if kind == "one":
        return (draw(ONE), part())
    if kind == "where":
        bound = draw(scalars(depth - 1)) if draw(st.booleans()) else part()
        return ("where", (draw(st.sampled_from(["<", "<="])), part(), bound), part(), draw(NUMBERS))
    if kind == "sides":
        return (draw(st.sampled_from(["+", "*"])), ("rows", part()), ("columns", part()))
    if kind in ("left", "right"):
        return (kind, part(), part())
    if kind == "orthogonal":
        return (kind, part())
    return draw(st.sampled_from(["p", "g", "m"]))


def bounded(a):
    """Between -1 and 1, so that products of products stay numbers of single precision."""
    return a / (1 + abs(a))


MEANING = {
    "+": lambda a, b: a + b, "-": lambda a, b: a - b, "*": lambda a, b: a * b, "neg": lambda a: -a,
    "maximum": formula.maximum, "minimum": formula.minimum, "<": lambda a, b: a < b, "<=": lambda a, b: a <= b,
    "where": formula.where, "sign": formula.sign, "bounded": bounded,
    "inverse": lambda a: 1 / (1 + abs(a)), "root": lambda a: formula.sqrt(abs(a)), "norm": formula.norm,
    "rms": formula.rms, "mean": formula.mean, "largest": formula.largest, "total": formula.total,
    "square_total": formula.square_total, "dot": formula.dot,
    "choose": lambda a, b, c: formula.where(a < b, b, c),
    "rows": formula.row_mean, "columns": formula.column_mean,
    "left": lambda a, b: (bounded(a) @ formula.transpose(bounded(b))) @ bounded(b),
    "right": lambda a, b: bounded(a) @ (formula.transpose(bounded(b)) @ bounded(b)),
    "orthogonal": lambda a: formula.orthogonalize(bounded(a), 2),
}  # fmt: skip


def meant(tree, letters):
    """The value of a formula, on arrays or on symbols."""
    if isinstance(tree, str):
        return letters[tree]
    if isinstance(tree, float):
        return tree
    if tree == ("size",):
        return formula.size(letters["p"])
    return MEANING[tree[0]](*(meant(part, letters) for part in tree[1:]))


@pytest.mark.usefixtures("own_cache")
@settings(deadline=None)
@given(new_p=elements(4), new_m=elements(3), new_s=scalars(3))
def test_sums_and_scalars(new_p, new_m, new_s):
    @rule
    def drawn(p, g, m, s: "scalar", *, lr=0.1):
        letters = {"p": p, "g": g, "m": m}
        new = formula.minimum(formula.maximum(meant(new_m, letters), -10.0), 10.0)
        step = formula.minimum(formula.maximum(meant(new_p, letters), -10.0), 10.0)
        number = meant(new_s, letters)
        s = 0.5 * s + number / (1 + abs(number))
        return step + 0.1 * p + s, new, s

    starts, gradients = problem([(37,), (20000,), (1,), (0,), (8, 3)], steps=3)
    pairs = zip(by_kernel(drawn, starts, gradients), by_formula(drawn, starts, gradients), strict=True)
    for ours, theirs in pairs:
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-4)


@pytest.mark.usefixtures("own_cache")
@settings(deadline=None)
@given(new_p=elements(4, True), new_m=elements(2, True), new_r=elements(2, True))
def test_rows_columns_and_products(new_p, new_m, new_r):
    def tamed(x):
        return formula.minimum(formula.maximum(x, -3.0), 3.0)

    @rule(matrix=True)
    def drawn(p, g, m, r: "rows", c: "columns", *, lr=0.1):
        letters = {"p": tamed(p), "g": tamed(g), "m": m}
        step = tamed(meant(new_p, letters))
        r = 0.5 * r + formula.row_mean(tamed(meant(new_r, letters)))
        c = 0.5 * c + formula.column_mean(step)
        return 0.5 * p + step + 0.1 * r * c, tamed(meant(new_m, letters)), r, c

    # Comparisons and signs make a last bit a whole one, so that what is compared is where most elements agree.
    starts, gradients = problem([(4, 3), (4, 3), (16, 16), (1, 5)], steps=2)
    ours, theirs = by_kernel(drawn, starts, gradients), by_formula(drawn, starts, gradients)
    apart = np.concatenate([np.abs(a - b).ravel() for a, b in zip(ours, theirs, strict=True)])
    assert np.isfinite(apart).all()
    assert np.median(apart) < 1e-4
