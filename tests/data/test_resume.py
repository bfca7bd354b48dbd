"""A run that goes on in a new process reads the batches that it would have read without a break, bit by bit."""

import subprocess
import sys
from pathlib import Path

import pytest
import resuming
import torch

PROGRAM = Path(resuming.__file__)
OURS = ("arrays", "dataset", "text", "own state", "own state, ended")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """What the program found, each half in a process of its own."""
    folder = tmp_path_factory.mktemp("resume")
    for action in ("run", "resume"):
        command = [sys.executable, "-W", "error", str(PROGRAM), action, str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)
        assert done.returncode == 0, done.stderr
    return torch.load(folder / "run"), torch.load(folder / "resumed")


def wrong(runs, case):
    """Law: from every point on the steps are those of the run without a break. The points where they are not."""
    whole, resumed = runs[0][case]["steps"], runs[1][case]
    assert len(whole) == resuming.STEPS
    return [done for done, found in resumed.items() if found["steps"] != whole[done:]]


@pytest.mark.parametrize("case", [case for case in resuming.CASES if case != "breach"])
def test_a_resumed_run_reads_what_it_would_have_read(runs, case):
    assert wrong(runs, case) == []


def test_the_law_sees_a_loader_that_is_read_again_with_other_random_numbers(runs):
    assert wrong(runs, "breach") == list(resuming.POINTS)  # in those that begin an epoch, at the second break


def test_epochs_differ_where_they_are_shuffled(runs):
    for case in ("arrays", "dataset", "text", "shuffle", "sampler of epochs", "sampler, own generator"):
        steps = [batch for _, batch, _ in runs[0][case]["steps"]]
        assert steps[:3] != steps[5:8], case


def test_reading_again_is_said_once_and_only_where_it_happens(runs):
    for case, resumed in runs[1].items():
        said = {done: found["said"] for done, found in resumed.items()}
        if case in OURS or case == "breach":
            assert not any(said.values()), case
        elif case == "iterator":
            assert said[6] == ["Reading 6 batches of the iterator again, to go on after them."]
        else:
            assert said[0] == [], case
            assert said[1] == ["Reading 1 batch of epoch 0 again, to go on after them."], case
    assert "persistent workers" in runs[1]["workers that persist"][8]["said"][0]
    assert "persistent workers" not in runs[1]["workers"][8]["said"][0]
