"""Every optimizer keeps the public laws, or its rule says which one it breaks and why."""

import pytest

from steepest.optim import CLASSES
from steepest.testing import LAWS, Subject, check


@pytest.mark.parametrize("kind", CLASSES.values(), ids=CLASSES)
def test_it_keeps_the_laws(kind):
    verdicts = check(Subject(kind, breaks=kind.rule.breaks))
    assert len(verdicts) == len(LAWS)
    assert [f"{verdict.law.name}: {verdict.outcome}, {verdict.why}" for verdict in verdicts if not verdict.good] == []
    assert sum(verdict.outcome == "not applicable" for verdict in verdicts) <= 4


@pytest.mark.parametrize(
    "kind", [kind for kind in CLASSES.values() if kind.rule.breaks], ids=lambda kind: kind.__name__
)
def test_a_reason_is_a_sentence(kind):
    assert all(len(reason.split()) > 4 for reason in kind.rule.breaks.values())
