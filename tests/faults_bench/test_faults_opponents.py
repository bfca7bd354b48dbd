"""The rules of other tools speak where they should, and are still where nothing is wrong for them."""

import math

import pytest
import torch
from faults.causes import CAUSES
from faults.doctors import OPPONENTS, doctor
from faults.overhead import once
from torch import nn


def said(name, losses=(), model=None, lr=0.1, steps=80):
    """What an opponent says of a run whose losses are given, or of a small model that is trained."""
    model = model or nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    watcher = doctor(name, 0)(model, optimizer, loss=None)
    for batch in watcher(losses or range(steps)):
        optimizer.zero_grad()
        loss = model(torch.ones(3, 4)).square().mean()
        if losses:
            loss = 0 * loss + batch
        loss.backward()
        optimizer.step()
    watcher.close()
    return [found.cause for found in watcher.findings]


FALLING = [2.0 * 0.98**step for step in range(120)]


@pytest.mark.parametrize("name", OPPONENTS)
def test_they_leave_nothing_behind(name):
    backward = torch.Tensor.backward
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))
    said(name, model=model, steps=5)
    assert torch.Tensor.backward is backward
    assert not any(module._forward_hooks for module in model.modules())


def test_guesses():
    assert said("lr_too_high") == ["D01"]
    (one,) = said("random_cause")
    assert one in CAUSES


def test_guards():
    flat = [1.0] * 130
    assert said("nan_plateau", FALLING) == said("spike", FALLING) == []
    assert said("nan_plateau", flat) == ["D02"]
    assert said("nan_plateau", [*FALLING[:20], math.nan]) == ["D01"]
    assert said("spike", [*FALLING[:20], 30.0, *FALLING[20:]]) == ["B12"]
    assert said("spike", [*FALLING[:20], math.inf]) == ["B01"]


@pytest.mark.parametrize("name", ["smdebug", "mortem"])
def test_rules(name):
    dead = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))
    nn.init.constant_(dead[0].bias, -50.0)
    assert "C05" in said(name, model=dead)
    full = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
    nn.init.constant_(full[0].bias, 50.0)
    assert "C06" in said(name, model=full)
    assert "D03" in said(name, lr=1e-12)


def test_the_cost_is_measured():
    cost = once("smdebug", 8, 5)
    assert 0 < cost.step < cost.whole
