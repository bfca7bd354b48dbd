"""Progress: a bar on a terminal, redrawn a few times a second; plain lines in a pipe; nothing when not asked."""

import io
import itertools
import math
import re

import pytest
import torch
from rich.console import Console

from steepest.loop import Step
from steepest.report import terminal
from steepest.report.terminal import screen


def step(index, loss=0.5, skipped=False):
    made = Step(index, 0, torch.tensor(loss), {})
    made.lr, made.skipped = 0.01, skipped
    return made


class Fake:
    """What the screen asks of a run."""

    def __init__(self, steps):
        self.steps, self.made, self.endless = steps, 0, steps is None

    def done(self):
        return math.log1p(self.made / 500) if self.steps is None else self.made / self.steps

    def over(self):
        return self.made == self.steps

    def show(self, view, index, **more):
        self.made = index + 1
        view.step(step(index, **more))


def shown(steps, *, indices=None, **console):
    file = io.StringIO()
    run = Fake(steps)
    with screen(run, True, Console(file=file, width=120, highlight=False, **console)) as view:
        for index in indices or range(steps):
            run.show(view, index)
        view.say("done [really]")
    return file.getvalue()


@pytest.fixture(autouse=True)
def no_environment(monkeypatch):
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "TERM", "COLORTERM"):
        monkeypatch.delenv(name, raising=False)


def test_a_pipe_gets_plain_lines_one_for_each_twentieth_of_the_run():
    lines = shown(200).splitlines()
    assert len(lines) == 21
    assert lines[0].startswith("step 10/200  loss 0.5000  lr 0.01  ")
    assert lines[0].endswith(" steps/s")
    assert lines[-2].startswith("step 200/200  ")
    assert lines[-1] == "done [really]"
    assert "\x1b" not in "".join(lines)


def test_a_short_run_has_a_line_for_each_step_and_a_slow_one_after_a_while(monkeypatch):
    assert len(shown(3).splitlines()) == 4
    monkeypatch.setattr(terminal, "QUIET", 0.0)
    assert len(shown(200, indices=range(7)).splitlines()) == 8


def test_a_run_without_an_end_has_a_line_whenever_it_has_grown_by_a_twentieth():
    lines = shown(None, indices=range(2000)).splitlines()
    assert lines[-1] == "done [really]"
    places = [int(re.match(r"step (\d+)  loss 0.5000", line)[1]) for line in lines[:-1]]
    assert len(places) == int(20 * math.log1p(2000 / 500))
    assert all(24 <= here - before <= 3 + 0.053 * (before + 500) for before, here in itertools.pairwise(places))


def test_a_run_without_an_end_has_a_bar_that_only_pulses_until_there_is_one():
    run, bars = Fake(None), []
    with screen(run, True, Console(file=io.StringIO(), width=120, force_terminal=True)) as view:
        for index in range(2000):
            run.show(view, index)
        bars.append(view._progress.tasks[0])
        assert (bars[0].total, bars[0].percentage) == (None, 0.0)
        assert re.match(r"step \d+  loss", bars[0].description)
        run.steps, run.endless = 2200, False
        view._due = 0.0
        run.show(view, 2000)
        assert bars[0].percentage == pytest.approx(100 * 2001 / 2200)


def test_a_terminal_gets_a_bar_with_control_codes_and_colours():
    text = shown(5, force_terminal=True)
    assert "5/5" in text
    assert "loss 0.5000" in text
    assert "\x1b[" in text


def test_no_color_is_kept(monkeypatch):
    def coloured(text):
        return any(f"\x1b[{code}" in text for code in ("3", "9", "38;", "1;3"))

    assert coloured(shown(5, force_terminal=True, color_system="standard"))
    monkeypatch.setenv("NO_COLOR", "1")
    assert not coloured(shown(5, force_terminal=True, color_system="standard"))


def test_a_dumb_terminal_gets_plain_lines(monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    assert "\x1b" not in shown(5, force_terminal=True)


def test_the_bar_reads_the_loss_five_times_a_second_at_most(monkeypatch):
    clock, read = [0.0], []
    monkeypatch.setattr(terminal, "perf_counter", lambda: clock[0])

    class Watched(Step):
        @property
        def loss(self):
            read.append(self.index)
            return 1.0

    run = Fake(10_000)
    with screen(run, True, Console(file=io.StringIO(), force_terminal=True)) as view:
        for index in range(1000):
            clock[0] += 0.01
            run.made = index + 1
            view.step(Watched(index, 0, torch.tensor(1.0), {}))
    assert 45 <= len(read) <= 50  # in ten seconds


def test_skipped_updates_and_nan_are_shown():
    file = io.StringIO()
    run = Fake(2)
    with screen(run, True, Console(file=file, width=120)) as view:
        run.show(view, 0, loss=math.nan, skipped=True)
        run.show(view, 1)
    first, second = file.getvalue().splitlines()
    assert "loss nan" in first
    assert "1 skipped: not finite" in first
    assert "1 skipped: not finite" in second


def test_nothing_is_shown_when_not_asked(capsys):
    run = Fake(3)
    with screen(run, False) as view:
        run.show(view, 0)
        view.say("hello")
    assert capsys.readouterr() == ("", "")
