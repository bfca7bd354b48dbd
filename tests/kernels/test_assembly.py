"""Every operation gives NumPy's bits on special values, every conversion those of torch; so do random formulas."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from stepping import by_formula, by_kernel, different, problem

from steepest import formula
from steepest.kernels import assembly
from steepest.optim import Optimizer
from steepest.rule import rule

SPECIAL = np.float32(
    [np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-45, -1e-45, 1.1754942e-38, 1.1754944e-38, -3e-39, 1e38, -1e38, 3.4028235e38,
     1.0, -1.0, 0.5, 2.0, 1e-20, -1e20, 3.0]
)  # fmt: skip
PAIRS = [np.repeat(SPECIAL, len(SPECIAL)), np.tile(SPECIAL, len(SPECIAL))]

OPERATIONS = {
    "add": lambda p, g: p + g,
    "sub": lambda p, g: p - g,
    "mul": lambda p, g: p * g,
    "div": lambda p, g: p / g,
    "neg": lambda p, g: -g,
    "abs": lambda p, g: abs(g),
    "sqrt": lambda p, g: formula.sqrt(g),
    "sign": lambda p, g: formula.sign(g),
    "maximum": formula.maximum,
    "minimum": formula.minimum,
    "maximum with a number": lambda p, g: formula.maximum(0.0, g),
    "minimum with a number": lambda p, g: formula.minimum(g, -0.0),
    "less": lambda p, g: formula.where(p < g, p, 2.0),
    "less or equal": lambda p, g: formula.where(p <= g, p, 2.0),
    "greater": lambda p, g: formula.where(p > g, p, 2.0),
    "equal": lambda p, g: formula.where(p == g, p, 2.0),
    "not equal": lambda p, g: formula.where(p != g, p, 2.0),
    "and": lambda p, g: formula.where((p > 0) & (g > 0), p, g),
    "or": lambda p, g: formula.where((p > 0) | (g > 0), p, g),
    "not": lambda p, g: formula.where(~(p > g), p, g),
    "comparison as a number": lambda p, g: (p > g) * g,
    "number / element": lambda p, g: 3.0 / g,
    "number - element": lambda p, g: 1e-8 - g,
    "a number beyond float32": lambda p, g: 1e39 * g,
    "a number below float32": lambda p, g: 1e-60 + g,
}


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
def test_special_values(operation):
    @rule
    def one(p, g, *, lr=0.1):
        return operation(p, g)

    starts, gradients = [PAIRS[0]], [[PAIRS[1]]]
    assert different(by_kernel(one, starts, gradients), by_formula(one, starts, gradients)) == 0


@pytest.mark.parametrize(
    ("table", "name", "wrong", "operation"),
    [
        (assembly._COMPARISON, "lt", "ult", "less"),
        (assembly._COMPARISON, "ne", "one", "not equal"),
        (assembly._FUNCTION, "abs", "canonicalize", "abs"),
    ],
)
def test_another_instruction_is_seen(monkeypatch, own_cache, table, name, wrong, operation):
    monkeypatch.setitem(table, name, wrong)
    with pytest.raises(AssertionError):
        test_special_values(OPERATIONS[operation])


@rule
def cancels(p, g, m, *, lr=0.1):
    """What a fused multiply-add would change: a product that cancels."""
    return p + (p * g - g * p), m


def test_products_are_rounded_before_they_are_added():
    starts, gradients = problem([(1000,)])
    assert different(by_kernel(cancels, starts, gradients), starts) == 0


def test_a_fused_multiply_add_is_seen(monkeypatch, own_cache):
    for name in ("add", "sub", "mul"):
        monkeypatch.setitem(assembly._ARITHMETIC, name, f"f{name} contract")
    with pytest.raises(AssertionError):
        test_products_are_rounded_before_they_are_added()


@pytest.mark.parametrize("function", ["exp", "log"])
def test_functions_of_the_c_library_are_numpy_to_rounding(function):
    @rule
    def one(p, g, *, lr=0.1):
        return getattr(formula, function)(g)

    x = np.float32([*SPECIAL[:-2], *np.linspace(-80, 80, 300), *np.geomspace(1e-30, 1e30, 300)])
    ours, theirs = by_kernel(one, [x], [[x]])[0], by_formula(one, [x], [[x]])[0]
    np.testing.assert_allclose(ours, theirs, rtol=3e-7, atol=1e-45)


@rule
def stores(p, g, m, *, lr=0.1):
    """Store the state in the parameter, and the parameter in the state."""
    return m, p


def converted(values, dtype, state_dtype):
    """What a parameter of one dtype holds when the kernel has copied a state of another into it."""
    parameter = torch.nn.Parameter(torch.zeros(values.shape, dtype=dtype))
    optimizer = Optimizer([parameter], stores, state_dtype=state_dtype)
    parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    optimizer.state[parameter]["m"] = values.clone()
    optimizer.step()
    return parameter.detach()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_rounding_is_that_of_torch(dtype):
    bits = torch.randint(-(2**31), 2**31 - 1, (200_000,), dtype=torch.int64).to(torch.int32)
    ties = (torch.arange(0, 2**32, 2**15, dtype=torch.int64) - 2**31).to(torch.int32)
    values = torch.cat([bits, ties, torch.from_numpy(SPECIAL).view(torch.int32)]).view(torch.float32)
    ours, theirs = converted(values, dtype, torch.float32), values.to(dtype)
    assert torch.equal(ours.isnan(), values.isnan())
    numbers = ~values.isnan()
    assert torch.equal(ours[numbers].view(torch.int16), theirs[numbers].view(torch.int16))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_every_narrow_number_is_read_as_it_is(dtype):
    values = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16).view(dtype)
    ours = converted(values, torch.float32, dtype)
    numbers = ~values.isnan()
    assert torch.equal(ours.isnan(), values.isnan())
    assert torch.equal(ours[numbers], values[numbers].float())


@pytest.mark.parametrize("state_dtype", [torch.float64, torch.bfloat16, torch.float16], ids=str)
def test_states_of_a_double_are_converted(state_dtype):
    values = torch.randn(1000, dtype=torch.float64).to(state_dtype)
    assert torch.equal(converted(values, torch.float64, state_dtype), values.double())


def test_double_to_half_is_rounded_once():
    """A double next to the middle of two halves goes to its own side, where rounding by way of float takes the tie."""
    halves = torch.arange(0, 0x7C00, 7, dtype=torch.int16).view(torch.float16)
    middles = (halves.double() + torch.nextafter(halves, torch.tensor(torch.inf, dtype=torch.float16)).double()) / 2
    middles = middles[middles.isfinite()]
    near = [middles * (1 + sign * 2.0**-exponent) for sign in (1, -1) for exponent in (30, 40, 52)]
    special = torch.tensor([0.0, 1e-60, 1e-8, 65519.99, 65520.0, 1e300, torch.inf, torch.nan], dtype=torch.float64)
    values = torch.cat([middles, *near, special, torch.randn(1000, dtype=torch.float64)])
    values = torch.cat([values, -values])
    parameter = torch.nn.Parameter(values.clone())
    optimizer = Optimizer([parameter], stores, state_dtype=torch.float16)
    parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    ours = optimizer.state[parameter]["m"]
    with np.errstate(over="ignore"):
        assert np.array_equal(ours.numpy(), values.numpy().astype(np.float16), equal_nan=True)
    assert not torch.equal(ours.nan_to_num(), values.float().half().nan_to_num())  # the breach: two roundings


# A formula drawn at random: nested tuples, of elements, of conditions, and of numbers.
NUMBERS = st.sampled_from([0.1, -2.5, 1e-8, 3e38, 1.0, 0.0, 0.999, 1 / 3])
LEAVES = st.sampled_from(["p", "g", "m", "v"])


def grown(elements):
    """Larger formulas of smaller ones."""
    condition = st.tuples(st.sampled_from(["<", "<=", ">", "==", "!="]), elements, elements)
    joined = st.tuples(st.sampled_from(["&", "|"]), condition, condition)
    conditions = condition | joined | st.tuples(st.just("~"), condition)
    return st.one_of(
        st.tuples(st.sampled_from(["+", "-", "*", "/", "maximum", "minimum"]), elements, elements),
        st.tuples(st.sampled_from(["+", "-", "*", "/", "maximum", "minimum"]), elements, NUMBERS),
        st.tuples(st.sampled_from(["+", "-", "*", "/"]), NUMBERS, elements),
        st.tuples(st.sampled_from(["neg", "abs", "sqrt", "sign", "square"]), elements),
        st.tuples(st.just("where"), conditions, elements, elements),
        st.tuples(st.just("times"), conditions, elements),
    )


FORMULAS = st.recursive(LEAVES, grown, max_leaves=12)
MEANING = {
    "+": lambda a, b: a + b, "-": lambda a, b: a - b, "*": lambda a, b: a * b, "/": lambda a, b: a / b,
    "<": lambda a, b: a < b, "<=": lambda a, b: a <= b, ">": lambda a, b: a > b, "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b, "&": lambda a, b: a & b, "|": lambda a, b: a | b, "~": lambda a: ~a,
    "neg": lambda a: -a, "abs": abs, "sqrt": formula.sqrt, "sign": formula.sign, "square": lambda a: a**2,
    "where": formula.where, "times": lambda condition, a: condition * a, "maximum": formula.maximum,
    "minimum": formula.minimum,
}  # fmt: skip


def meant(tree, letters):
    """The value of a formula, on arrays or on symbols."""
    if isinstance(tree, str):
        return letters[tree]
    if isinstance(tree, float):
        return tree
    return MEANING[tree[0]](*(meant(part, letters) for part in tree[1:]))


@pytest.mark.usefixtures("own_cache")
@settings(deadline=None)
@given(new_p=FORMULAS, new_m=FORMULAS, new_v=FORMULAS, dtype=st.sampled_from([torch.float32, torch.float64]))
def test_a_random_formula_is_numpy_to_the_bit(new_p, new_m, new_v, dtype):
    @rule
    def drawn(p, g, m, v, *, lr=0.1):
        letters = {"p": p, "g": g, "m": m, "v": v}
        return meant(new_p, letters), meant(new_m, letters), meant(new_v, letters)

    starts, gradients = problem([(37,), (400,)], steps=3)
    gradients[1][1] = PAIRS[1]
    ours = by_kernel(drawn, starts, gradients, dtype=dtype)
    assert different(ours, by_formula(drawn, starts, gradients, dtype=dtype)) == 0
