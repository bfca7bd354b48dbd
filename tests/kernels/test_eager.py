"""Where there is no kernel the formula runs by torch operations: the same numbers, and one warning with the reason."""

import warnings

import numpy as np
import pytest
import torch
from stepping import switched

from steepest.kernels import support
from steepest.optim import CLASSES, cut

MATRICES = [(4, 3), (4, 4), (2, 3, 3), (16, 16), (0, 3), (4, 3)]
SHAPES = [*MATRICES, (7,), (), (0,)]
OPTIONS = {
    "plain": {},
    "clip": {"clip": 0.5},
    "guard": {"skip_nonfinite": True},
    "ema": {"ema": 0.9},
    "cautious": {"cautious": True},
    "maximize": {"maximize": True},
    "state dtype": {"state_dtype": torch.bfloat16},
    "all": {"clip": 2.0, "skip_nonfinite": True, "ema": 0.5, "cautious": True, "maximize": True},
}
every_rule = pytest.mark.parametrize("kind", CLASSES.values(), ids=CLASSES)


def walked(kind, eager, monkeypatch, shapes=None, dtype=torch.float64, steps=12, **options):
    """Everything that a run leaves behind: parameters, states, averages, measurements."""
    shapes = shapes or (MATRICES if kind.rule.matrix else SHAPES)
    if kind.__name__ == "SOAP":  # of a space of equal eigenvalues no basis is the right one
        shapes = [(4, 4), (16, 16)]
    monkeypatch.setattr(cut, "unsupported", lambda p: "the test" if eager else "")
    torch.manual_seed(3)
    measure = options.pop("measure", False)
    parameters = [torch.nn.Parameter(torch.randn(shape, dtype=torch.float64).to(dtype)) for shape in shapes]
    optimizer = kind(parameters, **options)
    optimizer.measure = measure
    for _ in range(steps):
        for p in parameters:
            p.grad = torch.randn(p.shape, dtype=torch.float64).to(dtype)
        optimizer.step()
    assert all(members.kind.kernel != eager for members in optimizer._cut.batches)
    with optimizer.averaged():
        averages = [p.detach().clone() for p in parameters]
    states = [dict(sorted(optimizer.state[p].items())) for p in parameters]
    stats = optimizer.stats
    measured = [stats.gradient_norm, stats.update_norm, stats.unchanged, *stats.ratios.values(), stats.clipped]
    return {
        "parameters": [p.detach() for p in parameters], "averages": averages,
        "states": [value for state in states for value in state.values()],
        "shared": [torch.tensor(float(value)) for value in optimizer._shared.values()],
        "measured": [torch.tensor(-1.0 if value is None else value) for value in measured],
    }  # fmt: skip


def gap(one, other):
    """The largest relative difference of all that two runs leave behind."""
    assert one.keys() == other.keys()
    worst = 0.0
    for name in one:
        for a, b in zip(one[name], other[name], strict=True):
            assert a.shape == b.shape
            assert a.dtype == b.dtype
            distance = torch.nan_to_num((a - b).abs() / (1 + b.abs()))
            assert torch.equal(a.isnan(), b.isnan())
            worst = max(worst, float(distance.max()) if distance.numel() else 0.0)
    return worst


@every_rule
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_eager_is_the_kernel(monkeypatch, kind, options):
    runs = [walked(kind, eager, monkeypatch, **options) for eager in (False, True)]
    within = 0.02 if "state_dtype" in options else 1e-7 if kind.__name__ == "SOAP" else 1e-11
    assert gap(*runs) < within


@every_rule
def test_eager_is_the_kernel_in_every_branch(monkeypatch, kind):
    options = {k: v for k, v in switched(kind.rule).items() if k not in ("beta2",)}
    runs = [walked(kind, eager, monkeypatch, **options, measure=True) for eager in (False, True)]
    assert gap(*runs) < (1e-7 if kind.__name__ == "SOAP" else 1e-10)


@pytest.mark.parametrize("kind", [CLASSES["AdamW"], CLASSES["SGD"], CLASSES["LAMB"], CLASSES["Prodigy"]], ids=str)
@pytest.mark.parametrize("rounding", ["nearest", "stochastic", "kahan"])
def test_rounding_is_the_kernels(monkeypatch, kind, rounding):
    runs = [
        walked(kind, eager, monkeypatch, dtype=torch.bfloat16, rounding=rounding, lr=0.1, measure=True)
        for eager in (False, True)
    ]
    different = sum(int((a != b).sum()) for a, b in zip(runs[0]["parameters"], runs[1]["parameters"], strict=True))
    assert different <= 3  # torch's own square root and quotient are not always rounded correctly
    assert gap(runs[0], runs[1]) < 0.02


@every_rule
def test_eager_is_the_kernel_to_rounding_in_single_precision(monkeypatch, kind):
    runs = [walked(kind, eager, monkeypatch, dtype=torch.float32, steps=3) for eager in (False, True)]
    assert gap(*runs) < (1e-2 if kind.__name__ == "SOAP" else 1e-4)


@pytest.mark.parametrize("kind", [kind for kind in CLASSES.values() if not kind.rule.matrix], ids=lambda k: k.__name__)
def test_complex_parameters(monkeypatch, kind):
    runs = [walked(kind, eager, monkeypatch, dtype=torch.complex64, steps=3) for eager in (False, True)]
    assert gap(*runs) < 1e-4


@pytest.mark.parametrize("kind", [kind for kind in CLASSES.values() if kind.rule.matrix], ids=lambda k: k.__name__)
def test_complex_matrices_are_refused(kind):
    with pytest.raises(ValueError, match="complex"):
        kind([torch.nn.Parameter(torch.ones(4, 3, dtype=torch.complex64))])


def test_blocks_are_stepped_one_by_one(monkeypatch):
    runs = [
        walked(CLASSES["Muon"], eager, monkeypatch, shapes=[(12, 5), (6, 4)], blocks=3, steps=4)
        for eager in (False, True)
    ]
    assert gap(*runs) < 1e-11


class Mine(torch.Tensor):
    """A tensor of a type that kernels know nothing of."""


@pytest.fixture
def unsaid():
    """As if no reason had been said yet."""
    support._say.cache_clear()
    support._reason.cache_clear()
    yield
    support._say.cache_clear()
    support._reason.cache_clear()


def test_each_reason_is_said_once(unsaid):
    def step():
        p = torch.nn.Parameter(torch.ones(4).as_subclass(Mine))
        p.grad = torch.ones(4).as_subclass(Mine)
        CLASSES["SGD"]([p], lr=0.5).step()
        return p

    with pytest.warns(
        UserWarning, match="no fast kernel for parameters of type Mine; the same formula runs by"
    ) as said:
        p = step()
    assert len(said) == 1
    assert (p.detach().as_subclass(torch.Tensor) == 0.5).all()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        step()


def test_without_llvmlite_everything_is_eager(unsaid, monkeypatch):
    import sys

    support._missing_compiler.cache_clear()
    monkeypatch.setitem(sys.modules, "llvmlite", None)
    p = torch.nn.Parameter(torch.ones(4))
    p.grad = torch.ones(4)
    with pytest.warns(UserWarning, match="a machine without llvmlite"):
        CLASSES["SGD"]([p], lr=0.5).step()
    assert (p == 0.5).all()
    support._missing_compiler.cache_clear()


@pytest.mark.parametrize(
    ("dtype", "said"),
    [(torch.float32, ""), (torch.complex128, ""), (torch.float16, ""), (torch.float8_e5m2, "torch.float8_e5m2")],
    ids=str,
)
def test_reasons(unsaid, dtype, said):
    with warnings.catch_warnings(record=True):
        warnings.simplefilter("always")
        reason = support.unsupported(torch.zeros(3, dtype=dtype))
    assert (said in reason) if said else not reason


def test_the_gap_sees_a_difference():
    a = {"parameters": [torch.ones(3)]}
    assert gap(a, {"parameters": [torch.tensor([1.0, 1.0, 1.1])]}) > 0.01
    with pytest.raises(AssertionError):
        gap(a, {"parameters": [torch.tensor([1.0, 1.0, np.nan])]})
