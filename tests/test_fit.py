"""fit: training with its usual company, which changes nothing about training itself."""

import copy
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time

import pytest
import torch
from torch import nn

from steepest.fit import fit
from steepest.loop import Run
from steepest.schedules import linear


def loss(model, batch):
    x, y = batch
    return nn.functional.mse_loss(model(x), y)


def network():
    return nn.Sequential(nn.Linear(3, 8), nn.Dropout(0.2), nn.Linear(8, 1))


def data(length=20):
    x = torch.randn(length, 3)
    return x, x.sum(1, keepdim=True)


def sgd(model):
    return torch.optim.SGD(model.parameters(), lr=0.05)


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))


def test_fit_is_a_run_that_starts_from_its_seed():
    model, samples = network(), data()
    twin = copy.deepcopy(model)
    result = fit(model, loss, samples, steps=30, optimizer=sgd(model), schedule=linear(), seed=3, log=False)
    torch.manual_seed(3)
    losses = [step.loss for step in Run(twin, loss, samples, optimizer=sgd(twin), steps=30, schedule=linear(), seed=3)]
    assert [row["train/loss"] for row in result.history] == losses
    assert result.model is model
    assert same(model, twin)
    assert (result.status, result.steps, result.skipped, result.out, result.plan) == ("finished", 30, 0, None, None)


def test_company_changes_nothing_about_training(tmp_path, capsys):
    alone, model, samples = network(), None, data()
    model = copy.deepcopy(alone)
    fit(alone, loss, samples, steps=30, optimizer=sgd(alone), log=False)
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(*data()), 4, shuffle=True)
    fit(model, loss, samples, steps=30, optimizer=sgd(model), val=loader, metrics={"again": loss}, out=tmp_path)
    assert same(alone, model)
    assert "val/loss" in capsys.readouterr().out


def test_val_is_evaluated_ten_times_and_at_the_end():
    model = network()
    result = fit(model, loss, data(), steps=57, optimizer=sgd(model), val=data(9), metrics={"mse": loss}, log=False)
    rows = [row for row in result.history if "val/loss" in row]
    assert [row["step"] for row in rows] == [6, 11, 17, 23, 28, 34, 40, 46, 51, 57]
    assert all(row["val/mse"] == row["val/loss"] for row in rows)
    assert result.last("val/loss") == rows[-1]["val/loss"]
    assert rows[-1]["val/loss"] < rows[0]["val/loss"] / 2
    with pytest.raises(KeyError, match=r"holds no 'val/acc'; it holds epoch, grad_norm, lr, seconds, step"):
        result.last("val/acc")
    assert re.fullmatch(r"Result\(finished, 57 steps in .* s, val/loss 0\.\d+  val/mse 0\.\d+\)", repr(result))


def test_the_model_returned_has_the_weights_that_were_evaluated():
    from steepest.optim import AdamW

    model, test = nn.Linear(3, 1), data()
    optimizer = AdamW(model.parameters(), lr=0.1, ema=0.9)
    result = fit(model, loss, data(), steps=20, optimizer=optimizer, val=test, log=False)
    assert loss(result.model, test).item() == pytest.approx(result.last("val/loss"), rel=1e-5)


def test_the_event_file_tells_the_run(tmp_path):
    model = network()
    result = fit(model, loss, data(), epochs=4, optimizer=sgd(model), val=data(9), out=tmp_path, log=False, clip=5.0)
    events = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert [event["event"] for event in events] == ["start", *["step", "evaluation"] * 4, "end"]
    expected = {
        "steps": 4, "epochs": 4, "batch_size": 32, "seed": 0, "clip": 5.0, "device": "cpu", "model": "Sequential",
        "parameters": 41, "optimizer": "SGD", "schedule": None, "precision": "float32",
    }  # fmt: skip
    assert {name: events[0]["config"][name] for name in expected} == expected
    assert events[0]["versions"]["torch"] == torch.__version__
    assert (events[-1]["status"], events[-1]["steps"], events[-1]["skipped"]) == ("finished", 4, 0)
    assert all(isinstance(event["time"], float) for event in events)
    for event, row in zip(events[1:], result.history, strict=False):
        assert row.items() <= event.items()


def test_a_failure_in_the_middle_is_in_the_event_file(tmp_path):
    model = network()
    with pytest.raises(ValueError, match="The data ended after 2 batches"):
        fit(model, loss, iter([data(), data()]), steps=5, optimizer=sgd(model), out=tmp_path, log=False)
    last = json.loads((tmp_path / "events.jsonl").read_text().splitlines()[-1])
    assert (last["event"], last["status"], last["steps"]) == ("end", "failed", 2)
    assert last["error"].startswith("ValueError: The data ended after 2 batches")


def test_skipped_updates_are_in_result_history_and_events(tmp_path):
    model, calls = network(), iter(range(100))
    result = fit(
        model, lambda model, batch: loss(model, batch) * (float("nan") if next(calls) == 2 else 1), data(), steps=5,
        optimizer=sgd(model), out=tmp_path, log=False,
    )  # fmt: skip
    assert result.skipped == 1
    assert [row["step"] for row in result.history if row.get("skipped")] == [2]
    event = json.loads((tmp_path / "events.jsonl").read_text().splitlines()[3])
    assert (event["train/loss"], event["nonfinite"], event["skipped"]) == (None, {"train/loss": "nan"}, True)


def test_a_seed_gives_the_same_run_again():
    results = []
    for seed in (1, 1, 2):
        torch.manual_seed(0)
        model = network()
        fit(model, loss, data(50), steps=9, optimizer=sgd(model), seed=seed, batch_size=8, log=False)
        results.append(model)
    assert same(results[0], results[1])
    assert not same(results[0], results[2])


def test_nothing_is_printed_when_not_asked_and_lines_otherwise(capsys):
    model = network()
    fit(model, loss, data(), steps=3, optimizer=sgd(model), log=False)
    assert capsys.readouterr() == ("", "")
    fit(model, loss, data(), steps=3, optimizer=sgd(model), val=data())
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines[:-1]] == ["1/3", "1/3", "2/3", "2/3", "3/3", "3/3"]
    assert re.fullmatch(r"finished 3 steps in \d+\.\d s", lines[-1])


BAD = {
    "metrics without val": ({"metrics": {"a": loss}}, ValueError, "there is no val="),
    "metrics no dict": ({"metrics": loss, "val": data()}, TypeError, "metrics is a dict from name to function"),
    "val of another kind": ({"val": 3}, TypeError, "The data is of type int"),
    "empty val": ({"val": []}, ValueError, "holds no batches"),
    "schedule alone": ({"optimizer": None, "schedule": linear()}, ValueError, "schedule= goes with optimizer="),
    "seed": ({"seed": "x"}, ValueError, "seed is a whole number, 0 or more, below 2\\*\\*63; received 'x'"),
    "device": ({"device": "foo"}, ValueError, "device='foo' cannot be used: Expected one of cpu, cuda"),
    "no such device": ({"device": "cuda"}, ValueError, "device='cuda' cannot be used"),
    "no device": ({"device": "meta"}, ValueError, "device='meta' holds no numbers"),
    "working folder": ({"out": ""}, ValueError, "out= is the working folder"),
    "precision": ({"precision": 16}, ValueError, "precision is one of"),
    "patience": ({"patience": 3}, ValueError, "there is no val="),
    "logger": ({"log": "tensorbord"}, ValueError, "did you mean 'tensorboard'"),
    "budgets": ({"epochs": 1}, ValueError, "A run has one budget"),
}


@pytest.mark.parametrize(("changes", "kind", "message"), BAD.values(), ids=BAD)
def test_bad_input_is_refused_before_anything_is_written(changes, kind, message, tmp_path):
    model = network()
    settings = {"steps": 2, "optimizer": sgd(model), "out": tmp_path / "run", "log": False}
    with pytest.raises(kind, match=message):
        fit(model, loss, data(), **(settings | changes))
    assert list(tmp_path.iterdir()) == []


def test_a_first_step_that_fails_leaves_nothing_behind(tmp_path):
    model = network()
    with pytest.raises(ValueError, match=r"The loss has shape \[20, 1\]"):
        fit(model, lambda model, batch: model(batch[0]), data(), steps=2, optimizer=sgd(model), out=tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


LONG = """
import sys, time, torch
from steepest.fit import fit
model = torch.nn.Linear(1, 1)
def loss(model, batch):
    print("step", flush=True)
    time.sleep(0.2)
    return model(batch).mean() ** 2
result = fit(model, loss, [torch.ones(1, 1)], steps=10**6, optimizer=torch.optim.SGD(model.parameters(), lr=0.1),
             out=sys.argv[1], val=[torch.ones(1, 1)])
print("result", result.status, result.steps, result.history[-1]["step"])
"""


def long_run(folder):
    command = [sys.executable, "-c", LONG, folder]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    for _ in range(3):
        assert process.stdout.readline() == "step\n"
    return process


def test_one_interrupt_ends_the_run_after_the_step_with_a_result(tmp_path):
    process = long_run(tmp_path)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    done = int(re.search(r"interrupted after (\d+) of 1000000 steps, .*, saved in .*: the same call goes on", out)[1])
    assert 3 <= done <= 5
    assert out.splitlines()[-1] == f"result interrupted {done} {0}"  # the last row that was due is that of step 0
    last = json.loads((tmp_path / "events.jsonl").read_text().splitlines()[-1])
    assert (last["event"], last["status"], last["steps"]) == ("end", "interrupted", done)


def test_a_second_interrupt_ends_at_once(tmp_path):
    process = long_run(tmp_path)
    for _ in range(2):
        process.send_signal(signal.SIGINT)
        time.sleep(0.01)
    out, err = process.communicate(timeout=60)
    if "result interrupted" in out:  # the first step ended within the hundredth of a second
        pytest.fail("the second signal came too late for this machine; make the step slower")
    assert process.returncode != 0
    assert err.rstrip().endswith("KeyboardInterrupt")
    last = json.loads((tmp_path / "events.jsonl").read_text().splitlines()[-1])
    assert (last["event"], last["status"]) == ("end", "failed")


def test_the_handler_of_ctrl_c_is_given_back():
    before = signal.getsignal(signal.SIGINT)
    model = network()
    inside = []

    def peek(model, batch):
        inside.append(signal.getsignal(signal.SIGINT))
        return loss(model, batch)

    fit(model, peek, data(), steps=1, optimizer=sgd(model), log=False)
    assert signal.getsignal(signal.SIGINT) is before
    assert inside[0] is not before


def test_fit_works_in_a_thread_where_no_handler_can_be_set():
    model, results = network(), []
    thread = threading.Thread(
        target=lambda: results.append(fit(model, loss, data(), steps=2, optimizer=sgd(model), log=False))
    )
    thread.start()
    thread.join()
    assert results[0].status == "finished"


def test_an_interrupt_in_an_evaluation_ends_the_run():
    model = network()

    def press(model, batch):
        os.kill(os.getpid(), signal.SIGINT)
        return loss(model, batch)

    result = fit(model, loss, data(), steps=50, optimizer=sgd(model), val=data(64), metrics={"m": press}, log=False)
    assert (result.status, result.steps) == ("interrupted", 5)
    assert not any("val/loss" in row for row in result.history)
