"""Verdicts: excuses, what cannot be tried, and that trying disturbs nothing."""

import random

import pytest
import torch

from steepest.testing import LAWS, Broken, Law, NotApplicable, Subject, check, reproduce

from .breaches_use import Climbs, SwallowsKeywords
from .clean import Clean


def test_a_declared_breach_is_excused_with_its_reason():
    (verdict,) = check(Subject(Climbs, breaks={"descends": "it is meant to climb"}), ["descends"])
    assert verdict.outcome == "excused"
    assert verdict.good
    assert verdict.why.startswith("it is meant to climb (the loss goes from")


def test_a_declared_breach_that_does_not_break_is_reported():
    (verdict,) = check(Subject(Clean, breaks={"descends": "it is meant to climb"}), ["descends"])
    assert verdict.outcome == "excuse not needed"
    assert not verdict.good
    assert "remove the declaration" in verdict.why


def test_a_declared_breach_of_no_law_raises():
    with pytest.raises(ValueError, match="no law named 'decends'; did you mean 'descends'"):
        check(Subject(Clean, breaks={"decends": "why"}), ["hooks-fire"])


def test_a_law_can_be_given_by_name_or_as_it_is():
    law = LAWS[3]
    assert [verdict.law for verdict in check(Clean, [law, law.name])] == [law, law]
    with pytest.raises(ValueError, match="did you mean 'hooks-fire'"):
        check(Clean, ["hook-fire"])


def test_options_belong_to_the_subject():
    assert check(Clean, ["hooks-fire"], lr=0.2)[0].outcome == "kept"
    with pytest.raises(TypeError, match="given beside it: lr"):
        check(Subject(Clean), ["hooks-fire"], lr=0.2)


def test_an_optimizer_that_cannot_be_tried_raises_one_sentence():
    with pytest.raises(ValueError, match=r"Clean\(lr='fast'\) cannot be built .*give the options it needs"):
        check(Clean, lr="fast")
    with pytest.raises(ValueError, match="cannot step one float32 parameter"):
        check(torch.optim.SparseAdam)
    with pytest.raises(ValueError, match=r"not a torch\.optim\.Optimizer"):
        check(lambda parameters: parameters)
    with pytest.raises(TypeError, match="takes an optimizer class"):
        Subject(3)  # pyright: ignore[reportArgumentType]


def test_a_constructor_that_declines_makes_a_law_not_applicable():
    class OneGroup(Clean):
        def add_param_group(self, param_group):
            if self.param_groups:
                raise ValueError("one group only")
            super().add_param_group(param_group)

    verdicts = {v.law.name: v for v in check(OneGroup, ["groups-are-optimizers", "added-group-joins"])}
    assert verdicts["groups-are-optimizers"].outcome == "not applicable"
    assert "one group only" in verdicts["groups-are-optimizers"].why
    assert verdicts["added-group-joins"].outcome == "broken"  # it has accepted the rest of the run by then


def test_an_error_where_no_law_expects_one_is_a_breach():
    class NoStateDict(Clean):
        def state_dict(self):
            raise RuntimeError("not written yet")

    (verdict,) = check(NoStateDict, ["wrong-shape-is-refused"])
    assert verdict.outcome == "broken"
    assert verdict.why == "trying it raised RuntimeError: not written yet"


def test_an_error_in_the_step_says_where():
    class Raises(Clean):
        def move(self, p, direction, group):
            if p.dtype == torch.float16:
                raise RuntimeError("no such kernel\nsecond line")
            super().move(p, direction, group)

    (verdict,) = check(Raises, ["agrees-in-float16"])
    assert "step 1 on float16[0], float16[1], float16[7] and 12 more raised RuntimeError: no such kernel" in verdict.why
    assert "second line" not in verdict.why


def test_trying_leaves_the_random_generators_alone_and_gives_the_same_again():
    class Noisy(Clean):
        def move(self, p, direction, group):
            random.random()
            super().move(p, direction * (1 + 0.1 * torch.rand(())), group)

    torch.manual_seed(5)
    random.seed(5)
    before = torch.get_rng_state(), random.getstate()
    first = [(v.outcome, v.why) for v in check(Noisy)]
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]
    torch.manual_seed(6)
    assert [(v.outcome, v.why) for v in check(Noisy)] == first


def test_trying_leaves_global_switches_alone():
    check(Clean, ["skipped-step-leaves-no-trace"])
    assert not torch.are_deterministic_algorithms_enabled()
    assert torch.is_grad_enabled()
    with torch.no_grad():
        assert check(Clean, ["closure-is-called"])[0].outcome == "kept"
        assert not torch.is_grad_enabled()


def test_what_the_optimizer_prints_is_kept_quiet(capsys):
    class Talks(Clean):
        def __init__(self, params, lr=0.1):
            print("built")  # noqa: T201
            super().__init__(params, lr)

    check(Talks, ["hooks-fire"])
    assert capsys.readouterr().out == ""


def test_reproduce_raises_what_the_verdict_says():
    (verdict,) = check(SwallowsKeywords, ["unknown-keyword-is-refused"])
    with pytest.raises(Broken) as failure:
        reproduce(verdict.law.name, SwallowsKeywords)
    assert str(failure.value) == verdict.why
    with pytest.raises(NotApplicable, match="one path only"):
        reproduce("paths-agree", torch.optim.Muon)
    assert reproduce("hooks-fire", Clean) is None


def test_a_law_of_ones_own():
    def small(subject: Subject) -> None:
        if subject.rate > 1:
            raise Broken(f"lr is {subject.rate}")

    law = Law("rate-is-small", "The rate is at most 1.", small)
    assert [check(Clean, [law], lr=rate)[0].outcome for rate in (0.5, 2.0)] == ["kept", "broken"]
    assert check(torch.optim.SGD, [law], lr=torch.tensor(3.0))[0].why == "lr is 3.0"


def test_an_option_is_tried_with_the_words_that_the_constructor_names():
    class Words(Clean):
        def __init__(self, params, lr=0.1, mode="plain"):
            if mode not in ("plain", "double"):
                raise ValueError(f"mode={mode!r} is not known: it is 'plain' or 'double'")
            super().__init__(params, lr)
            self.defaults["mode"] = mode
            self.factor = 2 if mode == "double" else 1

        def move(self, p, direction, group):
            super().move(p, direction * self.factor, group)

    assert (lambda v: (v.outcome, v.why))(check(Words, ["every-option-acts"])[0]) == ("kept", "")
