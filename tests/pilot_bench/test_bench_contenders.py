"""Every contender does what its authors say, and spends its steps and no more."""

import dataclasses
from itertools import islice

import pytest
import schedulefree
import torch
from pilot import automatic, finders, harness, standardise
from pilot.contenders import AUTOMATIC
from pilot.job import Job
from pilot.run import kind_of
from pilot.workloads import every
from pilot.workloads.workload import squared
from torch import nn


def job_of(workload, **changed):
    torch.manual_seed(0)
    return Job(workload.build(0), workload.loss, workload.batches(0), workload.steps, 0, **changed)


@pytest.mark.parametrize("name", [*AUTOMATIC, "standardised_adamw_0.001"])
def test_each_step_is_charged(short, name):
    row = harness.run("short", name, 0)
    assert row["error"] == ""
    assert row["used"] == row["T"] == 24
    assert len(row["curve"]) == len(row["seconds"]) == harness.POINTS
    assert not row["diverged"]


def test_a_ramp_leaves_the_weights_as_they_were_and_is_counted(short):
    job = job_of(short)
    before = {name: value.clone() for name, value in job.model.state_dict().items()}
    losses = finders.ramp(job, [10.0**k for k in range(-6, 2)], counted=0)
    assert all(torch.equal(value, before[name]) for name, value in job.model.state_dict().items())
    assert job.told["spent"] == len(losses) <= 8
    row = harness.run("short", "lr_finder", 0)
    assert row["spent"] == 12  # half of the steps, where they are few
    assert 1e-7 <= row["rate"] <= 10


def test_a_ramp_ends_where_the_loss_is_four_times_its_lowest():
    model, seen = nn.Linear(1, 1), iter([1.0, 1.0, 1.0, 1000.0, 1.0])
    job = Job(model, lambda model, batch: model.weight.sum() * 0 + next(seen), iter([()] * 5), 10, 0)
    assert len(finders.ramp(job, [1e-9] * 5, counted=0)) == 4


def test_the_longest_valley():
    """Half-way along the middle third of what falls; a rise before it does not count."""
    falling = [1 - 0.01 * place for place in range(30)]
    assert finders.valley(falling) == 14
    assert finders.valley([1.0] * 10 + falling) == 24
    assert finders.valley([0.5, *falling[:10]]) == finders.valley(falling[:10]) + 1
    assert finders.valley([1.0, 1.0, 2.0]) == 0


def test_the_slope_of_lightning_is_by_the_rate():
    """By the logarithm, as fastai's steepest point is, the large fall at 0.1 would win."""
    rates = [1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1]
    losses = [1.0, 0.99, 0.98, 0.97, 0.96, 0.1]
    assert finders.steepest(rates, losses) == 1e-6


def test_one_cycle():
    factors = [finders.one_cycle(step, 100) for step in range(101)]
    assert factors[0] == pytest.approx(1 / 25)
    assert factors[25] == max(factors) == pytest.approx(1.0)
    assert factors[100] == pytest.approx(1e-5)


def test_schedule_free_is_judged_at_its_mean(short):
    """By hand: the optimizer is put into evaluation before the model is. Where it trains, losses are others."""
    meter = harness.Meter(short, short.build(0), 0)
    automatic.schedule_free(
        dataclasses.replace(job_of(short), model=meter.model, loss=meter.loss, batches=meter.batches())
    )
    model = short.build(0)
    optimizer = schedulefree.AdamWScheduleFree(model.parameters(), lr=0.0025, warmup_steps=1)
    at_mean, where_it_trains = [], []
    optimizer.train()
    for batch in islice(short.batches(0), 24):
        optimizer.zero_grad()
        short.loss(model, batch).backward()
        optimizer.step()
        where_it_trains.append(harness.validate(short, model))
        optimizer.eval()
        at_mean.append(harness.validate(short, model))
        optimizer.train()
    seen = [loss for _, loss in meter.curve]
    assert seen == pytest.approx(at_mean[1:-1:2], rel=1e-3)
    assert seen != pytest.approx(where_it_trains[1:-1:2], rel=1e-3)
    assert harness.validate(short, meter.model) == pytest.approx(at_mean[-1], rel=1e-3)


def test_batch_norms_are_measured_where_the_model_is_judged():
    model = nn.Sequential(nn.BatchNorm1d(2), nn.Linear(2, 1))
    batches = [(torch.randn(50, 2) + 3, torch.zeros(50, 1)) for _ in range(20)]
    automatic.measure_norms(Job(model, squared, iter([]), 1, 0), [model[0]], batches)
    mean = torch.cat([inputs for inputs, _ in batches]).mean(0)
    assert torch.allclose(model[0].running_mean, mean, atol=1e-4)
    assert model[0].momentum == 0.1


def test_prodigy_tells_its_rate(short):
    assert harness.run("short", "prodigy", 0)["rate"] > 1e-6


def test_what_can_be_standardised():
    for name in ("cancer_raw", "conv_digits", "gru_recall"):
        assert standardise.applies(every()[name])
    for name in ("gpt_stdlib", "pinn_forced", "graph_largest", "factors_zipf", "flow_ring", "finetune_digits"):
        assert not standardise.applies(every()[name])


def test_inputs_are_standardised_and_no_batch_is_lost():
    def batches(seed):
        draw = torch.Generator().manual_seed(seed)
        while True:
            yield 100 + 5 * torch.randn(64, 3, generator=draw) * torch.tensor([1.0, 10.0, 0.0]), torch.zeros(64, 1)

    given: list[torch.Tensor] = []
    model = nn.Sequential(nn.Linear(3, 1))
    model[0].register_forward_pre_hook(lambda module, inputs: given.append(inputs[0]))
    job = standardise.standardised(Job(model, squared, batches(0), 10, 0))
    used = list(islice(job.batches, 10))
    assert all(torch.equal(one[0], other[0]) for one, other in zip(used, batches(0), strict=False))
    for inputs, _ in used[:8]:
        model(inputs)
    seen = torch.cat(given)
    assert torch.allclose(seen.mean(0), torch.zeros(3), atol=1e-4)
    assert torch.allclose(seen.std(0, correction=0), torch.tensor([1.0, 1.0, 0.0]), atol=1e-4)


def test_the_unit_of_inputs_is_nothing_to_a_standardised_run(short, monkeypatch):
    """A run on inputs as they are is not the same in another unit."""

    def run(name, scale):
        def batches(seed):
            return ((scale * inputs, targets) for inputs, targets in short.batches(seed))

        val = [(scale * inputs, targets) for inputs, targets in short.val]
        monkeypatch.setattr(harness, "every", lambda: {"short": dataclasses.replace(short, batches=batches, val=val)})
        return harness.run("short", name, 0)["final"]

    assert run("standardised_adamw_0.001", 64.0) == pytest.approx(run("standardised_adamw_0.001", 1.0), rel=1e-3)
    assert run("adamw_0.001", 64.0) != pytest.approx(run("adamw_0.001", 1.0), rel=1e-3)


def test_kinds_of_sweeps():
    assert kind_of("adamw_0.01") == kind_of("adamw_1e-05") == "adamw"
    assert kind_of("standardised_adamw_0.01") == "standardised"
    for name in ("adamw_default", "adamw_nowarm_0.01", "fixed_muon_0.01", "steepest", "prodigy"):
        assert kind_of(name) is None
