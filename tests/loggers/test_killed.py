"""A run that is killed at random moments and taken up again leaves every series whole: no gap, no double."""

import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from places import PLACES
from planted import check_series, expected, from_file, series_of, to_file, train

from steepest.loggers import Loggers

KILLED = Path(__file__).parent / "killed.py"


def start(out, name):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), **PLACES[name].environment(out)}
    command = [sys.executable, "-W", "ignore", str(KILLED), str(out), name]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finished(process):
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    return output


def written(out):
    path = out / "events.jsonl"
    return path.stat().st_size if path.exists() else 0


def killed_after(process, out, more):
    """Kill the process when it has written so many bytes more of events; say whether it lived until then."""
    goal, deadline = written(out) + more, time.monotonic() + 120
    while written(out) < goal and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    alive = process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.communicate()
    return alive


def train_with_kills(out, name, kills):
    """Kill the run about so often, at random moments of its life, and let it end; return how often it was killed."""
    done = 0
    for _ in range(kills):
        done += killed_after(start(out, name), out, random.randrange(1, 60_000 // kills))
    output = finished(start(out, name))
    assert "log=" not in output
    return done


@pytest.mark.parametrize("name", ["tensorboard", "trackio", "mlflow", "wandb"])
def test_killed_at_random_moments_every_series_is_whole(tmp_path, name):
    PLACES[name].skip_if_missing()
    random.seed(time.time_ns())
    killed = train_with_kills(tmp_path, name, 3)
    assert killed
    check_series(PLACES[name].series(tmp_path), PLACES[name].held(expected()))


def test_killed_at_random_moments_a_function_gets_each_row_once(tmp_path):
    """But for the row after which it was killed before anybody could write down that it was taken: see `Function`."""
    random.seed(time.time_ns())
    killed = train_with_kills(tmp_path, "function", 4)
    rows = from_file(tmp_path / "rows.jsonl")
    once = [row for row, before in itertools.pairwise([*rows, None]) if repr(row) != repr(before)]
    assert len(rows) - len(once) <= killed
    check_series(series_of(once), expected())


def test_killed_before_it_takes_a_row_a_function_gets_that_row_once(tmp_path):
    (tmp_path / "rows.jsonl.kills").write_text(json.dumps([0, 11, 100, 299]))
    while (process := start(tmp_path, "suicide")).wait(120) == -signal.SIGKILL:
        process.communicate()
    finished(process)
    assert json.loads((tmp_path / "rows.jsonl.kills").read_text()) == []
    check_series(series_of(from_file(tmp_path / "rows.jsonl")), expected())


@pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated")  # in mlflow's own models
@pytest.mark.parametrize("name", ["tensorboard", "trackio", "mlflow", "wandb"])
def test_ended_in_order_and_taken_up_again_every_series_is_whole(tmp_path, name, monkeypatch):
    """The end falls on an evaluation, whose step has a second row after the resumption."""
    PLACES[name].skip_if_missing()
    for key, value in PLACES[name].environment(tmp_path).items():
        monkeypatch.setenv(key, value)
    for steps in (70, 210):
        loggers = Loggers(name, out=tmp_path, run="ended", config={"lr": 0.5})
        train(loggers, tmp_path, steps=steps)
        loggers.say("a title", "a text")
        loggers.close("interrupted")
        assert loggers.problems() == []
        (tmp_path / "checkpoint").write_text(str(steps))
    check_series(PLACES[name].series(tmp_path), PLACES[name].held(expected(210)))


def slow_at_step_20(path):
    """A function that falls behind so far that the first run ends without it."""
    write, delays = to_file(path), iter([0.0] * 20 + [1.0])

    def slow(row):
        time.sleep(next(delays, 0.0))
        write(row)

    return slow


def interrupted(slow, out, steps, closing):
    """Train to this step and leave the run there; the logger has so many seconds for the rest."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("steepest.loggers.loggers.CLOSING", closing)
        loggers = Loggers(slow, out=out, run="slow", config={})
        train(loggers, out, steps=steps)
        loggers.close("interrupted")
        loggers._deliveries[0]._thread.join(30)
        (out / "checkpoint").write_text(str(steps))
    return loggers.problems()


def test_rows_that_a_slow_logger_did_not_get_come_when_the_run_is_taken_up_again(tmp_path):
    slow = slow_at_step_20(tmp_path / "rows.jsonl")
    assert "rows did not reach it" in interrupted(slow, tmp_path, 70, 0.1)[0]
    assert len(from_file(tmp_path / "rows.jsonl")) < 70
    assert interrupted(slow, tmp_path, 210, 60.0) == []
    check_series(series_of(from_file(tmp_path / "rows.jsonl")), expected(210))


@pytest.mark.parametrize(
    ("fault", "words"), [("forgets", "not strictly"), ("does not fill", "lacks"), ("fills too much", "not strictly")]
)
def test_the_law_sees_a_resumption_that_doubles_or_loses(tmp_path, monkeypatch, fault, words):
    slow = slow_at_step_20(tmp_path / "rows.jsonl")
    interrupted(slow, tmp_path, 70, 0.1)
    if fault == "forgets":
        monkeypatch.setattr("steepest.loggers.memory.Memory.recall", lambda self, step: None)
    elif fault == "does not fill":
        monkeypatch.setattr("steepest.loggers.delivery.before", lambda kept, step: [])
    else:
        monkeypatch.setattr("steepest.loggers.delivery.Delivery._log", lambda self, row: slow(row))
    interrupted(slow, tmp_path, 210, 60.0)
    with pytest.raises(AssertionError, match=words):
        check_series(series_of(from_file(tmp_path / "rows.jsonl")), expected(210))


def test_a_half_written_record_of_tensorboard_is_not_a_row(tmp_path):
    PLACES["tensorboard"].skip_if_missing()
    loggers = Loggers("tensorboard", out=tmp_path, run="torn", config={})
    train(loggers, tmp_path, steps=70)
    loggers.close("interrupted")
    (file,) = (tmp_path / "tensorboard").iterdir()
    file.write_bytes(file.read_bytes()[:-5])
    (tmp_path / "checkpoint").write_text("70")
    loggers = Loggers("tensorboard", out=tmp_path, run="torn", config={})
    train(loggers, tmp_path, steps=210)
    loggers.close("finished")
    assert loggers.problems() == []
    check_series(PLACES["tensorboard"].series(tmp_path), expected_float32(210))


def expected_float32(steps):
    return PLACES["tensorboard"].held(expected(steps))
