"""Evaluation: a mean over samples that leaves no trace in training."""

import copy
import random

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from steepest.data import open_source
from steepest.loop import Run
from steepest.loop.evaluate import evaluate
from steepest.snapshot import random_state


def mean(model, batch):
    return model(batch).mean()


def a_run(model, loss=mean):
    return Run(model, loss, [torch.ones(1, 2)], optimizer=torch.optim.SGD(model.parameters(), lr=0.1), steps=1)


def look(run, data, metrics=None, interrupted=lambda: False):
    return evaluate(run, open_source(data, 4, None), metrics or {}, interrupted)


def test_every_sample_weighs_the_same_also_in_a_short_last_batch():
    model = nn.Linear(2, 1)
    samples = torch.randn(9, 2)
    scores = look(a_run(model), samples, {"largest": lambda model, batch: batch.sum(1).mean()})
    assert scores["loss"] == pytest.approx(model(samples).mean().item(), rel=1e-5)
    assert scores["largest"] == pytest.approx(samples.sum(1).mean().item(), rel=1e-5)


def test_a_mean_of_batch_means_would_be_another_number():
    model, samples = nn.Linear(2, 1), torch.randn(9, 2)
    of_means = sum(model(part).mean().item() for part in samples.split(4)) / 3
    assert look(a_run(model), samples)["loss"] != pytest.approx(of_means, rel=1e-3)


def test_what_the_loss_returns_beside_the_loss_is_averaged_too():
    run = a_run(nn.Linear(2, 1), lambda model, batch: {"loss": mean(model, batch), "rows": len(batch)})
    assert look(run, torch.randn(6, 2))["rows"] == pytest.approx((4 * 4 + 2 * 2) / 6)


def test_modes_gradients_weights_and_random_numbers_are_left_as_they_were():
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Dropout(0.5))
    model[1].eval()
    run = a_run(model)
    before, state = copy.deepcopy(model.state_dict()), random_state()
    seen = []

    def noisy(model, batch):
        seen.append([module.training for module in model.modules()])
        random.random(), np.random.rand(), torch.rand(1)
        return mean(model, batch)

    look(run, DataLoader(torch.randn(8, 2), 4, shuffle=True), {"noisy": noisy})
    assert seen == [[False] * 4] * 2
    assert [module.training for module in model.modules()] == [True, True, False, True]
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert str(random_state()) == str(state)


def test_modes_are_restored_after_an_error_which_says_where_it_was():
    model = nn.Linear(2, 1)
    with pytest.raises(ZeroDivisionError) as caught:
        look(a_run(model), torch.randn(5, 2), {"accuracy": lambda model, batch: 1 / 0})
    assert caught.value.__notes__ == ["This was the evaluation of 'accuracy' on val, with the batch float32[4, 2]."]
    assert model.training


def test_an_interrupted_evaluation_has_no_result():
    answers = iter([False, True])
    assert look(a_run(nn.Linear(2, 1)), torch.randn(9, 2), interrupted=lambda: next(answers)) is None


def test_an_iterator_that_was_read_before_is_refused():
    source = open_source(iter([torch.ones(1, 2)]), 4, None)
    run = a_run(nn.Linear(2, 1))
    evaluate(run, source, {}, lambda: False)
    with pytest.raises(ValueError, match="val gave no batches"):
        evaluate(run, source, {}, lambda: False)


def test_the_mean_of_weights_that_an_optimizer_keeps_is_evaluated():
    from steepest.optim import AdamW

    model = nn.Linear(2, 1)
    optimizer = AdamW(model.parameters(), lr=0.1, ema=0.9)
    run = Run(model, mean, [torch.ones(1, 2)], optimizer=optimizer, steps=5)
    list(run)
    samples = torch.ones(3, 2)
    raw = model(samples).mean().item()
    averaged = look(run, samples)["loss"]
    assert averaged != pytest.approx(raw, rel=1e-3)
    assert model(samples).mean().item() == raw
