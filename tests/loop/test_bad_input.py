"""What a run cannot work with is refused in one sentence: what came, what was expected, what to do."""

import re

import pytest
import torch
from torch import nn

from steepest.loop import Run
from steepest.schedules import linear

BATCHES = [(torch.ones(4, 3), torch.ones(4, 1))]


def squared(model, batch):
    x, y = batch
    return nn.functional.mse_loss(model(x), y)


def make(**changes):
    model = nn.Linear(3, 1)
    settings = {
        "model": model, "loss": squared, "data": BATCHES,
        "optimizer": torch.optim.SGD(model.parameters(), lr=0.1), "steps": 3,
    }  # fmt: skip
    return Run(**(settings | changes))


REFUSED = {
    "no budget, schedule in parts of it": ({"steps": None, "schedule": linear()}, ValueError, "linear() is in parts"),
    "two budgets": ({"epochs": 2}, ValueError, "received steps=3 and epochs=2"),
    "no steps": ({"steps": 0}, ValueError, "steps is 1 or more; received 0."),
    "negative epochs": ({"steps": None, "epochs": -1}, ValueError, "epochs is 1 or more; received -1."),
    "half a step": ({"steps": 2.5}, TypeError, "steps is a whole number; received 2.5."),
    "steps is true": ({"steps": True}, TypeError, "steps is a whole number; received True."),
    "epochs of unknown length": (
        {"steps": None, "epochs": 1, "data": iter(BATCHES)}, ValueError, "so epochs= is no budget; give steps=",
    ),
    "model is a class": ({"model": nn.Linear}, TypeError, "received the class Linear. Make one: pass model()"),
    "model is a function": ({"model": print}, TypeError, "The model is a torch.nn.Module; received an object of type"),
    "loss is a module": ({"loss": nn.MSELoss()}, TypeError, "received an object of type MSELoss. Write for example"),
    "loss is none": ({"loss": None}, TypeError, "The loss is a function loss(model, batch)"),
    "optimizer is a class": (
        {"optimizer": torch.optim.AdamW}, TypeError, "AdamW(model.parameters(), lr=...)",
    ),
    "optimizer is a name": ({"optimizer": "adamw"}, TypeError, "received 'adamw'"),
    "schedule is a number": ({"schedule": 0.1}, TypeError, "The schedule is a function schedule(step, steps)"),
    "schedule returns none": ({"schedule": lambda step, steps: None}, TypeError, "a number; received None"),
    "clip": ({"clip": 0}, ValueError, "above 0, or None; received 0."),
    "seed": ({"seed": -1}, ValueError, "seed is a whole number, 0 or more, below 2**63; received -1."),
    "seed is a float": ({"seed": 1.0}, ValueError, "received 1.0"),
    "empty data": ({"data": []}, ValueError, "holds no batches"),
}  # fmt: skip


@pytest.mark.parametrize(("changes", "kind", "message"), REFUSED.values(), ids=REFUSED)
def test_a_run_is_refused_before_it_begins(changes, kind, message):
    with pytest.raises(kind, match=re.escape(message)):
        make(**changes)


LOSSES = {
    "number": (lambda model, batch: 1.5, TypeError, "The loss function returned 1.5; expected a scalar tensor"),
    "nothing": (lambda model, batch: None, TypeError, "The loss function returned None"),
    "many": (lambda model, batch: model(batch[0]), ValueError, "The loss has shape [4, 1]; expected one number."),
    "detached": (lambda model, batch: model(batch[0]).mean().detach(), ValueError, "The loss does not require a"),
    "dict": (lambda model, batch: {"cost": 1, "b": 2}, ValueError, "a dict without the key \"loss\": ['b', 'cost']"),
    "dict of numbers": (lambda model, batch: {"loss": 2}, TypeError, "The loss function returned 2"),
    "form of batch": (lambda model, batch: batch["x"], TypeError, "tuple indices must be integers"),
}


@pytest.mark.parametrize(("loss", "kind", "message"), LOSSES.values(), ids=LOSSES)
def test_a_loss_that_cannot_be_used_is_refused_with_step_and_batch(loss, kind, message):
    with pytest.raises(kind, match=re.escape(message)) as caught:
        list(make(loss=loss))
    assert caught.value.__notes__ == ["This was step 0, with the batch (float32[4, 3], float32[4, 1])."]


def test_a_generator_that_ends_too_early_says_how_many_batches_it_gave():
    run = make(data=iter(BATCHES * 2))
    with pytest.raises(ValueError, match=r"ended after 2 batches, but the run has 3 steps.*or steps=2\."):
        list(run)
    assert run.position.step == 2


def test_a_generator_that_was_used_up_before_says_so():
    with pytest.raises(ValueError, match="The data gave no batches"):
        list(make(data=iter([])))
