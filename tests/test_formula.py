"""What a formula may say, what it means on arrays and on symbols, and the one sentence for what it may not say."""

import math

import numpy as np
import pytest
import torch

from steepest import formula
from steepest.formula import FormulaError, Tape
from steepest.kernels.plan import plan
from steepest.kernels.values import Values
from steepest.rule import rule

NOT_ONE_ELEMENT = "an element has no single truth value"

# What somebody may write into a rule -> a piece of the sentence that says what to write instead.
REFUSED = {
    "g if g > 0 else m": "write where(condition, a, b)",
    "g if g == 0 else m": NOT_ONE_ELEMENT,
    "g if g != 0 else m": NOT_ONE_ELEMENT,
    "g and m": "a & b",
    "not g": NOT_ONE_ELEMENT,
    "max(p, g)": "maximum(a, b)",
    "min(0.5, g)": NOT_ONE_ELEMENT,
    "sorted([p, g])": NOT_ONE_ELEMENT,
    "g if 0 < g < 1 else m": NOT_ONE_ELEMENT,
    "g in (p, m)": NOT_ONE_ELEMENT,
    "g.sqrt()": "write sqrt",
    "g.mul_(2)": "write *",
    "g.clamp(0)": "minimum(maximum(x, low), high)",
    "g.numel()": "write size",
    "g.pow(3)": "x * x",
    "g.item()": "speaks of one element",
    "g.shape": "sides(p)",
    "len(g.shape)": "sides(p)",
    "len(g)": "size(x)",
    "math.sqrt(g)": "steepest.sqrt",
    "math.hypot(p, g)": "steepest.sqrt",
    "float(g)": "steepest.sqrt",
    "int(g)": "not a single number",
    "round(g)": "not a single number",
    "round(g, 2)": "not a single number",
    "p[0]": "cannot index",
    "list(g)": "cannot be iterated",
    "g // 2": "write a / b",
    "2 // g": "write a / b",
    "g % 2": "write a / b",
    "divmod(g, 2)": "write a / b",
    "2.0 ** p": "write exp(x * log(2.0))",
    "p ** 3": "write x * x",
    "p ** -1": "write x * x",
    "p ** m": "write exp(y * log(x))",
    "p @ g": "inner sides differ",
    "p @ 2.0": "for elements write a * b or dot(a, b)",
    "g & m": "join comparisons",
    "(g > 0) & 1": "join comparisons",
    "g | m": "join comparisons",
    "~g": "needs a comparison",
    "(g > 0) ^ (m > 0)": "write a != b",
    "(g > 0) + (m > 0)": "write where(condition, 1.0, 0.0)",
    "(g > 0) - (m > 0)": "write where(condition, 1.0, 0.0)",
    "-(g > 0)": "write where(condition, 1.0, 0.0)",
    "sqrt(g > 0)": "write where(condition, 1.0, 0.0)",
    "where(g, m, p)": "needs a comparison",
    "where([True], g, m)": "needs a comparison",
    "np.clip(g, -1, 1)": "minimum(maximum(x, low), high)",
    "np.power(g, 2)": "x * x",
    "np.asarray(g)": "cannot become an array",
    "np.stack([p, g])": "np.stack cannot be used",
    "np.add(p, g, where=True)": "np.add cannot be used",
    "np.add.reduce(g)": "np.add cannot be used",
    "np.linalg.svd(g)": "np.svd cannot be used",
    "np.isnan(g)": "np.isnan cannot be used",
    "torch.clamp(g, -1, 1)": "minimum(maximum(x, low), high)",
    "torch.zeros_like(g)": "write 0",
    "torch.lerp(m, g, 0.1)": "b * x + (1 - b) * y",
    "torch.add(m, g, alpha=2)": "torch.add cannot be used",
    "torch.sum(g, 0)": "no further arguments",
    "g * np.ones(3)": "got ndarray",
    "np.ones(3) * g": "got ndarray",
    "g * torch.ones(3)": "got Tensor",
    "torch.ones(3) * g": "got Tensor",
    "g * 'x'": "got str",
    "g * None": "got NoneType",
    "g * 1j": "got complex",
    "g * torch.tensor(1j)": "got Tensor",
    "total(total(g))": "got one number",
    "norm(2.0)": "got the number 2.0",
    "everywhere(g)": "one scalar from each tensor",
    "sides(p)": "@rule(matrix=True)",
    "g + g.T": "their sides differ",
    "total(g).T": ".T needs a matrix",
}


# What somebody may write -> the same in the letters of a formula.
ACCEPTED = {
    "np.sqrt(abs(g))": "sqrt(abs(g))",
    "torch.sqrt(g * g)": "sqrt(g * g)",
    "torch.abs(g)": "abs(g)",
    "np.square(g)": "g * g",
    "g**2": "g * g",
    "g**2.0": "g * g",
    "abs(g)**0.5": "sqrt(abs(g))",
    "np.where(g > 0, g, m)": "where(g > 0, g, m)",
    "torch.where(g > 0, g, m)": "where(g > 0, g, m)",
    "np.maximum(g, 0)": "maximum(g, 0)",
    "torch.maximum(g, m)": "maximum(g, m)",
    "np.dot(p, g) * g": "dot(p, g) * g",
    "torch.sum(g) * g": "total(g) * g",
    "np.linalg.norm(g) * g": "norm(g) * g",
    "np.float32(0.5) * g": "0.5 * g",
    "g - np.float64(0.5)": "g - 0.5",
    "np.float64(0.5) - g": "0.5 - g",
    "torch.tensor(0.5) * g": "0.5 * g",
    "g / torch.tensor(0.5)": "g / 0.5",
    "torch.tensor(0.5) < g": "g > 0.5",
    "np.subtract(p, g)": "p - g",
    "torch.rsub(p, g)": "g - p",
    "np.less_equal(p, g) * g": "(p <= g) * g",
    "where(True, g, m)": "g",
    "sum([p, g, m])": "0 + p + g + m",
    "g * True": "g * 1",
    "(g * p > 0) * g": "where(g * p > 0, 1.0, 0.0) * g",
    "(g == 0) * g": "where(g == 0, 1.0, 0.0) * g",
    "~(g > 0) * g": "where(g > 0, 0.0, 1.0) * g",
    "((g > 0) | (m > 0)) * g": "where(g > 0, g, where(m > 0, g, 0.0))",
    "+g": "g",
    "mean(g) * g": "total(g) / size(g) * g",
    "rms(g) * g": "sqrt(square_total(g) / size(g)) * g",
}


def declared(expression):
    """A rule of which the third line sets its state to the expression, as if typed at a prompt."""
    names = {"math": math, "np": np, "torch": torch, "rule": rule, **vars(formula)}
    exec(f"@rule\ndef mine(p, g, m, *, lr=0.1):\n    m = {expression}\n    return p - lr * m, m\n", names)
    return names["mine"]


def on_symbols(expression, p, g, m):
    """The new state, computed from the graph that the rule leaves."""
    tape = Tape()
    new_p, new_m = declared(expression).trace(tape, t=1)
    program = plan(tape, {"p": new_p, "m": new_m})
    inputs = {"p": torch.tensor(p), "g": torch.tensor(g), "m": torch.tensor(m), "dtype": torch.float32}
    inputs["size"] = torch.tensor(float(p.size), dtype=torch.float64)
    return Values(program, tape.constants, inputs, batched=False)[dict(program.outputs)["m"]].numpy()


@pytest.mark.parametrize("expression", REFUSED)
def test_what_means_nothing_is_refused_in_one_sentence_with_the_line(expression):
    with pytest.raises(FormulaError) as caught:
        declared(expression).trace(Tape(), t=1)
    sentence = str(caught.value)
    assert sentence.startswith("rule mine (line 3): ")
    assert REFUSED[expression] in sentence
    assert "\n" not in sentence


@pytest.mark.parametrize("expression", ACCEPTED)
def test_what_means_the_same_computes_the_same(expression):
    p, g, m = (np.random.randn(50).astype(np.float32) for _ in range(3))
    g[:3] = 0
    np.testing.assert_array_equal(on_symbols(expression, p, g, m), on_symbols(ACCEPTED[expression], p, g, m))


@pytest.mark.parametrize("expression", ACCEPTED.values())
def test_arrays_and_symbols_agree(expression):
    p, g, m = (np.random.randn(50).astype(np.float32) for _ in range(3))
    g[:3] = 0
    by_array = declared(expression)(p, g, m, t=1)[1]
    assert by_array.dtype in (np.float32, np.bool_)
    np.testing.assert_allclose(on_symbols(expression, p, g, m), by_array, rtol=1e-6)  # to the bit: tests/kernels


def test_equality_is_not_identity():
    tape = Tape()
    g = tape.input("g")
    same, other = g == g, g != tape.input("m")
    assert [tape.nodes[symbol.index][0] for symbol in (same, other)] == ["eq", "ne"]
    with pytest.raises(TypeError, match="unhashable"):
        hash(g)


def test_a_new_value_of_a_scalar_leaves_the_same_graph():
    tapes = [Tape(), Tape()]
    for tape, lr in zip(tapes, (0.1, 0.2), strict=True):
        declared("0.5 * m + g").trace(tape, t=1, lr=lr)
    assert tapes[0].nodes == tapes[1].nodes
    assert tapes[0].constants != tapes[1].constants


ARRAYS = {
    "numpy float32": lambda x: np.asarray(x, np.float32),
    "numpy float64": lambda x: np.asarray(x, np.float64),
    "torch float32": lambda x: torch.tensor(x, dtype=torch.float32),
    "torch float64": lambda x: torch.tensor(x, dtype=torch.float64),
}
every_array = pytest.mark.parametrize("array", ARRAYS.values(), ids=ARRAYS)


@every_array
def test_elementwise_functions(array):
    x, y = array([4.0, -1.0, 0.0, np.nan]), array([2.0, -3.0, -0.0, 1.0])
    for ours, theirs in [
        (formula.sqrt(abs(x)), [2, 1, 0, np.nan]),
        (formula.sign(x), [1, -1, 0, np.nan]),
        (formula.maximum(x, y), [4, -1, 0, np.nan]),
        (formula.minimum(x, y), [2, -3, 0, np.nan]),
        (formula.maximum(x, 1.0), [4, 1, 1, np.nan]),
        (formula.minimum(1, x), [1, -1, 0, np.nan]),
        (formula.where(x > 0, x, y), [4, -3, 0, 1]),
        (formula.where(x > 0, 1.0, 0.0), [1, 0, 0, 0]),
    ]:
        np.testing.assert_array_equal(ours, np.asarray(theirs, np.float32))
        assert ours.dtype in (x.dtype, np.float32, torch.float32)  # of two plain numbers: what holds them exactly
    np.testing.assert_allclose(formula.exp(x[:2]), np.exp([4.0, -1.0]), rtol=1e-6)
    np.testing.assert_allclose(formula.log(x[:1]), np.log([4.0]), rtol=1e-6)


@every_array
def test_sums_are_numbers_in_double(array):
    x = array([3e20, -4e20])  # its square is no float32
    assert formula.norm(x) == pytest.approx(5e20, rel=1e-6)
    assert formula.rms(x) == pytest.approx(5e20 / math.sqrt(2), rel=1e-6)
    assert formula.largest(x) == pytest.approx(4e20)
    assert formula.total(array([1e8, 1.0, -1e8])) == 1.0
    assert formula.dot(array([1.0, 2.0]), array([3.0, 4.0])) == 11.0
    assert formula.mean(array([1.0, 2.0, 6.0])) == 3.0
    assert formula.size(x) == 2.0
    assert all(type(f(x)) is float for f in (formula.norm, formula.rms, formula.total, formula.mean, formula.largest))


@every_array
def test_an_empty_tensor_has_sums_of_zero(array):
    empty = array([])
    for reduction in (formula.total, formula.norm, formula.rms, formula.mean, formula.largest, formula.square_total):
        assert reduction(empty) == 0.0
    assert formula.size(empty) == 1.0


@every_array
def test_largest_shows_a_nan(array):
    assert math.isnan(formula.largest(array([1.0, np.nan, 2.0])))


@pytest.mark.parametrize("value", [4.0, 4])
def test_plain_numbers_give_plain_numbers(value):
    results = [formula.sqrt(value), formula.maximum(value, 1), formula.minimum(value, 1), formula.sign(-value)]
    assert results == [2.0, 4.0, 1.0, -1.0]
    assert all(type(result) is float for result in results)
    assert formula.everywhere(value) == value


def test_where_keeps_numbers_that_float32_does_not_hold():
    doubles = np.ones(3)
    np.testing.assert_array_equal(formula.where(doubles > 0, 0.1, 0.2), 0.1)
