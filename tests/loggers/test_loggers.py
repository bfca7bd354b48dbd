"""Loggers cannot hurt a run: not by raising, not by sleeping, not by what they are asked to hold."""

import importlib.util
import json
import os
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import pytest
from planted import all_rows, check_series, expected, series_of, train
from torch.utils.data import DataLoader

from steepest.events import rows
from steepest.loggers import Loggers, delivery, loggers as rooms, queue


def made(log, out=None, config=None):
    return Loggers(log, out=out, run="test", config=config or {"steps": 1})


def test_rows_arrive_in_order_and_whole(tmp_path):
    got = []
    loggers = made(got.append, tmp_path)
    train(loggers, tmp_path)
    loggers.close("finished")
    assert repr(got) == repr([row for _, row in all_rows()])
    assert loggers.problems() == []


@pytest.mark.parametrize("breach", ["doubles", "loses", "changes", "turns"])
def test_the_law_sees_a_logger_that_doubles_loses_changes_or_turns_rows(breach):
    got = [row for _, row in all_rows()]
    check_series(series_of(got), expected())
    if breach == "doubles":
        got.insert(20, got[20])
    elif breach == "loses":
        del got[20]
    elif breach == "changes":
        got[5] = got[5] | {"train/loss": 0.0}
    else:
        got[22], got[23] = got[23], got[22]
    with pytest.raises(AssertionError):
        check_series(series_of(got), expected())


def test_each_logger_has_its_own_thread_and_a_slow_one_holds_up_nobody(tmp_path, monkeypatch):
    monkeypatch.setattr(rooms, "CLOSING", 1.0)
    got, threads = [], set()

    def slow(row):
        threads.add(threading.get_ident())
        time.sleep(5)

    loggers = made([slow, got.append], tmp_path)
    began = time.perf_counter()
    train(loggers, tmp_path)
    assert time.perf_counter() - began < 2
    deadline = time.monotonic() + 5
    while len(got) < len(all_rows()) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(got) == len(all_rows())
    began = time.perf_counter()
    loggers.close("finished")
    assert time.perf_counter() - began < 3
    (problem,) = loggers.problems()
    assert f"too slow: {len(all_rows()) - 1} rows did not reach it" in problem
    assert "a resumed run sends them" in problem
    assert loggers.problems() == []
    assert threading.get_ident() not in threads


def test_a_logger_that_raises_is_left_out_after_three_failures_in_a_row(tmp_path):
    calls, got = [], []

    def raising(row):
        calls.append(row["step"])
        raise OSError("no\nspace")

    loggers = made([raising, got.append], tmp_path)
    train(loggers, tmp_path)
    loggers.close("finished")
    assert calls == [0, 1, 2]
    assert len(got) == len(all_rows())
    assert loggers.problems() == [
        "log='function' failed at step 0; training goes on: OSError: no space",
        "log='function' failed 3 times in a row and is left out from now on; training goes on: OSError: no space",
    ]


def test_a_logger_that_raises_now_and_then_stays(tmp_path):
    got = []

    def picky(row):
        got.append(row["train/loss"])

    loggers = made(picky, tmp_path)
    train(loggers, tmp_path)
    loggers.close("finished")
    assert len(got) == 300
    assert loggers.problems() == [
        "log='function' failed at step 10; training goes on: KeyError: 'train/loss'",
        "log='function' failed 30 times in all.",
    ]


def test_even_leaving_the_process_is_only_a_failure(tmp_path):
    loggers = made(lambda row: sys.exit(1), tmp_path)
    train(loggers, tmp_path, steps=5)
    loggers.close("finished")
    assert "SystemExit: 1" in loggers.problems()[0]


def test_a_stalled_logger_is_reported_once_while_training_goes_on(monkeypatch):
    monkeypatch.setattr(importlib.import_module("steepest.loggers.troubles"), "STALL", 0.3)
    go = threading.Event()
    loggers = made(lambda row: go.wait(30))
    loggers.begin(0)
    time.sleep(0.5)
    assert loggers.problems() == []  # idle is not stalled
    loggers.write({"step": 0, "train/loss": 1.0})
    time.sleep(1.0)
    assert "has been busy with one call" in loggers.problems()[0]
    assert loggers.problems() == []
    go.set()
    loggers.close("finished")


def test_what_does_not_fit_in_memory_waits_in_the_event_file(tmp_path, monkeypatch):
    monkeypatch.setattr(queue.Queue.__init__, "__defaults__", (20,))
    got, go = [], threading.Event()

    def slow_at_first(row):
        go.wait(30)
        got.append(row)

    loggers = made(slow_at_first, tmp_path)
    train(loggers, tmp_path)
    assert len(loggers._deliveries[0].queue._items) <= 20
    go.set()
    loggers.close("finished")
    assert loggers.problems() == []
    check_series(series_of(got), expected())


def test_without_an_event_file_the_oldest_rows_make_room_and_are_counted(monkeypatch):
    monkeypatch.setattr(queue.Queue.__init__, "__defaults__", (20,))
    got, go = [], threading.Event()

    def slow_at_first(row):
        go.wait(30)
        got.append(row)

    loggers = made(slow_at_first)
    loggers.begin(0)
    for step in range(100):
        loggers.write({"step": step, "train/loss": 1.0})
    go.set()
    loggers.close("finished")
    assert [row["step"] for row in got][-20:] == list(range(80, 100))
    assert f"missed {100 - len(got)} rows" in loggers.problems()[0]


def test_write_takes_microseconds_beside_a_logger_that_sleeps():
    loggers = made([lambda row: time.sleep(5)] * 3)
    row = {"step": 0, "train/loss": 1.0, "lr": 0.1, "grad_norm": 1.0, "epoch": 0, "seconds": 0.1}
    best = float("inf")
    for _ in range(20):
        began = time.perf_counter()
        for _ in range(100):
            loggers.write(row)
        best = min(best, time.perf_counter() - began)
    assert best / 100 < 50e-6


def test_a_forked_process_sends_nothing(tmp_path):
    got = []
    loggers = made(got.append)
    loggers.begin(0)
    loggers._process = os.getpid() + 1  # as it is in a child
    loggers.write({"step": 0, "train/loss": 1.0})
    loggers.close("finished")
    loggers._process = os.getpid()
    loggers.close("finished")
    assert got == []


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")  # Python 3.12, of any fork
def test_workers_of_a_loader_are_forked_beside_loggers(tmp_path):
    names = ["tensorboard"] if importlib.util.find_spec("tensorboard") else []
    got = []
    loggers = made([got.append, *names], tmp_path)
    loggers.begin(0)
    rows = 0
    for _ in range(2):
        loader = DataLoader(list(range(100)), num_workers=2, multiprocessing_context="fork")
        for _ in loader:
            loggers.write({"step": rows, "train/loss": 1.0})
            rows += 1
    loggers.close("finished")
    assert loggers.problems() == []
    assert [row["step"] for row in got] == list(range(200))


def test_no_package_is_imported_before_it_is_chosen():
    names = ("tensorboard", "wandb", "mlflow", "trackio", "torch")
    code = f"import sys, steepest.loggers; sys.exit(str([name for name in {names} if name in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr.strip() == "[]"


def test_messages_keep_their_place_and_functions_get_none(tmp_path):
    got = []
    loggers = made(got.append)
    loggers.begin(0)
    loggers.say("title", "text")
    loggers.write({"step": 0, "train/loss": 1.0})
    loggers.close("finished")
    assert got == [{"step": 0, "train/loss": 1.0}]
    assert loggers.problems() == []


def test_half_written_and_replaced_lines_of_the_event_file_are_not_rows(tmp_path):
    path = tmp_path / "events.jsonl"
    events = [
        {"event": "start"}, {"event": "step", "step": 0, "a": 9}, {"event": "resume", "step": 0},
        {"event": "step", "step": 0, "a": 0}, {"event": "step", "step": 1, "a": 1},
        {"event": "evaluation", "step": 1, "val/loss": None, "nonfinite": {"val/loss": "-inf"}},
        {"event": "evaluation", "step": 2, "val/loss": 2}, {"event": "finding", "step": 0},
        {"event": "start"}, {"event": "resume", "step": 1}, {"event": "step", "step": 1, "a": 10},
    ]  # fmt: skip
    text = "".join(json.dumps(event) + "\n" for event in events)
    path.write_text(text + '{"event": "step", "step": 2, "a": 2}')
    assert rows(path) == [
        {"step": 0, "a": 0}, {"step": 1, "val/loss": -float("inf")}, {"step": 1, "a": 10},
    ]  # fmt: skip
    assert rows(tmp_path / "none") == []


def test_a_new_run_in_an_old_folder_is_a_new_run(tmp_path):
    for status, config, again in [("finished", 1, 5), ("failed", 2, 5), (None, 3, 5), (None, 3, 0), (None, 4, 5)]:
        got = []
        loggers = made(got.append, tmp_path, {"lr": config})
        loggers.begin(0)
        for step in range(5):
            loggers.write({"step": step, "train/loss": 1.0})
        if status is None:
            loggers._deliveries[0]._memory.record = lambda status=None, record=loggers._deliveries[0]._memory.record: (
                record(None)
            )
        loggers.close(status or "killed")
        assert len(got) == again, (status, config)


REFUSED = [
    ("tensorbord", ValueError, r"log='tensorbord' is not a logger: did you mean 'tensorboard'\?"),
    (3, TypeError, "log= takes one of tensorboard, wandb, mlflow, trackio, a function that takes a row, .*; not 3"),
    (["tensorboard", None], TypeError, "not None"),
    (["tensorboard", "tensorboard"], ValueError, "twice"),
]


@pytest.mark.parametrize(("log", "kind", "words"), REFUSED)
def test_what_cannot_be_is_refused_at_once(log, kind, words, tmp_path):
    with pytest.raises(kind, match=words):
        made(log, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_name_that_needs_a_folder_says_so():
    pytest.importorskip("tensorboard")
    with pytest.raises(ValueError, match="give out= as well"):
        made("tensorboard")


def test_a_missing_package_is_named_with_how_to_get_it(tmp_path, monkeypatch):
    names = importlib.import_module("steepest.loggers.names")
    monkeypatch.setattr(names, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"log='wandb' needs the package wandb: pip install 'steepest\[wandb\]'"):
        made("wandb", tmp_path)


class Refusing:
    """W&B without a key or a server, as far as it is asked before training; nothing here reaches a network."""

    Error = RuntimeError

    def __init__(self, answer):
        self.answer = answer

    def setup(self):
        return SimpleNamespace(settings=SimpleNamespace(mode="online"))

    def login(self):
        if self.answer is not None:
            raise self.answer
        return False


@pytest.mark.parametrize(
    ("answer", "words"), [(None, "has no key of W&B here"), (RuntimeError("no route"), "RuntimeError: no route")]
)
def test_a_login_that_fails_is_refused_before_training(tmp_path, monkeypatch, answer, words):
    module = importlib.import_module("steepest.loggers.wandb")
    monkeypatch.setattr(module, "import_module", lambda name: Refusing(answer))
    with pytest.raises(ValueError, match=f"log='wandb' .*{words}.*WANDB_MODE=offline"):
        module.WandB(tmp_path, "test")


def test_a_mere_folder_of_the_name_is_not_the_package(tmp_path, monkeypatch):
    (tmp_path / "steepest_no_package").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    names = importlib.import_module("steepest.loggers.names")
    assert not names._installed("steepest_no_package")
    assert names._installed("json")


def test_a_logger_that_cannot_be_opened_costs_the_run_nothing(tmp_path, monkeypatch):
    def broken(self, key, config):
        raise ConnectionError("nobody there")

    monkeypatch.setattr("steepest.loggers.function.Function.start", broken)
    loggers = made(lambda row: None, tmp_path)
    train(loggers, tmp_path, steps=5)
    loggers.close("finished")
    assert loggers.problems() == [
        "log='function' could not be opened, so the run goes on without it: ConnectionError: nobody there"
    ]


def test_training_waits_a_bounded_time_for_a_logger_that_opens_slowly(monkeypatch):
    monkeypatch.setattr(rooms, "OPENING", 0.2)
    go = threading.Event()
    monkeypatch.setattr(
        "steepest.loggers.function.Function.start",
        lambda self, key, config: (None, None) if go.wait(30) else (None, {}),
    )
    got = []
    loggers = made(got.append)
    began = time.perf_counter()
    loggers.begin(0)
    assert time.perf_counter() - began < 2
    loggers.write({"step": 0, "train/loss": 1.0})
    go.set()
    loggers.close("finished")
    assert len(got) == 1


def test_the_memory_is_written_about_once_a_second_and_at_the_end(tmp_path, monkeypatch):
    records = []
    monkeypatch.setattr("steepest.loggers.function.Function.start", lambda self, key, config: ("k", {}))
    loggers = made(lambda row: None, tmp_path)
    memory = loggers._deliveries[0]._memory
    record = memory.record
    monkeypatch.setattr(memory, "record", lambda status=None: (records.append(status), record(status)))
    loggers.begin(0)
    for step in range(1000):
        loggers.write({"step": step, "train/loss": 1.0})
    time.sleep(1)
    loggers.close("finished")
    assert len(records) <= 5
    found = json.loads((tmp_path / "loggers" / "function.json").read_text())
    assert (found["key"], found["last"], found["status"]) == ("k", {"step": 999}, "finished")
    assert delivery.RECORD == 1.0
