"""The answer to a misspelt name."""

import difflib
import doctest
import re
from pathlib import Path

import pytest

import steepest
from steepest import spelling
from steepest.spelling import meant

KNOWN = ["adamw", "Lion", "schedule_free_sgd"]


@pytest.mark.parametrize(
    ("word", "name"),
    [
        ("adamww", "adamw"),
        ("ADAMW", "adamw"),
        ("lyon", "Lion"),
        ("ScheduleFreeSGDD", "schedule_free_sgd"),
    ],
)
def test_the_nearest_name_is_meant_whatever_its_capitals(word, name):
    assert meant(word, KNOWN) == f"did you mean {name!r}?"
    assert meant(word, reversed(KNOWN)) == f"did you mean {name!r}?"


def test_a_name_known_is_nearest_to_itself():
    assert meant("lr", ["lrr", "lr", "lrs"]) == "did you mean 'lr'?"


def test_of_names_alike_but_for_capitals_the_first_is_meant():
    assert meant("Sgd", ["SGD", "sgd"]) == "did you mean 'SGD'?"
    assert meant("Sgd", ["sgd", "SGD"]) == "did you mean 'sgd'?"


@pytest.mark.parametrize(
    ("known", "answer"),
    [
        ([], "there are none."),
        (["task"], "there is only task."),
        (KNOWN, "there are adamw, Lion, schedule_free_sgd."),
        (iter(KNOWN), "there are adamw, Lion, schedule_free_sgd."),
    ],
)
def test_a_word_far_from_any_is_answered_with_all(known, answer):
    assert meant("xyzzy", known) == answer


def test_a_list_is_short():
    names = [f"name{number}" for number in range(52)]
    assert meant("xyzzy", names[:50]) == f"there are {', '.join(names[:50])}."
    assert meant("xyzzy", names) == f"there are {', '.join(names[:50])} and 2 more."
    assert meant("nam51", names) == "did you mean 'name51'?"  # the search goes beyond the list


def own_search(folder: Path) -> set[str]:
    """The modules that look for the nearest name by themselves."""
    written = re.compile(rf"\b({difflib.__name__}|{difflib.get_close_matches.__name__}|did you mean)\b", re.IGNORECASE)
    return {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*.py")
        if written.search(path.read_text(encoding="utf-8"))
    }


def test_nearest_names_are_looked_for_in_one_place(tmp_path):
    assert own_search(Path(steepest.__path__[0])) == {"spelling.py"}
    (tmp_path / "again.py").write_text("from difflib import get_close_matches\n")
    (tmp_path / "by_hand.py").write_text('hint = f"Did you mean {name}?"\n')
    assert own_search(tmp_path) == {"again.py", "by_hand.py"}


def test_the_examples_are_true():
    found = doctest.testmod(spelling)
    assert found.attempted > 0
    assert found.failed == 0
