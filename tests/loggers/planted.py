"""A run that only counts, loggers that misbehave, and the law that all series keep."""

import json
import math
import time
from pathlib import Path

from steepest.loggers.logger import numbers
from steepest.loop.event_file import EventFile

STEPS = 300
CHECKPOINT = 7


def step_row(step):
    loss = {5: math.nan, 6: math.inf, 8: -math.inf}.get(step, 1 / (step + 1))
    return {"step": step, "train/loss": loss, "lr": 0.5, "grad_norm": None}


def all_rows(steps=STEPS):
    """The rows of a whole run in their order; an evaluation after every tenth step."""
    rows = []
    for step in range(steps):
        rows.append(("step", step_row(step)))
        if (step + 1) % 10 == 0:
            rows.append(("evaluation", {"step": step + 1, "val/loss": 2.0 * step}))
    return rows


def expected(steps=STEPS):
    """Series -> [(step, value)] of a run that nobody disturbed."""
    return series_of(row for _, row in all_rows(steps))


def series_of(rows):
    series = {}
    for row in rows:
        for key, value in numbers(row).items():
            series.setdefault(key, []).append((row["step"], value))
    return series


def check_series(found, wanted):
    """The law: the same steps and values, no step twice, none missing, in order; NaN is NaN."""
    assert found.keys() == wanted.keys()
    for key, points in wanted.items():
        steps = [step for step, _ in found[key]]
        assert steps == sorted(set(steps)), f"{key} is not strictly increasing"
        missing = {step for step, _ in points} - set(steps)
        assert not missing, f"{key} lacks {sorted(missing)}"
        assert repr(found[key]) == repr(points), f"{key} has other values"


def train(loggers, out, steps=STEPS, pause=0.0):
    """What fit does with loggers: an event, then a row; a checkpoint every few steps, after the evaluation."""
    saved = Path(out) / "checkpoint"
    first = int(saved.read_text()) if saved.exists() else 0
    loggers.begin(first)
    with EventFile(Path(out)) as file:
        file.write({"event": "start"})
        file.write({"event": "resume", "step": first})
        for kind, row in all_rows(steps):
            done = row["step"] + (kind == "step")
            if done <= first:
                continue
            file.write({"event": kind, "time": 0.0, **row})
            loggers.write(row)
            last_of_its_step = kind == "evaluation" or done % 10
            if done % CHECKPOINT == 0 and last_of_its_step:
                beside = saved.with_suffix(".new")
                beside.write_text(str(done))
                beside.replace(saved)
            time.sleep(pause)


def to_file(path):
    """A user's function that keeps rows in a file."""

    def write(row):
        with Path(path).open("a") as file:
            file.write(json.dumps(row) + "\n")

    return write


def from_file(path):
    return [json.loads(line) for line in Path(path).read_text().splitlines()]
