"""Every rule gives the numbers of an implementation that somebody else wrote."""

import numpy as np
import pytest
from cases import CASES, RECORDINGS
from witness import agreement, ours, problem

from steepest.formula import dot, everywhere, maximum, sign, sqrt
from steepest.rule import rule
from steepest.rules import RULES

TOLERANCE = 1e-10
ELEMENTWISE = {name: rule for name, rule in RULES.items() if not rule.matrix}
every_rule = pytest.mark.parametrize("rule", ELEMENTWISE.values(), ids=ELEMENTWISE)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_fifty_steps_in_float64(case):
    gap, motion = agreement(case)
    assert gap <= TOLERANCE
    assert motion > 1e-3, "too short a way to tell rules apart"


@pytest.mark.parametrize("recording", RECORDINGS, ids=str)
def test_recorded_run(recording):
    starts, gradients = problem(steps=25)
    *_, final = ours(RULES[recording.rule], starts, gradients, recording.options)
    mine = np.concatenate([tensor.ravel() for tensor in final])
    np.testing.assert_allclose(mine, recording.final, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_every_rule_names_a_witness(rule):
    assert rule.paper
    assert rule.same_as or rule.worked, f"{rule} needs same_as= or worked="


@every_rule
def test_the_witness_it_names_is_heard(rule):
    heard = [case.name for case in CASES if case.rule == rule.name]
    heard += [recording.source for recording in RECORDINGS if recording.rule == rule.name]
    named = rule.same_as.partition("(")[0].rpartition(".")[2].lower()
    assert any(named in name.lower() for name in heard), f"{rule.same_as} is named, and compared with: {heard}"


@every_rule
def test_every_option_is_compared_away_from_its_default(rule):
    runs = [case for case in CASES if case.rule == rule.name]
    runs += [recording for recording in RECORDINGS if recording.rule == rule.name]
    changed = {name for run in runs for name, value in run.options.items() if value != rule.options[name]}
    if any(case.rates for case in CASES if case.rule == rule.name):
        changed.add("lr")
    assert set(rule.options) <= changed, f"never compared: {set(rule.options) - changed}"


@rule
def lion_with_a_wrong_sign(p, g, m, *, lr=1e-4, beta1=0.9, beta2=0.99, weight_decay=0.01):
    c = beta1 * m - (1 - beta1) * g
    m = beta2 * m + (1 - beta2) * g
    return p - lr * (sign(c) + weight_decay * p), m


@rule
def lion_that_updates_first(p, g, m, *, lr=1e-4, beta1=0.9, beta2=0.99, weight_decay=0.01):
    m = beta2 * m + (1 - beta2) * g
    return p - lr * (sign(beta1 * m + (1 - beta1) * g) + weight_decay * p), m


@rule
def adam_with_eps_in_the_root(p, g, m, v, *, t, lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-8):
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g * g
    return p - lr * m / (1 - beta1**t) / sqrt(v / (1 - beta2**t) + eps), m, v


@rule
def adan_that_weighs_change_by_the_rest(p, g, m, v, n, prev, *, t, lr=1e-3, b1=0.98, b2=0.92, b3=0.99, eps=1e-8):
    change = g - (g if t == 1 else prev)
    m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * change
    n = b3 * n + (1 - b3) * (g + (1 - b2) * change) ** 2
    direction = m / (1 - b1**t) + (1 - b2) * v / (1 - b2**t)
    return p - lr * direction / (sqrt(n / (1 - b3**t)) + eps), m, v, n, g


@rule
def prodigy_that_forgets_lr(p, g, m, v, s, p0, d: "shared", r: "shared", *, t, lr=1.0, d0=1e-6):
    p0 = p if t == 1 else p0
    d = maximum(d, d0)
    m, v = 0.9 * m + 0.1 * d * g, 0.999 * v + 0.001 * d * d * g * g
    s = 0.999**0.5 * s + d / d0 * d * g
    r = 0.999**0.5 * r + everywhere(d / d0 * d * dot(g, p0 - p))
    d = maximum(d, r / everywhere(dot(sign(s), s)))
    return p - lr * d0 * m / (sqrt(v) + d * 1e-8), m, v, s, p0, d, r


@pytest.mark.parametrize(
    "misreading",
    [
        lion_with_a_wrong_sign,
        lion_that_updates_first,
        adam_with_eps_in_the_root,
        adan_that_weighs_change_by_the_rest,
        prodigy_that_forgets_lr,
    ],
    ids=lambda misreading: misreading.name,
)
def test_a_planted_misreading_is_caught(misreading):
    original = misreading.name.partition("_")[0]
    case = next(case for case in CASES if case.rule == original and set(case.options) <= set(misreading.options))
    assert agreement(case).gap <= TOLERANCE
    assert agreement(case, misreading).gap > 10 * TOLERANCE
