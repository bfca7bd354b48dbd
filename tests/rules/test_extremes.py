"""Gradients that are nothing, tiny, huge or broken, in float32."""

import numpy as np
import pytest

from steepest.rule import rule as declare
from steepest.rules import RULES

ELEMENTWISE = {name: rule for name, rule in RULES.items() if not rule.matrix}
every_rule = pytest.mark.parametrize("rule", ELEMENTWISE.values(), ids=ELEMENTWISE)
START = np.linspace(-1, 1, 8, dtype=np.float32).reshape(2, 4)
ZERO, TINY, HUGE = np.zeros_like(START), np.full_like(START, 1e-30), np.full_like(START, 1e18)
MIXED = np.array([[0, 1e-30, 1e-10, 1e-3], [-1, 1e5, -1e10, 1e18]], dtype=np.float32)


def walked(rule, *gradients, start=START, **options):
    with np.errstate(all="ignore"):
        *_, final = rule.walk(start, gradients, **options)
    assert final.dtype == np.float32
    return final


@every_rule
@pytest.mark.parametrize("gradient", [ZERO, TINY, HUGE, MIXED], ids=["zero", "tiny", "huge", "mixed"])
def test_parameters_stay_finite(rule, gradient):
    assert np.isfinite(walked(rule, *[gradient] * 4)).all()
    assert np.isfinite(walked(rule, gradient, ZERO, -gradient, gradient)).all()


@every_rule
def test_without_gradient_and_decay_nothing_moves(rule):
    still = {name: 0 for name in ("weight_decay", "lambd") if name in rule.options}
    np.testing.assert_array_equal(walked(rule, ZERO, ZERO, ZERO, **still), START)


@every_rule
def test_every_weight_moves(rule):
    moved = walked(rule, *[np.ones_like(START)] * 3, lr=0.1)
    assert (moved != START).all()


@every_rule
def test_weights_that_start_at_zero_move_and_stay_finite(rule):
    moved = walked(rule, *[np.ones_like(START)] * 3, start=ZERO)
    assert np.isfinite(moved).all()
    assert (moved != 0).all()


def shows_a_break(rule):
    """Whether a weight that once got NaN as its gradient is NaN two steps later."""
    broken = np.ones_like(START)
    broken[1, 2] = np.nan
    return np.isnan(walked(rule, broken, *[np.ones_like(START)] * 2)[1, 2])


@every_rule
def test_a_broken_gradient_is_not_hidden(rule):
    assert shows_a_break(rule)


def test_a_rule_that_hides_a_break_is_seen():
    @declare
    def hides(p, g, *, lr=0.1):
        return p - lr * np.nan_to_num(g)

    assert not shows_a_break(hides)
