"""A run that is asked to end does so after the step it is in, saved, and goes on later as if it had not."""

import random

import pytest
from reliability import term


@pytest.fixture
def sender(nursery, tmp_path):
    return lambda breach="": term.Sender(nursery, tmp_path, random.Random(), breach)


def test_six_signals(sender):
    tally = sender().send(6)
    assert tally.misses == []
    assert tally.in_order == tally.signals == 6
    assert max(tally.late.values()) <= 1
    assert tally.equal == tally.runs >= 1


def test_a_run_that_does_not_listen_is_found(sender):
    tally = sender("ignore signals").send(2)
    assert tally.late["steps"] > 1


def test_a_run_that_is_not_saved_is_found(sender):
    tally = sender("leave unsaved").send(2)
    assert any("of" in miss and "saved" in miss for miss in tally.misses)
