"""Gradients that are nothing, tiny, huge or broken, in float32."""

import numpy as np
import pytest

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


@every_rule
@pytest.mark.parametrize("broken", [np.nan, np.inf])
def test_a_broken_gradient_is_not_hidden(rule, broken):
    gradient = np.ones_like(START)
    gradient[1, 2] = broken
    final = walked(rule, gradient, *[np.ones_like(START)] * 2)
    if np.isnan(broken):
        assert np.isnan(final[1, 2])
    else:
        assert not np.isinf(final[0]).any()


def test_a_hidden_break_would_be_seen():
    def hides(p, g, *, lr=0.1):
        return p - lr * np.nan_to_num(g)

    hidden = type(RULES["sgd"])(hides)
    with pytest.raises(AssertionError):
        test_a_broken_gradient_is_not_hidden.__wrapped__(hidden, np.nan) if hasattr(
            test_a_broken_gradient_is_not_hidden, "__wrapped__"
        ) else test_a_broken_gradient_is_not_hidden(hidden, np.nan)
