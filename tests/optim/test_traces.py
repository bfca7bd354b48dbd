"""A step whose scalars are worked out by recipe is the step that the formula writes down, to the bit."""

import math
from dataclasses import dataclass, replace

import pytest
import torch

from steepest.formula.recorded import Recipe, Record, is_pure
from steepest.optim import Optimizer
from steepest.optim.graph import Edits, Traces, trace
from steepest.rule import rule
from steepest.rules import RULES

EDITS = {
    "none": Edits(),
    "clip": Edits(clip=1.0),
    "skip": Edits(clip=math.inf),
    "all": Edits(clip=0.5, ema=0.9, maximize=True, cautious=True, rounding="kahan", low=True, measure=True),
}
SWITCHED = {
    "adagrad": {"lr_decay": 0.1, "initial_accumulator_value": 0.1}, "adamw": {"amsgrad": True},
    "ademamix": {"alpha_warmup": 9, "beta3_warmup": 9}, "asgd": {"t0": 1, "lambd": 0.1}, "radam": {"beta2": 0.5},
    "prodigy": {"use_bias_correction": True, "safeguard_warmup": True}, "soap": {"precondition_frequency": 3},
    "muon": {"nesterov": False, "adjust_lr_fn": "match_rms_adamw", "ns_coefficients": [3.0, -4.0, 2.0]},
}  # fmt: skip
"""Options by which scalars depend on the step in other ways than by default."""


@dataclass
class Counted:
    """A rule that counts how often its formula runs."""

    rule: object
    calls: int = 0

    def counting(self):
        def formula(*tensors, **numbers):
            self.calls += 1
            return self.rule.formula(*tensors, **numbers)

        formula.__module__ = "steepest.rules.counted"
        counting = replace(self.rule)
        object.__setattr__(counting, "formula", formula)
        return counting


def rate(t):
    return 0.1 / (1 + 0.3 * t)


@pytest.mark.parametrize("edits", EDITS.values(), ids=EDITS)
@pytest.mark.parametrize("name", RULES)
def test_a_recipe_gives_what_the_formula_gives(name, edits):
    law_same_as_traced(RULES[name], edits, {})
    law_same_as_traced(RULES[name], edits, SWITCHED.get(name, {}))


def law_same_as_traced(one, edits, changed, steps=25):
    matrix = (6, 4) if one.matrix else None
    traces = Traces(one, matrix)
    for t in range(1, steps):
        hyper = {**one.options, "lr": rate(t), **changed}
        found, expected = traces.at(edits, t, hyper), trace(one, edits, matrix, t, hyper)
        assert found.program is expected.program, t
        assert list(map(repr, found.constants)) == list(map(repr, expected.constants)), t
    return traces


@pytest.mark.parametrize("name", RULES)
def test_the_formula_runs_for_each_kind_of_step_and_not_for_each_step(name):
    counted = Counted(RULES[name])
    one = counted.counting()
    traces = Traces(one, (6, 4) if one.matrix else None)
    for t in range(1, 101):
        traces.at(Edits(), t, {**one.options, "lr": rate(t)})
    assert counted.calls < 20


def test_what_changes_at_every_step_is_not_recorded():
    counted = Counted(RULES["adamw"])
    one = counted.counting()
    traces = Traces(one, None)
    for t in range(1, 101):
        traces.at(Edits(), t, {**one.options, "beta1": 0.9 + t / 10000})
    assert counted.calls == 100
    assert len(traces._recipes) < 10


@rule
def by_math(p, g, *, t, lr=0.1):
    return p - lr / math.sqrt(t) * g


@rule
def by_kind(p, g, *, t, lr=0.1):
    return p - (lr / t if isinstance(lr, float) else 0.0) * g


@rule
def by_table(p, g, *, t, lr=0.1):
    return p - {1: 0.5, 2: 0.25}.get(t, 0.1) * g


@rule
def by_text(p, g, *, t, lr=0.1):
    return p - (lr if str(t)[-1] in "13579" else lr / 2) * g


@rule
def by_whole_numbers(p, g, *, t, lr=0.1):
    return p - sum(lr / k for k in range(1, t + 1)) * g


@rule
def by_comparison(p, g, m, *, t, lr=0.1):
    m = g if t <= 3 else m + g
    return p - min(lr, 1 / t) * (-abs(-m) if t % 5 and lr > 0.05 else m), m


@pytest.mark.parametrize("one", [by_math, by_kind, by_table, by_text, by_whole_numbers, by_comparison])
def test_whatever_a_formula_does_with_its_numbers_it_is_what_it_does(one):
    law_same_as_traced(one, Edits(), {})


scale = 1.0


@rule
def by_the_world(p, g, *, lr=0.1):
    return p - lr * scale * g


def test_a_formula_that_looks_around_runs_at_every_step(monkeypatch):
    p = torch.nn.Parameter(torch.zeros(1))
    optimizer = Optimizer([p], by_the_world, lr=1.0)
    for step in range(6):
        monkeypatch.setitem(globals(), "scale", 10.0**step)
        p.grad = torch.ones(1)
        optimizer.step()
    assert p.item() == -111111.0


def test_purity_is_told_by_names():
    def closes(p, g, *, lr=0.1):
        return p - lr * scaled * g

    scaled = 2.0
    assert not is_pure(closes)
    assert not is_pure(by_the_world.formula)
    assert not is_pure(lambda p, g, *, lr=0.1: input(p) or p)
    assert is_pure(by_math.formula)
    assert all(is_pure(one.formula) for one in RULES.values())


def test_a_recipe_refuses_where_a_comparison_comes_out_otherwise():
    record = Record(3.0, 2.0)
    a, b = record.inputs
    result = (a - b) / b if a > b else b
    recipe = Recipe(record, [result, 7.0, -a, abs(b) ** 2, 2 // a, 5 % b])
    assert recipe(3.0, 2.0) == [0.5, 7.0, -3.0, 4.0, 0.0, 1.0]
    assert recipe(8.0, 4.0) == [1.0, 7.0, -8.0, 16.0, 0.0, 1.0]
    assert recipe(1.0, 2.0) is None
    assert recipe(1.0, 0.0) is None
    assert not record.escaped


LOOKS = {
    "float": float, "int": int, "str": str, "hash": hash, "sqrt": math.sqrt, "round": round,
    "format": lambda x: f"{x:.3f}", "method": lambda x: x.is_integer(),
}  # fmt: skip


@pytest.mark.parametrize("look", LOOKS.values(), ids=LOOKS)
def test_a_number_that_is_looked_at_has_escaped(look):
    record = Record(3.0)
    assert look(record.inputs[0]) == look(3.0)
    assert record.escaped
