"""A run that is asked to end does so after the step it is in, saved, and goes on later as if it had not."""

import os
import random
import signal

import pytest
import torch
from reliability import term

import steepest as st


@pytest.fixture
def sender(nursery, tmp_path):
    return lambda breach="": term.Sender(nursery, tmp_path, random.Random(), breach)


def test_four_signals(sender):
    tally = sender().send(4)
    assert tally.misses == []
    assert tally.in_order == tally.signals == 4
    assert max(tally.late.values()) <= 1
    assert tally.equal == tally.runs >= 1


def test_a_run_that_does_not_listen_is_found(sender):
    tally = sender("ignore signals").send(2)
    assert tally.late["steps"] > 1


def test_a_run_that_is_not_saved_is_found(sender):
    tally = sender("leave unsaved").send(2)
    assert any("of" in miss and "saved" in miss for miss in tally.misses)


def evaluated(out, hit=None):
    """Train with three evaluations of four batches each, and get SIGTERM in one; return where val was evaluated."""
    torch.manual_seed(0)
    model, x, calls = torch.nn.Linear(4, 1), torch.randn(32, 4), iter(range(1, 100))

    def loss(model, batch):
        if not model.training and next(calls) == hit:
            os.kill(os.getpid(), signal.SIGTERM)
        return (model(batch[0]) ** 2).mean()

    result = st.fit(
        model, loss, (x, x[:, :1]), val=(x, x[:, :1]), steps=6, evaluate_every=2, batch_size=8, out=out, log=False,
        optimizer=st.optim.SGD(model.parameters(), lr=0.1),
    )  # fmt: skip
    return [row["step"] for row in result.history if "val/loss" in row], result.best and result.best.name


@pytest.mark.parametrize("hit", [2, 10], ids=["in the first evaluation", "in the last"])
def test_an_evaluation_that_was_broken_off_is_made_later(tmp_path, hit):
    evaluated(tmp_path / "left", hit)
    evaluated(tmp_path / "left")
    assert evaluated(tmp_path / "left") == evaluated(tmp_path / "whole")
