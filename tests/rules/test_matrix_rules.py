"""The rules that look at whole matrices give the numbers of implementations that somebody else wrote."""

import functools
import math

import numpy as np
import pytest
import pytorch_optimizer
import torch
from hypothesis import given, strategies as st

from steepest.formula import FormulaError, Symbol, Tape
from steepest.rule import Rule, rule
from steepest.rules import RULES

MATRIX_RULES = {name: rule for name, rule in RULES.items() if rule.matrix}
SHAPES = [(6, 6), (5, 8), (8, 5)]
every_matrix_rule = pytest.mark.parametrize("rule", MATRIX_RULES.values(), ids=MATRIX_RULES)


def random(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def theirs(make, start, gradients):
    """Yield the parameter after each step of a torch optimizer, in float64."""
    parameter = torch.nn.Parameter(torch.tensor(start))
    optimizer = make([parameter])
    for gradient in gradients:
        parameter.grad = torch.tensor(gradient)
        optimizer.step()
        yield parameter.detach().numpy().copy()


def gap(rule, make, shape, steps=50, **hyper):
    """Return the largest difference of a parameter, ours against theirs, over the steps."""
    start, gradients = random(*shape, seed=1), random(steps, *shape)
    pairs = zip(rule.walk(start, list(gradients), **hyper), theirs(make, start, gradients), strict=True)
    return max(np.abs(ours - other).max() for ours, other in pairs)


# Adafactor


@pytest.mark.parametrize("shape", [*SHAPES, (7,), (1,), ()], ids=str)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"lr": 0.3, "beta2_decay": -0.5, "weight_decay": 0.1},
        {"eps": (1e-2, 0.5), "d": 2.0},
        {"eps": (2.0, 1e-3)},
        {"lr": 1e-4, "d": 1.5},
    ],
    ids=str,
)
def test_adafactor_is_torch_adafactor(shape, options):
    assert gap(RULES["adafactor"], lambda p: torch.optim.Adafactor(p, **options), shape, **options) < 1e-10


def test_adafactor_takes_epsilon_from_the_dtype():
    # A gradient smaller than the epsilon of float32, and larger than that of float64.
    start, gradient = np.ones((4, 3)), 1e-8 * random(4, 3)
    moved = [abs(next(RULES["adafactor"].walk(start.astype(dtype), [gradient])) - 1).max() for dtype in ("f4", "f8")]
    assert moved[0] < 0.5 * moved[1]


def test_adafactor_remembers_rows_and_columns_only():
    tape = Tape((6, 4))
    p, v, r, c = RULES["adafactor"].trace(tape, t=1)
    assert tape.nodes[v.index] == ("input", "mn", "v")  # handed back as it came, so never stored
    assert (p.letters, r.letters, c.letters) == ("mn", "m1", "1n")
    tape = Tape((6, 1))
    p, v, r, c = RULES["adafactor"].trace(tape, t=1)
    assert tape.nodes[r.index] == ("input", "m1", "r")
    assert tape.nodes[c.index] == ("input", "1n", "c")
    assert (p.letters, v.letters) == ("mn", "mn")


# Muon


def in_float64(monkeypatch):
    """Make torch.optim.Muon compute its products in the precision of its parameters."""
    monkeypatch.setattr(torch.Tensor, "bfloat16", torch.Tensor.clone)


@pytest.mark.parametrize("shape", [*SHAPES, (1, 9), (9, 1), (1, 1), (40, 64)], ids=str)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"lr": 0.1, "weight_decay": 0.3, "momentum": 0.8, "nesterov": False},
        {"ns_steps": 3, "ns_coefficients": (2.0, -1.5, 0.5), "eps": 3.0},
        {"adjust_lr_fn": "match_rms_adamw"},
        {"adjust_lr_fn": "original"},
    ],
    ids=str,
)
def test_muon_is_torch_muon(monkeypatch, shape, options):
    in_float64(monkeypatch)
    assert gap(RULES["muon"], lambda p: torch.optim.Muon(p, **options), shape, **options) < 1e-10


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_muon_is_torch_muon_in_bfloat16(shape):
    start, gradients = np.zeros(shape), random(20, *shape)
    *_, ours = RULES["muon"].walk(start, list(gradients))
    *_, other = theirs(torch.optim.Muon, start, gradients)
    assert np.linalg.norm(ours - other) < 0.02 * np.linalg.norm(other)


@pytest.mark.parametrize(
    ("shape", "options", "golden"),
    [
        ((64, 64), {}, 0.1106),
        ((64, 256), {}, 0.0540),
        ((256, 64), {}, 0.1070),
        ((64, 256), {"adjust_lr_fn": "match_rms_adamw"}, 0.1728),
    ],
    ids=str,
)
def test_size_of_a_muon_step(shape, options, golden):
    # So that no change of a default, a coefficient or a scale goes unseen: root mean square of a step, divided by lr.
    step = next(RULES["muon"].walk(np.zeros(shape), [random(*shape)], lr=1.0, weight_decay=0.0, **options))
    assert np.sqrt((step**2).mean()) == pytest.approx(golden, abs=1e-4)


@pytest.mark.parametrize("rule", [RULES["muon"], RULES["normuon"]], ids=str)
def test_an_unknown_scale_is_refused_in_a_sentence(rule):
    with pytest.raises(ValueError, match=r"'rms', and must be \"original\""):
        next(rule.walk(np.ones((2, 2)), [np.ones((2, 2))], adjust_lr_fn="rms"))


@pytest.mark.parametrize("rule", [RULES["muon"], RULES["normuon"]], ids=str)
def test_vectors_are_refused_in_a_sentence(rule):
    with pytest.raises(FormulaError, match=r"needs matrices, and got a tensor with 1 dimensions: .* adamw"):
        next(rule.walk(np.ones(3), [np.ones(3)]))


# NorMuon


def straight_newton_schulz(g):
    """zeropower_via_newtonschulz5 of the authors' normuon.py, without its bfloat16."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = g.T if g.shape[0] > g.shape[1] else g
    x = x / (np.linalg.norm(x) + 1e-7)
    for _ in range(5):
        square = x @ x.T
        x = a * x + (b * square + c * square @ square) @ x
    return x.T if g.shape[0] > g.shape[1] else x


def straight_normuon(p, gradients, lr=0.02, weight_decay=0.0, beta=0.95, beta2=0.95, nesterov=True):
    """`normuon_update` and the step around it, line by line, of https://github.com/zichongli5/NorMuon (normuon.py)."""
    momentum, second = np.zeros_like(p), np.zeros((len(p), 1))
    for grad in gradients:
        momentum = momentum + (1 - beta) * (grad - momentum)
        update = grad + beta * (momentum - grad) if nesterov else momentum
        update = straight_newton_schulz(update)
        before = np.linalg.norm(update)
        second = second + (1 - beta2) * ((update * update).mean(-1, keepdims=True) - second)
        update = update * (1 / (np.sqrt(second) + 1e-10))
        update = update * (before / (np.linalg.norm(update) + 1e-10))
        update = update * max(1, grad.shape[-2] / grad.shape[-1]) ** 0.5
        p = p * (1 - lr * weight_decay) - lr * update
        yield p


NORMUON = [
    ({}, {}),
    ({"lr": 0.1, "weight_decay": 0.3, "beta2": 0.9, "nesterov": False, "momentum": 0.8}, {"beta": 0.8}),
]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize(("options", "renamed"), NORMUON, ids=str)
def test_normuon_is_its_authors(shape, options, renamed):
    start, gradients = random(*shape, seed=1), random(50, *shape)
    other = straight_normuon(start, gradients, **{n: v for n, v in options.items() if n != "momentum"}, **renamed)
    for ours, expected in zip(RULES["normuon"].walk(start, list(gradients), **options), other, strict=True):
        # The authors add 1e-7 to the length of a matrix; torch and we take it as the least one.
        np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("adjust", [None, "match_rms_adamw"])
def test_normuon_is_pytorch_optimizer_normuon(monkeypatch, shape, adjust):
    def make(parameters):
        group = {"params": parameters, "use_muon": True, "use_adjusted_lr": adjust is not None, "weight_decay": 0.1}
        return pytorch_optimizer.NorMuon([group], foreach=False)

    precise(monkeypatch)
    assert gap(RULES["normuon"], make, shape, weight_decay=0.1, adjust_lr_fn=adjust) < 1e-10


def precise(monkeypatch):
    """Make pytorch_optimizer compute its products in float64."""
    import pytorch_optimizer.optimizer.muon.normuon as module

    real = module.zero_power_via_newton_schulz_5
    in_double = functools.partial(real, dtype=torch.float64)
    monkeypatch.setattr(module, "zero_power_via_newton_schulz_5", in_double)


def test_normuon_gives_every_row_one_length():
    gradients = [random(6, 12) * np.arange(1, 7)[:, None] for _ in range(30)]
    *_, before, after = RULES["normuon"].walk(np.zeros((6, 12)), gradients)
    rows = np.linalg.norm(after - before, axis=1)
    assert rows.max() < 1.0001 * rows.min()
    *_, before, after = RULES["muon"].walk(np.zeros((6, 12)), gradients, weight_decay=0.0)
    rows = np.linalg.norm(after - before, axis=1)
    assert rows.max() > 1.05 * rows.min()


# SOAP


def straight_soap(  # noqa: C901  as its authors wrote it
    w, gradients, lr, betas, eps, weight_decay, frequency, largest
):
    """`SOAP.step`, line by line, of https://github.com/nikhilvyas/SOAP (soap.py), one matrix, its default settings."""
    sides = [side <= largest for side in w.shape]
    squares = [np.zeros((side, side)) if kept else None for side, kept in zip(w.shape, sides, strict=True)]
    exp_avg, exp_avg_sq, bases, step = np.zeros_like(w), np.zeros_like(w), None, 0
    beta1, beta2 = betas

    def project(x):
        left, right = bases
        x = x if left is None else np.tensordot(left, x, ([0], [0]))
        return x if right is None else np.tensordot(x, right, ([1], [0]))

    def project_back(x):
        left, right = bases
        x = x if left is None else np.tensordot(left, x, ([1], [0]))
        return x if right is None else np.tensordot(x, right, ([1], [1]))

    for grad in gradients:
        if bases is not None:
            projected = project(grad)
            step += 1
            exp_avg = exp_avg * beta1 + (1 - beta1) * projected
            exp_avg_sq = exp_avg_sq * beta2 + (1 - beta2) * projected**2
            size = lr * (1 - beta2**step) ** 0.5 / (1 - beta1**step)
            w = w - size * project_back(exp_avg / (np.sqrt(exp_avg_sq) + eps))
            w = w - lr * weight_decay * w
            exp_avg = project_back(exp_avg)
        for side, outer in enumerate((grad @ grad.T, grad.T @ grad)):
            if sides[side]:
                squares[side] = squares[side] + (1 - beta2) * (outer - squares[side])
        if bases is None:
            bases = [None if square is None else np.linalg.eigh(square)[1][:, ::-1] for square in squares]
        if step > 0 and step % frequency == 0:
            renewed = []
            for side, (square, basis) in enumerate(zip(squares, bases, strict=True)):
                if square is None:
                    renewed.append(None)
                    continue
                order = np.argsort(-np.diag(basis.T @ square @ basis), kind="stable")
                exp_avg_sq = np.take(exp_avg_sq, order, axis=side)
                renewed.append(np.linalg.qr(square @ basis[:, order])[0])
            bases = renewed
        if step > 0:
            exp_avg = project(exp_avg)
        yield w


# Where a side is the longer one its first square has a null space, of which every program finds another basis: so the
# longer side is left out by max_precond_dim, and both are turned in square matrices only.
SOAP = [((6, 6), 10000), ((5, 8), 5), ((8, 5), 5), ((5, 8), 4)]


@pytest.mark.parametrize(("shape", "largest"), SOAP, ids=str)
@pytest.mark.parametrize("frequency", [1, 3, 10])
def test_soap_is_its_authors(shape, largest, frequency):
    start, gradients = random(*shape, seed=1), random(50, *shape)
    settings = {"lr": 0.01, "eps": 1e-6, "weight_decay": 0.1}
    options = {"beta1": 0.9, "beta2": 0.8, "precondition_frequency": frequency, "max_precond_dim": largest}
    ours = RULES["soap"].walk(start, list(gradients), **settings, **options)
    other = straight_soap(start, gradients, **settings, betas=(0.9, 0.8), frequency=frequency, largest=largest)
    for mine, expected in zip(ours, other, strict=True):
        np.testing.assert_allclose(mine, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize(("shape", "largest"), SOAP, ids=str)
@pytest.mark.parametrize("options", [{}, {"shampoo_beta": 0.5, "lr": 0.02}, {"precondition_frequency": 4}], ids=str)
def test_soap_is_pytorch_optimizer_soap(monkeypatch, shape, largest, options):
    def make(parameters):
        return pytorch_optimizer.SOAP(parameters, max_precondition_dim=largest, **options)

    monkeypatch.setattr(torch, "float32", torch.float64)  # it computes QR in float32 whatever it is given
    assert gap(RULES["soap"], make, shape, max_precond_dim=largest, **options) < 1e-10


def test_soap_treats_a_vector_as_adam_does():
    gradients = random(20, 7)
    soap = RULES["soap"].walk(np.zeros(7), list(gradients), weight_decay=0.0, lr=0.01)
    adam = RULES["adamw"].walk(np.zeros(7), list(gradients[1:]), weight_decay=0.0, lr=0.01, beta1=0.95, beta2=0.95)
    assert not next(soap).any()
    for ours, expected in zip(soap, adam, strict=True):
        np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-7)


def test_soap_first_step_moves_nothing_and_stores_no_moments():
    tape = Tape((6, 4))
    p, m, v, *_ = RULES["soap"].trace(tape, t=1)
    assert [tape.nodes[x.index][2] for x in (p, m, v)] == ["p", "m", "v"]


def test_soap_is_blind_to_a_rotation():
    # The same problem in turned coordinates takes the same path: what the rule is for, and what Adam lacks.
    turn = np.linalg.qr(random(6, 6, seed=3))[0]
    start, gradients = random(6, 6, seed=1), random(30, 6, 6)
    for name, distance in (("soap", 1e-8), ("adamw", None)):
        *_, straight = RULES[name].walk(start, list(gradients), lr=0.01)
        *_, turned = RULES[name].walk(turn @ start, list(turn @ gradients), lr=0.01)
        found = np.abs(turn @ straight - turned).max()
        assert found < distance if distance else found > 0.01


# What holds for all of them


@every_matrix_rule
@pytest.mark.parametrize("scale", [0.0, 1e-30, 1e-10, 1e15], ids=str)
def test_parameters_stay_finite(rule, scale):
    gradients = [scale * random(4, 6, seed=seed).astype(np.float32) for seed in range(13)]
    *_, final = rule.walk(np.ones((4, 6), np.float32), gradients)
    assert np.isfinite(final).all()
    assert final.dtype == np.float32


@every_matrix_rule
def test_a_broken_gradient_is_not_hidden(rule):
    broken = random(4, 6)
    broken[1, 2] = np.nan
    *_, final = rule.walk(np.ones((4, 6)), [broken, random(4, 6)])
    assert np.isnan(final[1, 2])


@every_matrix_rule
def test_torch_tensors_give_the_same_numbers(rule):
    start, gradients = random(4, 6, seed=1), random(12, 4, 6)
    tensor = torch.tensor(start)
    state = [torch.tensor(s) if isinstance(s, np.ndarray) else s for s in rule.zeros(start)]
    hyper = {"max_precond_dim": 4} if rule.name == "soap" else {}
    for t, (ours, gradient) in enumerate(zip(rule.walk(start, list(gradients), **hyper), gradients, strict=True), 1):
        tensor, *state = rule(tensor, torch.tensor(gradient), *state, t=t, **hyper)
        np.testing.assert_allclose(tensor.numpy(), ours, rtol=0, atol=1e-10)


@every_matrix_rule
def test_every_option_changes_the_path(rule):
    other = {
        "eps": (1e-2, 3.0) if rule.name == "adafactor" else 3.0, "ns_coefficients": (2.0, -1.5, 0.5), "ns_steps": 2,
        "nesterov": False, "adjust_lr_fn": "match_rms_adamw", "shampoo_beta": 0.5, "precondition_frequency": 3,
        "max_precond_dim": 5, "d": 1.3, "lr": 0.005, "weight_decay": 0.4, "momentum": 0.5, "beta1": 0.5, "beta2": 0.5,
        "beta2_decay": -0.4,
    }  # fmt: skip
    start, gradients = random(8, 5, seed=1), list(random(12, 8, 5) * np.linspace(5, 1, 12)[:, None, None])
    *_, usual = rule.walk(start, gradients)
    for name in rule.options:
        *_, changed = rule.walk(start, gradients, **{name: other[name]})
        assert np.abs(changed - usual).max() > 1e-6, name


@given(rows=st.integers(1, 9), columns=st.integers(1, 9))
def test_the_graph_has_the_shapes_of_the_arrays(rows, columns):
    for rule_ in MATRIX_RULES.values():
        for t in (1, 2, 11):
            results = rule_.trace(Tape((rows, columns)), t=t)
            assert [result.letters for result in results] == ["mn", *rule_.states.values()]
            assert all(isinstance(result, Symbol) for result in results)


@rule(matrix=True)
def muon_without_decay_first(p, g, m, *, lr=1e-3, weight_decay=0.1, momentum=0.95):
    p, m = RULES["muon"].formula(p, g, m, lr=lr, weight_decay=0.0, momentum=momentum)
    return p * (1 - lr * weight_decay), m


def test_a_planted_misreading_is_caught(monkeypatch):
    in_float64(monkeypatch)
    assert isinstance(muon_without_decay_first, Rule)
    assert gap(muon_without_decay_first, lambda p: torch.optim.Muon(p, lr=0.1), (5, 8), lr=0.1) > 1e-4


def test_formulas_of_one_matrix_and_of_a_stack_agree():
    from steepest import formula
    from steepest.formula.matrix import sort_columns

    stack = random(3, 4, 6)
    for function in (formula.orthogonalize, formula.row_mean, formula.column_mean, formula.transpose):
        each = np.stack([function(x) for x in stack])
        np.testing.assert_allclose(function(stack), each, rtol=0, atol=1e-14)
    by = np.array([[[1.0, 3.0, 2.0, 3.0, -1.0, 0.0]]])
    assert sort_columns(np.arange(6.0)[None], by[0]).tolist() == [[1, 3, 2, 0, 5, 4]]
    np.testing.assert_array_equal(
        sort_columns(torch.tensor(stack), torch.tensor(by)).numpy(), sort_columns(stack, np.broadcast_to(by, (3, 1, 6)))
    )
    assert math.isnan(formula.eigenbasis(np.array([[np.nan, 0], [0, 1]]))[0, 0])
