"""A run that is killed at random moments goes on by itself, and ends as if it had not been."""

import random
import re

import pytest
from reliability import kill


@pytest.fixture
def killer(nursery, tmp_path, monkeypatch):
    """Makes what kills runs; all lives are forked, for that is quick."""
    monkeypatch.setattr(kill, "FRESH", 0.0)
    return lambda breach="": kill.Killer(nursery, tmp_path, random.Random(), breach)


def test_killed_eight_times(killer):
    tally = killer().kill(8)
    assert tally.misses == []
    assert tally.equal == tally.runs >= 1
    assert tally.resumed + tally.anew >= 3


@pytest.mark.parametrize(
    ("breach", "miss"),
    [
        ("write in place", "a checkpoint was damaged|went on from step"),
        ("forget random state", "ended with another .*weights in the program"),
        ("forget moments", "ended with another .*optimizer"),
    ],
)
def test_a_planted_fault_is_found(killer, breach, miss):
    broken = killer(breach)
    for kills in range(4, 41, 4):
        tally = broken.kill(kills)
        if tally.misses:
            break
    assert any(re.search(miss, each) for each in tally.misses)
