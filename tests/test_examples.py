"""The examples run as a newcomer runs them, and notice when training does not work."""

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("*.py"))


def call(*command):
    return subprocess.run([sys.executable, *command], capture_output=True, text=True, check=False, timeout=250)


def test_there_are_examples():
    assert {"digits.py", "diabetes.py"} <= {path.name for path in EXAMPLES}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_runs_and_finds_that_training_worked(path):
    done = call(path)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "finished" in done.stdout


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_fails_when_nothing_is_learned(path):
    code = (
        "import runpy, sys, torch, steepest.optim\n"
        "steepest.optim.Optimizer.step = lambda self, closure=None: None\n"
        "runpy.run_path(sys.argv[1], run_name='__main__')"
    )
    done = call("-c", code, path)
    assert done.returncode == 1
    assert "training did not work" in done.stderr


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_short_and_is_a_task_for_the_command_line(path):
    assert len(path.read_text().splitlines()) < 80
    done = call("-c", "from steepest.cli import main; main()", "fit", f"{path}:task", "--steps", "2")
    assert done.returncode == 0, done.stderr
    assert "finished 2 steps" in done.stdout
