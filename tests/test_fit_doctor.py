"""A doctor in a run of fit: it finds what is wrong, keeps it, changes nothing, or repairs what it has proven."""

import copy
import json
import math
import sys

import pytest
import torch
from torch import nn

from steepest import events, fit, optim
from steepest.cli import main
from steepest.doctor import repair as repairs


def network(drop=0.1):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Dropout(drop), nn.Linear(32, 3))


def data():
    draw = torch.Generator().manual_seed(1)
    x = torch.randn(512, 8, generator=draw)
    return x, x[:, :3].argmax(1)


def entropy(model, batch):
    return nn.functional.cross_entropy(model(batch[0]), batch[1])


def squashed(model, batch):
    return nn.functional.cross_entropy(model(batch[0]).softmax(1), batch[1])


def rooted(model, batch):
    """Return a loss whose derivative is infinite for the batches with a certain row."""
    there = float(not (batch[0][:, 0] == data()[0][77, 0]).any())
    return entropy(model, batch) + 1e-6 * (there * next(model.parameters())).square().sum().sqrt()


def trained(lr=0.1, loss=entropy, rows=None, repair="auto", steps=100, model=None, kind=torch.optim.SGD, **more):
    """Return the result of a run of plain descent, and the model."""
    model = model or network()
    optimizer = kind(model.parameters(), lr=lr)
    more = {"log": False, **more}
    result = fit(model, loss, rows or data(), steps=steps, optimizer=optimizer, repair=repair, **more)
    return result, model


def last(model):
    return entropy(model.eval(), data()).item()


@pytest.mark.parametrize("own", [False, True], ids=["the pilot's", "a given one"])
@pytest.mark.parametrize("microbatch", [None, 8])
def test_a_run_that_is_watched_ends_with_the_same_bits(own, microbatch):
    models = []
    for repair in (None, "off", "auto"):
        model = network()
        optimizer = optim.AdamW(model.parameters(), lr=1e-2) if own else None
        result = fit(
            model, entropy, data(), steps=130, optimizer=optimizer, microbatch=microbatch, repair=repair, log=False
        )
        assert result.findings == []
        assert result.repairs == []
        models.append(copy.deepcopy(model.state_dict()))
    for other in models[1:]:
        assert all(torch.equal(value, other[name]) for name, value in models[0].items())


def test_what_is_found_is_said_written_and_returned(tmp_path, capsys):
    result = fit(network(), squashed, data(), steps=130, out=tmp_path / "run", repair="off")
    assert [each.cause for each in result.findings] == ["A08"]
    assert "A08 squashed-twice, proven" in capsys.readouterr().out
    (kept,) = (tmp_path / "run" / "incidents").iterdir()
    assert json.loads(kept.read_text())["cause"] == "A08"
    found = [each for each in events.read(tmp_path / "run" / events.FILE) if each["event"] == "finding"]
    assert [each["cause"] for each in found] == ["A08"]


def test_what_cannot_be_asked_of_the_doctor_is_said():
    with pytest.raises(ValueError, match='repair is "off"'):
        fit(network(), entropy, data(), steps=10, repair="sometimes")


def test_a_rate_that_is_too_low_is_raised_as_if_it_had_been_so_from_the_start():
    result, model = trained(lr=1e-4)
    (repair,) = result.repairs
    assert (repair.cause, repair.since, repair.steps, repair.status) == ("D03", 0, 35, "held")
    assert result.findings[0].cause == "D03"
    factor = float(repair.change.split()[0])
    _, other = trained(lr=1e-4 * factor, repair=None)
    for one, another in zip(model.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(one, another, rtol=1e-4, atol=1e-5)


def test_off_repairs_nothing():
    result, model = trained(lr=1e-4, repair="off")
    _, other = trained(lr=1e-4, repair=None)
    assert [each.cause for each in result.findings] == ["D03"]
    assert result.repairs == []
    assert all(torch.equal(one, another) for one, another in zip(model.parameters(), other.parameters(), strict=True))


def test_all_of_a_repair_is_written(tmp_path, capsys):
    trained(lr=1e-4, out=tmp_path, log=True)
    said = capsys.readouterr().out
    assert "D03 rate-too-low, proven" in said
    assert said.index("D03 rate-too-low, proven") < said.index(": made") < said.index(" held, for the loss is")
    told = [each for each in events.read(tmp_path / events.FILE) if each["event"] == "repair"]
    assert [each["status"] for each in told] == ["made", "held"]
    kept = json.loads(next((tmp_path / "incidents").glob("*-D03-repair.json")).read_text())
    assert kept["status"] == "held"
    assert len(kept["tried"]) > 3
    assert kept["check"]["with"] < kept["check"]["without"]


def test_a_schedule_keeps_its_shape_at_another_height():
    result, _ = trained(lr=1e-4, schedule=lambda step, steps: 1 - step / (2 * steps))
    factor = math.prod(float(each.change.split()[0]) for each in result.repairs)
    rates = {row["step"]: row["lr"] for row in result.history}
    assert rates[99] == pytest.approx(1e-4 * factor * (1 - 99 / 200))


def test_a_repair_that_turns_out_not_to_help_is_undone_to_the_bit(monkeypatch):
    real = repairs.Repairs._best

    def misled(self, changes, start, repair):
        proof = real(self, [repairs.Change("far too low", rate=1e-3)], start, repair)
        with self._doctor.aside():
            tried = list(repairs.proofs(self._doctor.lab, [repairs.Change("far too low", rate=1e-3)], start))
        return proof or repairs.in_full(self._doctor.lab, tried[0])

    monkeypatch.setattr(repairs.Repairs, "_best", misled)
    monkeypatch.setattr(repairs, "MOST", 1)
    result, model = trained(lr=3e-3, steps=64)
    (repair,) = result.repairs
    _, other = trained(lr=3e-3, repair=None, steps=64)
    assert repair.status == "undone"
    assert result.history[-1]["lr"] == 3e-3
    assert all(torch.equal(one, another) for one, another in zip(model.parameters(), other.parameters(), strict=True))


def test_a_rate_that_jumps_is_gone_back_from_and_lowered():
    jumps = {"schedule": lambda step, steps: 3000.0 if step >= 60 else 1.0, "steps": 160}
    result, model = trained(lr=1.0, model=network(0.0), **jumps)
    with pytest.raises(FloatingPointError):
        trained(lr=1.0, model=network(0.0), repair="off", **jumps)
    (repair,) = [each for each in result.repairs if each.cause == "D01"]
    assert (repair.change, repair.since, repair.status) == ("the rate it had before", 50, "held")
    assert last(model) < 0.2


def test_rows_that_are_not_finite_are_left_out():
    x, y = data()
    x[::100, 2] = math.nan
    result, model = trained(lr=1.0, rows=(x, y))
    alone, _ = trained(lr=1.0, rows=(x, y), repair="off")
    assert alone.skipped > 20
    assert [each.cause for each in alone.findings] == ["B01"]
    assert result.skipped == 1  # the first, by which they were found
    assert [(each.cause, each.status) for each in result.repairs] == [("B01", "held")]
    assert last(model) < 0.4


@pytest.mark.parametrize("repair", ["off", "auto"])
def test_a_batch_that_is_left_out_does_not_hide_another_fault(repair):
    x, y = data()
    x[:32] = math.nan  # whole batches, of which nothing can be kept

    rows = [(x[place : place + 32], y[place : place + 32]) for place in range(0, 512, 32)]
    result, _ = trained(lr=1e-4, rows=rows, repair=repair, steps=80)
    assert {"B01", "D03"} <= {each.cause for each in result.findings}
    assert result.skipped == 5
    assert [each.cause for each in result.repairs] == (["D03"] if repair == "auto" else [])


def test_a_single_batch_that_is_not_finite_is_skipped_counted_and_named():
    def flawed(model, batch):
        bad = (batch[0][:, 0] == data()[0][77, 0]).any()
        return entropy(model, batch) * (math.nan if bad else 1.0)

    result, _ = trained(loss=flawed, steps=32)
    assert result.skipped == 2  # once an epoch
    assert sum(row.get("skipped", False) for row in result.history) == 2
    assert result.repairs == []


def test_steps_whose_gradient_is_not_finite_are_left_out_and_counted():
    result, model = trained(loss=rooted, steps=32, model=network(0.0))
    (repair, *_) = result.repairs
    assert (repair.cause, repair.status) == ("E06", "made")
    assert result.skipped == 2  # the one whose loss told of it, and the one that was spared in the second epoch
    assert all(bool(each.isfinite().all()) for each in model.parameters())


def test_more_of_them_than_half_a_percent_end_the_run_with_sound_weights():
    def always(model, batch):
        fine = float((batch[0][0, 1] > 0).item())
        return entropy(model, batch) + 1e-6 * (fine * next(model.parameters())).square().sum().sqrt()

    model = network(0.0)
    with pytest.raises(FloatingPointError):
        trained(loss=always, model=model)
    assert all(bool(each.isfinite().all()) for each in model.parameters())


class Terminal:
    def __init__(self, there):
        self.isatty = lambda: there


@pytest.mark.parametrize("answer", ["y", "", None])
def test_a_repair_is_asked_for_where_somebody_is_there(answer, monkeypatch, capsys):
    asked = []
    monkeypatch.setattr("sys.stdin", Terminal(answer is not None))
    monkeypatch.setattr("builtins.input", lambda words: asked.append(words) or answer)
    result, _ = trained(lr=1e-4, repair="ask", steps=50, log=True)
    said = capsys.readouterr().out
    assert len(asked) == (answer is not None)  # and not again at each look
    assert [each.cause for each in result.repairs] == (["D03"] if answer == "y" else [])
    assert "times the rate, 35 steps made again" in said
    assert ("nobody can be asked" in said) == (answer is None)


def test_where_the_pilot_chose_nothing_is_repaired_and_that_is_said(capsys):
    result = fit(network(), squashed, data(), steps=60, repair="auto")
    assert "the doctor repairs nothing" in capsys.readouterr().out
    assert result.repairs == []


TASK = """
import torch
import steepest as st

def loss(model, batch):
    return torch.nn.functional.mse_loss(model(batch[0]), batch[1])

def task():
    x = torch.randn(512, 3)
    model = torch.nn.Linear(3, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-5)
    return st.Task(model, loss, (x, 3 * x.sum(1, keepdim=True)), steps=40, optimizer=optimizer)
"""


@pytest.mark.parametrize("repair", ["auto", "off", "sometimes"])
def test_the_command_takes_the_same_words(repair, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "task.py").write_text(TASK)
    monkeypatch.setattr(sys, "path", [*sys.path])
    with pytest.raises(SystemExit) as ended:
        main(["fit", "task.py:task", "--repair", repair])
    shown = capsys.readouterr()
    assert (ended.value.code or 0) == (2 if repair == "sometimes" else 0)
    assert ("D03 rate-too-low, proven" in shown.out) == (repair != "sometimes")
    assert (": made" in shown.out) == (repair == "auto")
    assert ('repair is "off"' in shown.err) == (repair == "sometimes")
