"""The worked example of a rule: from p = 1, default settings, these gradients give these parameters."""

import pytest

from steepest.rules import RULES

WORKED = {name: rule for name, rule in RULES.items() if rule.worked}


@pytest.mark.parametrize("rule", WORKED.values(), ids=WORKED)
def test_worked_example(rule):
    gradients, expected = rule.worked
    assert len(gradients) == len(expected)
    assert [float(p) for p in rule.walk(1.0, gradients)] == pytest.approx(expected, rel=0, abs=1e-11)


@pytest.mark.parametrize("rule", WORKED.values(), ids=WORKED)
def test_worked_example_would_see_other_gradients(rule):
    gradients, expected = rule.worked
    turned = [-gradient for gradient in gradients]
    assert [float(p) for p in rule.walk(1.0, turned)] != pytest.approx(expected, rel=0, abs=1e-6)
