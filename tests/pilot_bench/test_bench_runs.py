"""A run is charged for what it spends, and a file of results is gone on with."""

import importlib
import json
import math

import pytest
import torch
from pilot import harness, score
from pilot.contenders import full_name
from pilot.run import Order, Runner, contender


@pytest.mark.parametrize("name", ["adamw_0.01", "muon_0.01", "sgd_0.1"])
def test_each_step_is_charged(short, name):
    row = harness.run("short", name, 0)
    assert row["used"] == row["T"] == 24
    assert [at for at, _ in row["curve"]] == [2.0 * point for point in range(1, 13)]
    assert row["final"] < row["initial"]
    assert not row["diverged"]
    assert json.loads(json.dumps(row))["final"] == row["final"]


def test_a_loss_without_gradients_costs_a_third(short):
    meter = harness.Meter(short, short.build(0), 0)
    with torch.no_grad():
        meter.loss(meter.model, next(short.batches(0)))
    assert meter.used == pytest.approx(1 / 3)


def test_half_a_batch_costs_half(short):
    meter = harness.Meter(short, short.build(0), 0)
    meter.loss(meter.model, tuple(each[: short.batch_size // 2] for each in next(short.batches(0))))
    assert meter.used == pytest.approx(1 / 2)


def test_constants_of_the_pilot(short, monkeypatch):
    measure = importlib.import_module("steepest.pilot.measure")

    before = measure.RATE
    monkeypatch.setenv("PILOT", "RATE=0.02")
    assert full_name("steepest") == "steepest[RATE=0.02]"
    assert full_name("adamw_0.01") == "adamw_0.01"
    assert harness.run("short", "steepest[RATE=0.02]", 0)["final"] != harness.run("short", "steepest", 0)["final"]
    assert before == measure.RATE
    assert "none of them" in harness.run("short", "steepest[RAET=0.02]", 0)["error"]


def made(loss):
    """Runs that cost nothing, with a given loss for a rate."""

    def make(self, orders):
        for order in orders:
            rate = float(order.contender.partition("_")[2])
            self.rows.setdefault(order, {"final": loss(rate)})

    return make


@pytest.mark.parametrize("best", [1e-4, 1e-2, 1.0])
def test_a_sweep_ends_with_the_best_inside(best, tmp_path, monkeypatch):
    monkeypatch.setattr(Runner, "make", made(lambda rate: abs(math.log10(rate / best)) if rate < 8 else None))
    runner = Runner(tmp_path / "none.jsonl", 1)
    runner.sweep("adamw", ["any"], [0])
    losses = {order.contender: row["final"] for order, row in runner.rows.items()}
    ordered = sorted(losses, key=lambda name: float(name.partition("_")[2]))
    place = ordered.index(min(losses, key=lambda name: math.inf if losses[name] is None else losses[name]))
    assert 0 < place < len(ordered) - 1
    rates = [float(name.partition("_")[2]) for name in ordered[place - 1 : place + 2]]
    assert rates[2] / rates[0] < 3.3  # a quarter of a decade on both sides


def test_other_seeds_are_run_around_the_best_of_the_first(tmp_path, monkeypatch):
    monkeypatch.setattr(Runner, "make", made(lambda rate: abs(math.log10(rate / 1e-2))))
    runner = Runner(tmp_path / "none.jsonl", 1)
    runner.sweep("adamw", ["any"], [0, 1])
    names = {order.contender for order in runner.rows if order.seed == 1}
    assert names == {"adamw_0.0056", "adamw_0.01", "adamw_0.018"}


def test_names_of_rates():
    assert [contender("adamw", index) for index in (-12, -11, -10, 0)] == [
        "adamw_0.001", "adamw_0.0018", "adamw_0.0032", "adamw_1",
    ]  # fmt: skip


def test_a_file_is_gone_on_with(tmp_path):
    row = {"workload": "a", "contender": "b", "seed": 0, "final": 1.0}
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(row) + "\n" + '{"workload": "broken o')
    runner = Runner(path, 1)
    assert runner.rows == {Order("a", "b", 0): row}
    runner.keep({**row, "seed": 1, "cpu": 0.0, "error": ""})
    assert len(Runner(path, 1).rows) == 2


def test_ratios():
    """The excess over the floor is compared, clipped where that is asked for; a run that broke is infinitely bad."""
    assert score.ratio(1.5, 2.0, 1.0) == 0.5
    assert score.ratio(None, 2.0, 0.0) == math.inf
    assert score.geomean([0.1, 8.0, math.inf], clipped=True) == pytest.approx(2 ** (1 / 3))
    assert score.geomean([1.0, 4.0]) == pytest.approx(2.0)


def test_time_to_a_loss():
    """Between two points of the curve the loss goes in a line."""
    assert score.reached([(5.0, 3.0), (10.0, 1.0)], 4.0, 2.0) == pytest.approx(7.5)
    assert score.reached([(5.0, 3.0), (10.0, 1.0)], 4.0, 0.5) == math.inf


def test_a_spike():
    """Half as much again as at the beginning, of a loss that may be negative too."""
    for initial, calm, high in ((2.0, 2.9, 3.1), (-2.0, -1.1, -0.9)):
        for value, spiked in ((calm, False), (high, True), (None, True)):
            assert score.spiked({"initial": initial, "curve": [[1.0, initial], [2.0, value], [3.0, calm]]}) == spiked


def test_the_oracle_is_of_the_rate_with_most_seeds():
    """A rate that was run with one seed only is not the best, however lucky it was."""

    def rows(finals):
        return {("any", seed): {"contender": "", "seed": seed, "final": final} for seed, final in enumerate(finals)}

    kept = {
        "adamw_0.1": rows([0.1]),
        "adamw_0.01": rows([0.5, 0.5]),
        "adamw_0.001": rows([0.4, 0.7]),
        "prodigy": rows([0, 0]),
    }
    assert [row["final"] for row in score.oracle(kept, ["adamw"]).values()] == [0.5, 0.5]


def test_the_share_of_probes(short):
    plain = {**harness.run("short", "adamw_0.01", 0), "workload": "overfit_few"}
    probing = {**plain, "contender": "lr_finder", "spent": 6, "T": 24}
    (result,) = score.compare({("overfit_few", 0): probing}, {("overfit_few", 0): plain}, {})
    assert result.probe == 0.25
    assert score.compare({("overfit_few", 0): plain}, {("overfit_few", 0): plain}, {})[0].probe is None
