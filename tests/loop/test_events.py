"""The event file: every line is JSON, also of a run that was killed, and nothing non-finite is hidden."""

import errno
import json
import math
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from steepest.events import before, encode, read, rows
from steepest.loop import Step
from steepest.loop.budget import Budget
from steepest.loop.event_file import EventFile
from steepest.loop.journal import ROWS, Journal


class Fake:
    """What a journal asks of a run."""

    def __init__(self, steps):
        self.steps, self.budget = steps, Budget(steps)


def lines(folder):
    text = (folder / "events.jsonl").read_text()
    assert text.endswith("\n")
    return [json.loads(line, parse_constant=pytest.fail) for line in text.splitlines()]


def test_what_is_not_finite_is_null_and_named():
    line = encode({"loss": math.nan, "norm": -math.inf, "deep": {"x": [1.0, math.inf]}})
    event = json.loads(line, parse_constant=pytest.fail)
    assert event == {
        "loss": None, "norm": None, "deep": {"x": [1.0, None]},
        "nonfinite": {"loss": "nan", "norm": "-inf", "deep.x.1": "inf"},
    }  # fmt: skip


def test_what_is_finite_is_written_as_it_is():
    event = {"a": 1, "b": 0.1, "c": "ü\n", "d": None, "e": True, "f": {"g": [1, 2]}}
    assert json.loads(encode(event)) == event
    assert "\n" not in encode(event)
    assert json.loads(encode({"path": torch.device("cpu")})) == {"path": "cpu"}


def test_events_are_appended_and_nothing_is_made_before_the_first(tmp_path):
    folder = tmp_path / "deep" / "run"
    with EventFile(folder) as file:
        assert not folder.exists()
        file.write({"n": 1})
        assert lines(folder) == [{"n": 1}]
    with EventFile(folder) as file:
        file.write({"n": 2})
    assert lines(folder) == [{"n": 1}, {"n": 2}]


def test_a_folder_that_cannot_be_is_refused_at_once(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"cannot be a folder: .*file is a file"):
        EventFile(tmp_path / "file" / "run")


def test_a_folder_that_may_not_be_written_is_refused_at_once():
    with pytest.raises(ValueError, match=r"out='/proc/run' cannot be written: /proc takes no folder \(No such file"):
        EventFile(Path("/proc/run"))


def test_a_journal_keeps_about_a_thousand_rows_and_every_skipped_step(tmp_path):
    steps = 10 * ROWS
    with EventFile(tmp_path) as file:
        journal = Journal(Fake(steps), {"config": {}}, file)
        for index in range(steps):
            step = Step(index, 0, torch.tensor(1.0), {"part": 0.5})
            step.skipped = index in {7, 8}
            journal.step(step)
        journal.evaluation({"step": steps, "val/loss": 0.5})
        journal.end("finished")
    indices = [row["step"] for row in journal.history]
    assert indices == [*sorted({*range(0, steps, 10), 7, 8, steps - 1}), steps]
    assert [row["step"] for row in journal.history if "skipped" in row] == [7, 8]
    assert journal.history[0]["train/part"] == 0.5
    events = lines(tmp_path)
    assert [event["event"] for event in events[:2] + events[-2:]] == ["start", "step", "evaluation", "end"]
    for event, row in zip(events[1:], journal.history, strict=False):
        assert {key: event[key] for key in row} == row


def test_a_run_that_failed_before_its_first_step_leaves_nothing(tmp_path):
    with EventFile(tmp_path / "run") as file:
        Journal(Fake(10), {}, file).end("failed")
    assert not (tmp_path / "run").exists()


KILLED = """
import sys, torch
from pathlib import Path
from steepest.fit import fit
model = torch.nn.Linear(1, 1)
batch = torch.ones(1, 1)
fit(model, lambda model, batch: model(batch).mean() ** 2, [batch], steps=10**6, log=False, out=sys.argv[1],
    optimizer=torch.optim.SGD(model.parameters(), lr=1e-9))
"""


def test_every_line_of_a_killed_run_is_json(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", KILLED, tmp_path])
    deadline = time.monotonic() + 120
    while not (tmp_path / "events.jsonl").exists() or len((tmp_path / "events.jsonl").read_bytes()) < 1000:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    events = lines(tmp_path)
    assert [event["event"] for event in events[:2]] == ["start", "step"]
    assert {event["event"] for event in events[1:]} == {"step"}
    assert events[0]["config"]["steps"] == 10**6
    assert {"steepest", "torch", "python"} == set(events[0]["versions"])


def write(path, *events):
    path.write_bytes(b"".join(encode(event).encode() + b"\n" for event in events))


def test_rows_that_a_resumed_run_made_again_stand_in_place_of_the_old_ones(tmp_path):
    path = tmp_path / "events.jsonl"
    steps = [{"event": "step", "step": index, "train/loss": float(index)} for index in range(5)]
    looks = {"event": "evaluation", "step": 2, "val/loss": 0.5}
    again = {"event": "step", "step": 2, "train/loss": math.nan}
    write(path, {"event": "start"}, *steps[:2], looks, *steps[2:], {"event": "resume", "step": 2}, again)
    found = before(rows(path), 3)
    assert [row["step"] for row in found] == [0, 1, 2, 2]
    assert found[2] == {"step": 2, "val/loss": 0.5}  # made by two updates: it is before the step with index 2
    assert math.isnan(found[3]["train/loss"])
    assert [row["step"] for row in before(rows(path), 1)] == [0]


def test_a_line_that_a_killed_process_did_not_finish_is_left_out_and_then_cut_off(tmp_path):
    path = tmp_path / "events.jsonl"
    path.write_bytes(b'{"event": "start"}\n{"event": "step", "st')
    assert list(read(path)) == [{"event": "start"}]
    with EventFile(tmp_path) as file:
        file.write({"event": "resume", "step": 0})
    assert lines(tmp_path) == [{"event": "start"}, {"event": "resume", "step": 0}]


def test_events_wait_in_memory_while_the_disk_is_full(tmp_path):
    class Full:
        room = 25

        def write(self, data):
            if not self.room:
                raise OSError(errno.ENOSPC, "No space left on device")
            taken = bytes(data[: self.room])
            self.room -= len(taken)
            return kept.write(taken)

        def close(self):
            kept.close()

    said, disk = [], Full()
    with EventFile(tmp_path, said.append) as file, (tmp_path / "events.jsonl").open("wb", buffering=0) as kept:
        file._file = disk
        for number in range(10):
            file.write({"number": number, "more": "words"})
        assert len(said) == 1
        assert "No space left on device" in said[0]
        disk.room = 10**6
        file.write({"number": 10})
    assert [event["number"] for event in lines(tmp_path)] == list(range(11))
