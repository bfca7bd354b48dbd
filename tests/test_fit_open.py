"""fit without a budget: who ends the run, and how, and that it goes on from its folder."""

import itertools
import os
import signal

import pytest
import torch
from torch import nn

from steepest import optim
from steepest.fit import fit
from steepest.loop.average import Average
from steepest.loop.budget import Budget
from steepest.schedules import linear

RATE = 0.1


class Killed(BaseException):
    """Stands for SIGKILL: nothing of the package catches it."""


def mse(model, batch):
    return nn.functional.mse_loss(model(batch[0]), batch[1])


def data(length=40):
    draw = torch.Generator().manual_seed(length)
    x = torch.randn(length, 3, generator=draw)
    return x, x.sum(1, keepdim=True) + torch.randn(length, 1, generator=draw)


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 8), nn.Dropout(0.2), nn.Tanh(), nn.Linear(8, 1))


def sgd(model):
    return torch.optim.SGD(model.parameters(), lr=RATE)


def at(happenings):
    """A loss that does something at some of its calls in training."""
    calls = itertools.count()

    def loss(model, batch):
        if model.training:
            happenings.get(next(calls), lambda: None)()
        return mse(model, batch)

    return loss


def send(*names):
    return lambda: [os.kill(os.getpid(), getattr(signal, name)) for name in names]


def die():
    raise Killed


def trained(happenings, optimizer=sgd, **more):
    model = network()
    settings = {"batch_size": 8, "log": False, "optimizer": optimizer(model), **more}
    return fit(model, at(happenings), settings.pop("data", data()), **settings)


def rates(result):
    return {row["step"]: row["lr"] for row in result.history if "lr" in row}


@pytest.mark.parametrize(("name", "when", "length"), [("SIGINT", 9, 20), ("SIGTERM", 299, 30)])
def test_the_first_signal_begins_the_decay_that_ends_the_run(name, when, length, capsys):
    result = trained({when: send(name)}, log=True)
    begun = when + 1  # the step in which the signal came was made as it would have been
    assert (result.status, result.steps) == ("finished", begun + length)
    told = rates(result)
    assert all(rate == RATE for step, rate in told.items() if step <= begun)
    assert told[result.steps - 1] == pytest.approx(RATE / length)
    said = capsys.readouterr().out
    assert "this run has no budget: Ctrl-C begins a decay of the rate to zero" in said
    assert f"asked to end: the rate falls to zero until step {begun + length}, where the run ends" in said
    assert f"step {begun + length}/{begun + length}  loss" in said


@pytest.mark.parametrize("second", [{9: send("SIGINT", "SIGINT")}, {9: send("SIGINT"), 12: send("SIGTERM")}])
def test_a_second_signal_ends_it_after_the_step(second, tmp_path):
    result = trained(second, out=tmp_path)
    assert result.status in ("interrupted", "terminated")
    assert result.steps == max(second) + 1
    assert (tmp_path / "checkpoints" / f"step-{result.steps:09}").exists()


def test_a_run_that_was_left_in_its_decay_ends_by_it(tmp_path):
    assert trained({9: send("SIGINT"), 12: send("SIGINT")}, out=tmp_path).steps == 13
    again = trained({}, out=tmp_path)
    assert (again.status, again.steps) == ("finished", 30)
    assert rates(again)[29] == pytest.approx(RATE / 20)


def test_a_third_signal_ends_it_at_once():
    with pytest.raises(KeyboardInterrupt):
        trained({9: send("SIGINT", "SIGINT", "SIGINT")})


def test_a_lost_terminal_asks_for_no_decay(capsys):
    result = trained({9: send("SIGHUP")}, log=True)
    assert (result.status, result.steps) == ("terminated", 10)
    assert "terminated after 10 steps, " in capsys.readouterr().out


def test_a_run_with_a_budget_ends_at_the_first_signal():
    assert trained({9: send("SIGINT")}, steps=100).status == "interrupted"


def test_no_more_patience_begins_the_decay(capsys):
    still = {"optimizer": lambda model: torch.optim.SGD(model.parameters(), lr=1e-30)}
    result = trained({}, val=data(16), evaluate_every=5, patience=2, log=True, **still)
    assert trained({}, val=data(16), evaluate_every=5, patience=2, steps=100, **still).status == "stopped"
    assert (result.status, result.steps) == ("finished", 15 + 20)
    assert "the loss on val does not fall any more: the rate falls to zero until step 35" in capsys.readouterr().out


def test_val_is_evaluated_whenever_the_steps_have_grown_by_a_tenth_and_at_the_end():
    result = trained({449: send("SIGINT")}, val=data(9))
    places = [row["step"] for row in result.history if "val/loss" in row]
    assert places == [53, 111, 175, 246, 325, 412, 495]
    assert mse(result.model.eval(), data(9)).item() == pytest.approx(result.last("val/loss"), rel=1e-5)


@pytest.mark.parametrize(("when", "steps", "same"), [({39: ["SIGINT"]}, 60, True), ({59: ["SIGINT"] * 2}, 60, False)])
def test_the_model_that_is_returned_has_the_mean_of_the_weights_where_the_rate_stays(when, steps, same):
    """A run with a budget makes the same steps, by that decay as its schedule, or at a constant rate."""

    def line(step, steps):
        return 1.0 if step < 40 else (steps - step) / 20

    mean = trained({call: send(*names) for call, names in when.items()})
    last = trained({}, steps=steps, schedule=line if same else None)
    losses = [{row["step"]: row["train/loss"] for row in result.history} for result in (mean, last)]
    assert losses[0].items() <= losses[1].items()
    assert len(losses[0]) > 50
    assert torch.equal(mean.model[0].weight, last.model[0].weight) == same


def rows(result):
    return str([{key: value for key, value in row.items() if key != "seconds"} for row in result.history])


def impatient(out, dies=None, optimizer=sgd, **more):
    """Train until patience is at its end, at step 40, and until the decay is, at 60."""
    happenings = {} if dies is None else {dies: die}
    never = (torch.zeros(8, 3), torch.full((8, 1), torch.nan))
    result = trained(
        happenings, optimizer, val=never, out=out, checkpoint_every=3, evaluate_every=40, patience=1,
        metrics={"size": lambda model, batch: model[0].weight.norm()}, **more,
    )  # fmt: skip
    return rows(result), result.steps, result.model.state_dict()


def equal(one, other):
    return one[:2] == other[:2] and all(torch.equal(one[2][name], other[2][name]) for name in one[2])


OPTIMIZERS = {
    "torch's": sgd,
    "ours": lambda model: optim.AdamW(model.parameters(), lr=0.01),
    "the pilot's": lambda model: None,
    "a mean of its own": lambda model: optim.AdamW(model.parameters(), lr=0.01, ema=0.9),
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_a_run_that_died_goes_on_to_the_same_bits_also_in_its_decay(optimizer, tmp_path):
    whole = impatient(tmp_path / "whole", optimizer=optimizer)
    assert whole[1] == 60
    for dies in (25, 41, 50):
        out = tmp_path / f"died {dies}"
        with pytest.raises(Killed):
            impatient(out, dies, optimizer)
        assert equal(impatient(out, optimizer=optimizer), whole)


def test_a_decay_or_a_mean_that_is_not_restored_gives_itself_away(tmp_path, monkeypatch):
    whole = impatient(tmp_path / "whole")
    for name, kind, dies in (("decay", Budget, 50), ("mean", Average, 25)):
        with pytest.raises(Killed):
            impatient(tmp_path / name, dies)
        with monkeypatch.context() as breach:
            breach.setattr(kind, "load_state_dict", lambda self, state: None)
            assert not equal(impatient(tmp_path / name), whole)


def test_killed_in_its_decay_before_it_was_saved_it_is_open_as_before(tmp_path):
    with pytest.raises(Killed):
        trained({9: send("SIGTERM"), 15: die}, out=tmp_path)
    again = trained({20: send("SIGTERM")}, out=tmp_path)
    assert rates(again)[20] == RATE
    assert again.steps == 10 + 21 + 20


def test_the_same_call_with_steps_ends_it_there(tmp_path, capsys):
    def go_on(happenings=(), **more):
        return trained(dict(happenings), out=tmp_path, log=True, **more)

    go_on({9: send("SIGINT", "SIGINT")})
    capsys.readouterr()
    result = go_on(steps=30)
    assert (result.status, result.steps) == ("finished", 30)
    told = rates(result)
    assert all(rate == pytest.approx(RATE * min(1, (30 - step) / 20)) for step, rate in told.items())
    said = capsys.readouterr().out
    assert "the rate falls to zero from step 10 to step 30, where the run ends" in said
    assert "changed since" not in said
    assert go_on(steps=30).steps == go_on().steps == 30
    assert "this run has finished at step 30" in capsys.readouterr().out
    with pytest.raises(ValueError, match="The run has made 30 steps already: it can end after more, not at steps=25"):
        go_on(steps=25)
    with pytest.raises(ValueError, match="began without a budget; end it by steps= or epochs=, not by time="):
        go_on(time="1m")
    assert go_on(epochs=8).steps == 40
    assert rates(go_on(steps=42))[40] == RATE


def test_a_run_with_a_budget_does_not_become_one_without(tmp_path):
    trained({}, steps=3, out=tmp_path)
    with pytest.raises(ValueError, match="began with a budget; give it steps=, epochs= or time= again"):
        trained({}, out=tmp_path)


def test_a_schedule_in_parts_of_the_run_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"linear\(\) is in parts of the run"):
        trained({}, schedule=linear(), out=tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


class Interrupted:
    """Batches whose reading fails once, as that of worker processes does at Ctrl-C."""

    def __init__(self, fails):
        self.fails = fails

    def __iter__(self):
        for part in zip(*(each.split(8) for each in data()), strict=True):
            self.fails -= 1
            if self.fails == 0:
                os.kill(os.getpid(), signal.SIGINT)
                raise RuntimeError("a worker has died")
            yield part


def test_data_whose_reading_ended_at_the_signal_is_read_again():
    whole = trained({12: send("SIGINT")}, data=Interrupted(0))
    result = trained({}, data=Interrupted(14))
    assert (result.status, result.steps) == ("finished", 33)
    assert rows(result) == rows(whole)
