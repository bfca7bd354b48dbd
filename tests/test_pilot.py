"""The pilot's fixed choice: Muon for hidden matrices, AdamW for the rest, up and then down in a line."""

import pytest
import torch
from torch import nn

from steepest.fit import fit
from steepest.pilot import choose


def network():
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 1))


def loss(model, batch):
    x, y = batch
    return nn.functional.mse_loss(model(x), y)


def test_every_parameter_has_the_rule_that_fits_it():
    model = network()
    optimizer = choose(model).optimizer
    rules = {id(p): group["rule"] for group in optimizer.param_groups for p in group["params"]}
    given = {name: rules[id(parameter)] for name, parameter in model.named_parameters()}
    assert given == {
        "0.weight": "muon", "0.bias": "adamw", "2.weight": "muon", "2.bias": "adamw", "4.weight": "adamw",
        "4.bias": "adamw",
    }  # fmt: skip
    assert all(group["lr"] == 0.01 for group in optimizer.param_groups)


def test_the_rate_rises_and_falls_to_nothing():
    schedule = choose(network()).schedule
    rates = [schedule(step, 100) for step in range(100)]
    assert rates.index(max(rates)) == 4
    assert rates[0] == pytest.approx(0.2)
    assert 0 < rates[-1] <= 0.011
    assert rates[4:] == sorted(rates[4:], reverse=True)


def test_the_plan_says_what_was_decided_and_why():
    lines = str(choose(network()).plan).splitlines()
    assert lines[0] == "rule      muon for 2 tensors, adamw for 4 tensors"
    assert len(lines) == 6
    assert lines[4] == "schedule  warmup(0.05) * linear()"


def test_a_model_without_trainable_parameters_is_refused():
    for model in (nn.ReLU(), network().requires_grad_(False)):
        with pytest.raises(ValueError, match="has no parameter that requires a gradient"):
            choose(model)


def test_fit_without_an_optimizer_learns_and_keeps_the_plan():
    x = torch.randn(256, 4)
    result = fit(network(), loss, (x, x.sum(1, keepdim=True).tanh()), epochs=25, log=False)
    assert result.last("train/loss") < result.history[0]["train/loss"] / 10
    assert result.plan is not None
    assert result.plan.decisions[0].what == "rule"


def test_a_gradient_that_is_not_finite_moves_nothing_and_is_counted():
    def rooted(model, batch):
        return loss(model, batch) + (model(batch[0]) * 0).sum().sqrt()  # finite, with an infinite slope

    model = network()
    before = [parameter.clone() for parameter in model.parameters()]
    data = torch.randn(8, 4), torch.randn(8, 1)
    result = fit(model, rooted, data, steps=3, log=False)
    assert result.skipped == 3
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
