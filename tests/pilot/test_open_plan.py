"""A run by the pilot without a budget: how it is planned, and what is watched in it."""

import importlib
import math
import os
import signal

import pytest
import torch
from torch import nn

from steepest.fit import fit
from steepest.loop.average import Average
from steepest.loop.guard import Guard
from steepest.pilot import build, measure, plan
from steepest.pilot.repeats import Repeats


def mse(model, batch):
    return nn.functional.mse_loss(model(batch[0]), batch[1])


def network(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(5, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 1))


def batches(noise=0.0, count=10**9):
    """Yield batches of a function to learn, never the same."""
    draw = torch.Generator().manual_seed(1)
    for _ in range(count):
        x = torch.randn(16, 5, generator=draw)
        yield x, (x[:, :1] * x[:, 1:2]).sin() + noise * torch.randn(16, 1, generator=draw)


def ended(step, *, at_once=False):
    """A loss at whose update `step` the run is told to end."""
    seen = 0

    def loss(model, batch):
        nonlocal seen
        seen += model.training and torch.is_grad_enabled()
        if seen == step and torch.is_grad_enabled():
            for _ in range(1 + at_once):
                os.kill(os.getpid(), signal.SIGINT)
        return mse(model, batch)

    return loss


def opened(loss, data=None, model=None, **more):
    """Train without a budget by a plan that is made before."""
    made = plan(model or network(), mse, [*batches(count=4)])
    return fit(model or network(), loss, data or batches(), plan=made, **{"log": False, **more})


def test_a_plan_without_a_budget_says_how_the_run_will_end():
    made = plan(network(), mse, [*batches(count=4)])
    words = str(made)
    assert "schedule  warmup(50)\n" in words
    assert "it is not known how long the run is: weights are averaged over the last tenth of the steps" in words
    assert "when it is told to end, the rate falls to zero over a tenth more of them" in words
    assert "one more whenever the steps have doubled, for the noise of the gradient" in words
    timed = plan(network(), mse, [*batches(count=4)], time="1m")
    assert timed.settings["schedule"] == "warmup(0.05) * linear()"
    assert timed == plan(network(), mse, [*batches(count=4)], time="2h")


def test_the_first_layer_is_measured_on_as_many_samples_as_in_a_long_run():
    short, long, without = (plan(network(), mse, batches(), steps).settings["inputs"] for steps in (60, 10**6, None))
    assert long == without != short


def test_a_plan_with_a_budget_and_one_without_are_not_taken_for_each_other():
    with pytest.raises(ValueError, match="made for a run without a budget, which this one is not; make it with steps="):
        fit(network(), mse, batches(), plan=plan(network(), mse, batches()), steps=100, log=False)
    with pytest.raises(ValueError, match="made for a run with a budget, which this one is not; make it without steps="):
        fit(network(), mse, batches(), plan=plan(network(), mse, batches(), 100), log=False)


def test_the_rate_stays_and_falls():
    result = opened(ended(70))
    told = {row["step"]: row["lr"] / 0.01 for row in result.history if "lr" in row}
    assert result.steps == 90
    assert told == pytest.approx({step: min(1.0, (step + 1) / 50, (90 - step) / 20) for step in told})
    assert len(told) > 70


def test_the_mean_is_better_than_the_weights_where_the_rate_stays(monkeypatch):
    """Planted: without the mean the same run ends higher, for the noise of its last steps."""

    def final(mean):
        with monkeypatch.context() as change:
            if not mean:
                change.setattr(Average, "update", lambda self, step, left: None)
            model = opened(ended(600, at_once=True), batches(noise=0.5)).model
        return math.fsum(mse(model, batch).item() for batch in batches(count=50)) / 50

    assert final(mean=True) < 0.85 * final(mean=False)


def test_samples_that_come_again_are_taken_to_do_so_many_times():
    def decays(done, step):
        repeats, choice = Repeats(), build(network(), measure(network(), mse, [*batches(count=4)], 10**6))
        repeats.samples = 100
        said = choice.come_again(repeats, done, step)
        return [group["weight_decay"] for group in choice.optimizer.param_groups], said

    for step in (25, 200):
        of_many, _ = decays(1e-9, step)
        without, said = decays(0.0, step)
        assert without == pytest.approx(of_many)
        assert said.startswith("samples come again, for as long as this run goes on: weights decay by")
    assert decays(0.0, 25)[0] != pytest.approx(decays(0.5, 25)[0])


def test_what_comes_again_is_noticed(capsys):
    opened(ended(100), [*batches(count=4)], log=True)
    assert "samples come again, for as long as this run goes on" in capsys.readouterr().out


def test_the_noise_is_read_whenever_the_steps_have_doubled(monkeypatch):
    places, company = [], importlib.import_module("steepest.pilot.company")
    read = company.Company._read

    def noted(self):
        places.append(self.run.position.step)
        read(self)

    monkeypatch.setattr(company.Company, "_read", noted)
    result = opened(ended(1600, at_once=True))
    assert [round(place, -2) for place in places] == [500, 1500]
    assert result.noise_scale is not None


def test_the_mean_begins_anew_when_the_run_goes_back_to_good_weights(monkeypatch):
    """Planted: a mean that goes on is full of the weights that had blown up."""
    seen = 0

    def hit(model, batch):
        nonlocal seen
        seen += model.training and torch.is_grad_enabled()
        if seen == 120:
            seen += 1
            with torch.no_grad():
                for weight in model.parameters():
                    weight.mul_(30).abs_()
        if seen == 180:
            seen += 1
            for _ in range(2):
                os.kill(os.getpid(), signal.SIGINT)
        return mse(model, batch)

    def final(breach=False):
        nonlocal seen
        seen, back = 0, []
        with monkeypatch.context() as change:
            go_back = Guard._go_back
            change.setattr(Guard, "_go_back", lambda guard, *more: (back.append(1), go_back(guard, *more)))
            if breach:
                change.setattr(Average, "begin_anew", lambda self: None)
            model = opened(hit).model
        assert back
        return math.fsum(mse(model, batch).item() for batch in batches(count=20)) / 20

    assert final() < 1 < final(breach=True)
