"""Every law catches the breach planted for it, and a sound optimizer keeps them all."""

import pytest

from steepest.testing import LAWS, Law, Subject, check
from steepest.testing.judge import Verdict

from .breaches import BREACHES
from .clean import Clean, formula


def broken(verdicts: list[Verdict]) -> dict[str, str]:
    return {verdict.law.name: verdict.why for verdict in verdicts if verdict.outcome == "broken"}


@pytest.mark.parametrize("options", [{}, {"momentum": 0.5, "nesterov": True}, {"weight_decay": 0.1}], ids=str)
def test_a_sound_optimizer_keeps_every_law(options):
    verdicts = check(Subject(Clean, reference=formula, **options))
    assert {verdict.law.name: verdict.why for verdict in verdicts if verdict.outcome != "kept"} == {}
    assert [verdict.law for verdict in verdicts] == list(LAWS)


def test_every_law_has_a_breach_and_a_sentence():
    assert sorted(BREACHES) == sorted(law.name for law in LAWS)
    assert all(law.says.endswith(".") and len(law.says) > 20 for law in LAWS)


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.name)
def test_every_law_catches_its_breach_and_no_other_law_does(law: Law):
    found = broken(check(BREACHES[law.name]))
    assert list(found) == [law.name]
    assert len(found[law.name]) > 20


def test_agreement_is_with_the_reference_if_there_is_one():
    def doubled(start, gradients, *, lr, **options):
        return formula(start, gradients, lr=2 * lr, **options)

    found = broken(check(Subject(Clean, reference=doubled)))
    assert {"agrees-in-float64", "agrees-in-float32", "agrees-in-bfloat16", "agrees-in-float16"} <= found.keys()


def test_an_option_that_acts_otherwise_than_the_reference_says_is_caught():
    def without_nesterov(start, gradients, *, nesterov, **options):
        return formula(start, gradients, nesterov=False, **options)

    found = broken(check(Subject(Clean, reference=without_nesterov)))
    assert list(found) == ["every-option-acts"]
    assert "nesterov=True against the reference" in found["every-option-acts"]
