"""The kernel is the formula in NumPy, to the bit: every rule, size, alignment, dtype and number of threads."""

import numpy as np
import pytest
import torch
from stepping import ELEMENTWISE, SIZES, by_formula, by_kernel, different, problem, switched, threads

from steepest import formula
from steepest.formula import Tape
from steepest.formula.symbol import REDUCTIONS
from steepest.rule import rule

every_rule = pytest.mark.parametrize("rule", ELEMENTWISE.values(), ids=ELEMENTWISE)
MANY = [(n,) for n in SIZES]
FEW = [(1000,), (33, 3), (), (16385,)]


def shapes_for(rule, shapes):
    """One tensor for a rule that adds over all tensors: as an array it knows of no other."""
    return shapes[-1:] if "*" in rule.states.values() else shapes


@every_rule
def test_every_size_is_the_formula(rule):
    starts, gradients = problem(shapes_for(rule, MANY))
    assert different(by_kernel(rule, starts, gradients), by_formula(rule, starts, gradients)) == 0


@every_rule
def test_every_branch_is_the_formula(rule):
    starts, gradients = problem(shapes_for(rule, FEW), steps=6)
    options = switched(rule)
    betas = {name: options.pop(name) for name in list(options) if name == "beta2"}
    front = {"betas": (rule.options["beta1"], betas["beta2"])} if betas else {}
    ours = by_kernel(rule, starts, gradients, **options, **front)
    theirs = by_formula(rule, starts, gradients, **options, **betas)
    assert different(ours, theirs) == 0


@every_rule
@pytest.mark.parametrize(("offset", "count"), [(1, 2), (3, 1)])
def test_neither_alignment_nor_threads_change_a_bit(rule, offset, count):
    starts, gradients = problem(shapes_for(rule, MANY), steps=2)
    plain = by_kernel(rule, starts, gradients)
    with threads(count):
        moved = by_kernel(rule, starts, gradients, offset=offset)
    assert different(plain, moved) == 0


@every_rule
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16], ids=str)
def test_other_dtypes_are_the_formula_stored_in_them(rule, dtype):
    starts, gradients = problem(shapes_for(rule, FEW))
    ours = by_kernel(rule, starts, gradients, offset=1, dtype=dtype, lr=0.01)
    theirs = by_formula(rule, starts, gradients, dtype=dtype, lr=0.01)
    if dtype == torch.float64 and adds(rule):  # NumPy adds in another order, and here that is seen
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-13)
    else:
        assert different(ours, theirs) == 0


def adds(rule):
    """Whether a rule sums over elements."""
    tape = Tape()
    rule.trace(tape, t=2)
    return any(node[0] in REDUCTIONS for node in tape.nodes)


@every_rule
def test_states_in_bfloat16_are_the_formula_with_states_stored_in_it(rule):
    starts, gradients = problem(shapes_for(rule, FEW))
    ours = by_kernel(rule, starts, gradients, lr=0.01, state_dtype=torch.bfloat16)
    assert different(ours, by_formula(rule, starts, gradients, state_dtype=torch.bfloat16, lr=0.01)) == 0


@every_rule
def test_a_complex_parameter_is_a_pair_of_reals(rule):
    starts, gradients = problem([(37, 2)])
    ours = stepped(rule, [as_complex(starts[0])], [[as_complex(step[0])] for step in gradients])[0]
    theirs = by_formula(rule, starts, gradients)[0]
    assert different([ours.real, ours.imag], [theirs[:, 0], theirs[:, 1]]) == 0


def as_complex(pairs):
    return torch.view_as_complex(torch.from_numpy(pairs))


def stepped(rule, starts, gradients, **options):
    """The parameters after the steps, as arrays of their own dtype."""
    from steepest.optim import Optimizer

    parameters = [torch.nn.Parameter(start.clone()) for start in starts]
    optimizer = Optimizer(parameters, rule, **options)
    for step in gradients:
        for parameter, gradient in zip(parameters, step, strict=True):
            parameter.grad = gradient.clone()
        optimizer.step()
    return [parameter.detach().numpy() for parameter in parameters]


@rule
def adds_up(p, g, rows, *, lr=0.1):
    """Every sum, and scalars of them in every operation."""
    high = formula.norm(g) > 1
    factor = formula.where(high, 0.1, 0.3) / (1 + formula.rms(p)) + formula.largest(g) * high
    ratio = formula.maximum(formula.dot(p, g), formula.total(g)) - formula.minimum(formula.mean(p), 0.7)
    rows = rows + formula.exp(-abs(ratio) / formula.size(p)) * g
    return p - lr * factor * rows * formula.sign(ratio) / formula.sqrt(1 + ratio * ratio), rows


def test_scalars_of_a_tensor_are_computed_in_double():
    starts, gradients = problem(MANY)
    assert different(by_kernel(adds_up, starts, gradients), by_formula(adds_up, starts, gradients)) == 0


@rule
def twice(p, g, *, lr=0.1):
    """A sum of what depends on another sum."""
    u = g / (formula.norm(g) + 1)
    v = u * formula.rms(u + p)
    return p - lr * v / (1 + formula.norm(v))


def test_sums_of_sums_are_the_formula():
    starts, gradients = problem(MANY)
    assert different(by_kernel(twice, starts, gradients), by_formula(twice, starts, gradients)) == 0


@rule
def by_shares(p, g, s: "shared", d: "scalar", *, lr=0.1):
    """Divide by sums that may be zero, and take roots of what may be negative."""
    share = formula.everywhere(formula.total(g))
    d = formula.sqrt(formula.total(g)) + 1 / formula.norm(g)
    return p - lr / share * g, formula.sqrt(share) + formula.log(share), d


def test_scalars_divide_as_elements_do():
    from steepest.optim import Optimizer

    for gradient, ends in ((0.0, (np.nan, -np.inf, np.inf)), (-1.0, (1.0 - 0.1 / 3, np.nan, np.nan))):
        parameter = torch.nn.Parameter(torch.ones(3))
        parameter.grad = torch.full((3,), gradient)
        optimizer = Optimizer([parameter], by_shares)
        optimizer.step()
        found = [float(parameter[0].detach()), optimizer._shared["by_shares.s"], float(optimizer.state[parameter]["d"])]
        np.testing.assert_allclose(found, ends, rtol=1e-6)


def test_an_empty_tensor_among_others_has_sums_of_zero():
    @rule
    def shows(p, g, s: "scalar", *, lr=0.1):
        return p - lr * g, formula.total(g) + formula.largest(p) + formula.mean(g)

    from steepest.optim import Optimizer

    parameters = [torch.nn.Parameter(torch.full((n,), 2.0)) for n in (0, 3, 0)]
    optimizer = Optimizer(parameters, shows)
    for p in parameters:
        p.grad = torch.ones_like(p)
    optimizer.step()
    assert [float(optimizer.state[p]["s"]) for p in parameters] == [0.0, 3.0 + 2.0 + 1.0, 0.0]


def test_the_comparison_itself_sees_one_bit():
    a = np.ones(5, np.float32)
    b = a.copy()
    b[2] = np.nextafter(b[2], np.float32(2))
    assert different([a], [b]) == 1
    assert different([np.float32([0.0])], [np.float32([-0.0])]) == 1
    assert different([np.float32([np.nan])], [np.float32([np.nan])]) == 0
