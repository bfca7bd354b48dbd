"""A rule by its name: one way to look it up, and one answer to a name that is none."""

import doctest

import pytest
import torch

from steepest import groups, optim, rules
from steepest.cli.rule_pages import show_rules
from steepest.rule import class_name, rule
from steepest.rules import RULES, find


@pytest.mark.parametrize("name", RULES)
def test_every_rule_is_found_by_itself_its_name_and_its_class(name):
    spelled = class_name(name)
    for given in (RULES[name], name, spelled, spelled.lower(), spelled.upper()):
        assert find(given) is RULES[name]


def test_a_rule_of_ones_own_is_found_by_itself_alone():
    @rule
    def adamw(p, g, *, lr=0.1):
        return p - lr * g

    assert find(adamw) is adamw
    assert find("adamw") is RULES["adamw"]


def hidden(names) -> list[str]:
    """The rules that the package has under their name as something else."""
    return [name for name in names if getattr(rules, name) is not RULES.get(name)]


def test_no_rule_is_hidden_by_what_the_package_defines():
    assert not hidden(RULES)
    assert hidden(["adamw", "find"]) == ["find"]


def shared(names) -> set[str]:
    """The spellings that are of more than one rule."""
    spellings = [spelling for name in names for spelling in {name, class_name(name).lower()}]
    return {spelling for spelling in spellings if spellings.count(spelling) > 1}


def test_no_two_rules_share_a_spelling():
    assert not shared(RULES)
    assert shared([*RULES, "adam_w"]) == {"adamw"}


UNKNOWN = {
    "adamww": "There is no rule 'adamww'; did you mean 'adamw'?",
    "ScheduleFreeSGDD": "There is no rule 'ScheduleFreeSGDD'; did you mean 'schedule_free_sgd'?",
    "xyzzy": f"There is no rule 'xyzzy'; there are {', '.join(RULES)}.",
    "": f"There is no rule ''; there are {', '.join(RULES)}.",
}
WEIGHT = torch.nn.Parameter(torch.ones(3, 3))
PLACES = {
    "find": find,
    "groups": lambda name: groups([("weight", WEIGHT)], name, name),
    "an optimizer": lambda name: optim.Optimizer([WEIGHT], name),
    "a group of an optimizer": lambda name: optim.AdamW([{"params": [WEIGHT], "rule": name}]),
    "the command line": show_rules,
}


@pytest.mark.parametrize("name", UNKNOWN)
@pytest.mark.parametrize("place", PLACES)
def test_an_unknown_name_gets_the_same_answer_everywhere(place, name):
    with pytest.raises(ValueError) as error:  # noqa: PT011
        PLACES[place](name)
    assert str(error.value) == UNKNOWN[name]


@pytest.mark.parametrize("place", PLACES)
def test_the_name_of_the_class_will_do_everywhere(place):
    PLACES[place]("AdamW")


def test_an_attribute_that_is_no_rule_gets_the_same_answer():
    with pytest.raises(AttributeError) as error:
        rules.adamww  # noqa: B018
    assert str(error.value) == UNKNOWN["adamww"]
    assert not hasattr(rules, "xyzzy")


@pytest.mark.parametrize("given", [None, 3, b"adamw", ["adamw"], optim.AdamW, lambda p, g, *, lr=0.1: p - lr * g])
def test_what_is_neither_a_rule_nor_a_name_is_refused(given):
    with pytest.raises(TypeError) as error:
        find(given)
    assert str(error.value) == f"rule={given!r} must be a rule or the name of one, such as 'adamw'."


def test_the_examples_are_true():
    found = doctest.testmod(rules)
    assert found.attempted > 0
    assert found.failed == 0
