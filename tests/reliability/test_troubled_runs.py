"""A full disk, a folder that may not be written, a quota, a clock that jumps: the run lives, and says what it lacks."""

import shutil
import time

import pytest
from reliability import disk

from steepest.checkpoint import disk as of_checkpoints, writing


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    out = tmp_path_factory.mktemp("whole")
    disk.train(out)
    return disk.Trace(out).outcome()


@pytest.mark.parametrize("trouble", [disk.full_disk, disk.unwritable, disk.quota, disk.clock])
def test_the_run_lives(trouble, tmp_path, whole):
    row = trouble(tmp_path, whole)
    if row.result.startswith("not measured"):
        pytest.skip(row.result)
    assert row.met


def test_a_time_budget_holds_while_the_clock_jumps(tmp_path):
    assert disk.clock_and_time(tmp_path).met


def test_silence_is_found(tmp_path, whole, monkeypatch):
    monkeypatch.setattr(writing, "_failure", lambda *given: "something went wrong")
    assert not disk.quota(tmp_path, whole).met


def test_removing_before_writing_is_found(tmp_path, whole, monkeypatch):
    """The planted fault: the last good checkpoint goes first, to make room."""
    write = writing.write

    def careless(order, run, lock):
        for _, path in of_checkpoints.steps(order.folder) if order.folder.is_dir() else []:
            shutil.rmtree(path)
        yield from write(order, run, lock)

    monkeypatch.setattr("steepest.checkpoint.checkpoints.write", careless)
    assert not disk.quota(tmp_path, whole).met


def test_a_budget_by_the_wrong_clock_is_found(tmp_path, monkeypatch):
    monkeypatch.setattr("steepest.loop.run.perf_counter", lambda: time.time())
    assert not disk.clock_and_time(tmp_path).met
