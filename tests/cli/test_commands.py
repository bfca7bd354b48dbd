"""The command line: exit codes, one sentence for every mistake, nothing half-written."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys

import pytest

from steepest.cli import main

TASK = """
import torch
import steepest as st

def loss(model, batch):
    x, y = batch
    return torch.nn.functional.mse_loss(model(x), y)

def task():
    x = torch.randn(32, 3)
    return st.Task(torch.nn.Linear(3, 1), loss, (x, x.sum(1, keepdim=True)), epochs=4, batch_size=16)

def nothing():
    pass

def wrong_shape():
    return st.Task(torch.nn.Linear(3, 1), lambda model, batch: model(batch[0]), (torch.ones(4, 3),), steps=2)

def own_error():
    def loss(model, batch):
        return model(batch).mean() / int("a b")
    return st.Task(torch.nn.Linear(3, 1), loss, torch.ones(4, 3), steps=2)

def layers_do_not_fit():
    return st.Task(torch.nn.Linear(2, 1), lambda model, batch: model(batch).mean(), torch.ones(4, 3), steps=2)

def not_finite():
    return st.Task(torch.nn.Linear(3, 1), lambda m, batch: m(batch).mean() * float("nan"), torch.ones(4, 3), steps=20)

def two_budgets():
    return st.Task(torch.nn.Linear(3, 1), loss, torch.ones(4, 3), steps=3, epochs=2)

def misspelt():
    return st.Task(torch.nn.Linear(3, 1), loss, torch.ones(4, 3), stepz=3)

def cannot_train():
    return st.Task(torch.nn.Linear(3, 1).requires_grad_(False), loss, torch.ones(4, 3), steps=2)

def slow():
    import time

    def loss(model, batch):
        print("slow", flush=True)
        time.sleep(0.2)
        return model(batch).mean()
    model = torch.nn.Linear(3, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    return st.Task(model, loss, torch.ones(4, 3), steps=10**6, optimizer=optimizer)

value = 3

def for_ever():
    return st.Task(torch.nn.Linear(3, 1), loss, task().data)

def a_minute():
    return st.Task(torch.nn.Linear(3, 1), loss, task().data, time="1m")
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with a task file, in which commands run."""
    (tmp_path / "task.py").write_text(TASK)
    (tmp_path / "broken.py").write_text("import no_such_package\n")
    (tmp_path / "unfinished.py").write_text("def task(:\n")
    (tmp_path / "task.txt").write_text("")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    return tmp_path


def call(capsys, *arguments):
    with pytest.raises(SystemExit) as caught:
        main(list(arguments))
    out, err = capsys.readouterr()
    return caught.value.code or 0, out, err


def test_a_task_is_trained_and_told(here, capsys):
    code, out, err = call(capsys, "fit", "task.py:task", "--out", "run", "--seed", "3")
    assert (code, err) == (0, "")
    assert re.search(r"finished 8 steps in .* s; events in run/events\.jsonl\n$", out)
    events = [json.loads(line) for line in (here / "run" / "events.jsonl").read_text().splitlines()]
    assert (events[0]["config"]["seed"], events[-1]["status"]) == (3, "finished")
    assert "\x1b" not in out


def test_a_budget_on_the_line_replaces_the_tasks_own(here, capsys):
    assert "finished 5 steps" in call(capsys, "fit", "task.py:task", "--steps", "5")[1]
    assert "finished 6 steps" in call(capsys, "fit", "task.py:task", "--epochs", "3")[1]


def test_a_plan_is_told_and_kept(here, capsys):
    code, out, err = call(capsys, "plan", "task.py:task", "--steps", "100", "--out", "plan.json")
    assert (code, err) == (0, "")
    assert out.startswith("inputs    in units of their deviation")
    assert json.loads((here / "plan.json").read_text())["settings"]["rate"] == 0.1
    call(capsys, "plan", "task.py:task", "--out", "plan.json")
    assert json.loads((here / "plan.json").read_text())["spent"] == 0  # eight steps are not worth a measurement
    assert "schedule  warmup(50)" in call(capsys, "plan", "task.py:for_ever")[1]
    assert "schedule  warmup(0.05) * linear()" in call(capsys, "plan", "task.py:a_minute")[1]
    assert "schedule  warmup(0.05) * linear()" in call(capsys, "plan", "task.py:a_minute", "--steps", "100")[1]
    code, out, err = call(capsys, "plan", "task.py:slow")
    assert (code, out) == (2, "")
    assert "brings an optimizer" in err


def losses(here, capsys, seed):
    call(capsys, "fit", "task.py:task", "--out", f"run{seed}", "--seed", str(seed))
    lines = (here / f"run{seed}" / "events.jsonl").read_text().splitlines()
    shutil.rmtree(here / f"run{seed}")
    return [event["train/loss"] for event in map(json.loads, lines) if event["event"] == "step"]


def test_the_seed_decides_model_and_data(here, capsys):
    first = losses(here, capsys, 1)
    assert losses(here, capsys, 1) == first
    assert losses(here, capsys, 2) != first


def test_the_same_command_goes_on_and_verify_says_what_is_sound(here, capsys):
    command = ("fit", "task.py:task", "--out", "run", "--checkpoint-every", "1")
    assert "finished 4 steps" in call(capsys, *command, "--steps", "4")[1]
    again = call(capsys, *command, "--steps", "4")[1]
    assert "this run has finished at step 4" in again
    assert "loss" not in again
    assert "going on from step 4" in call(capsys, *command, "--steps", "6")[1]
    code, out, _ = call(capsys, "verify", "run")
    assert (code, out.count(": sound\n")) == (0, 2)
    state = here / "run" / "checkpoints" / "step-000000006" / "state.json"
    state.write_bytes(state.read_bytes().replace(b"6", b"7", 1))
    code, out, _ = call(capsys, "verify", "run")
    assert code == 1
    assert "state.json" in out
    code, _, err = call(capsys, "verify", "nowhere")
    assert code == 2
    assert err.startswith("error: nowhere is not a folder")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_saves_and_says_how_to_go_on(here, number):
    command = [sys.executable, "-m", "steepest", "fit", "task.py:slow", "--out", "run"]
    process = subprocess.Popen(command, cwd=here, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert "slow\n" in iter(process.stdout.readline, "")
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130 if number == signal.SIGINT else 0, "")
    assert out.splitlines()[-1] == "to go on: steepest fit task.py:slow --out run"
    assert list((here / "run" / "checkpoints").glob("step-*"))


MISTAKES = {
    "no file": ("tusk.py:task", "There is no file 'tusk.py' in ", "did you mean 'task.py'?"),
    "no function": ("task.py:tsk", "task.py has no function 'tsk'; did you mean 'task'?"),
    "far from any": ("task.py:xyzzy", "task.py has no function 'xyzzy'; there are loss, task, nothing"),
    "no colon": ("task.py", "A task is named FILE.py:FUNCTION, as in task.py:task; received 'task.py'."),
    "no python": ("task.txt:task", "'task.txt' does not end in .py"),
    "no call": ("task.py:value", "task.py:value is of type int; expected a function that returns a Task"),
    "returns nothing": ("task.py:nothing", "returned an object of type NoneType; expected a Task: return"),
    "import": ("broken.py:task", "ModuleNotFoundError: No module named 'no_such_package'", "broken.py:1)"),
    "syntax": ("unfinished.py:task", "SyntaxError: invalid syntax"),
    "loss": ("task.py:wrong_shape", "The loss has shape [4, 1]; expected one number.", "This was step 0"),
    "own error": ("task.py:own_error", "invalid literal for int()", "task.py:21)", "with the batch float32[4, 3]"),
    "shapes": ("task.py:layers_do_not_fit", "RuntimeError: mat1 and mat2 shapes cannot be multiplied", "task.py:25)"),
    "two budgets": ("task.py:two_budgets", "A run has one budget, steps=, epochs= or time=, or none; received steps=3"),
    "misspelt": ("task.py:misspelt", "unexpected keyword argument 'stepz'", "task.py:34)"),
    "frozen": ("task.py:cannot_train", "The model Linear has no parameter that requires a gradient"),
}


@pytest.mark.parametrize("task", MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_one_sentence_exit_2_and_nothing_written(task, here, capsys):
    before = sorted(here.iterdir())
    code, out, err = call(capsys, "fit", task[0], "--out", "run")
    assert code == 2
    assert err.startswith("error: ")
    assert "Traceback" not in err + out
    for part in task[1:]:
        assert part in err
    assert sorted(path for path in here.iterdir() if path.name != "__pycache__") == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fit", "task.py:task", "--steps", "0"], "steps is 1 or more; received 0."),
        (["fit", "task.py:task", "--steps", "3", "--epochs", "2"], "received steps=3 and epochs=2"),
        (["fit", "task.py:task", "--seed", "-1"], "seed is a whole number, 0 or more, below 2**63; received -1"),
        (["fit", "task.py:task", "--out", "task.py"], "cannot be a folder: "),
        (["fit", "task.py:task", "--device", "gpu"], "gpu"),
        (["fit", "task.py:task", "--steps", "many"], "Invalid value for '--steps'"),
        (["demo", "--steps", "0"], "Invalid value for '--steps'"),  # before the demo begins to talk
        (["demo", "--seed", "-1"], "Invalid value for '--seed'"),
        (["fit"], "Missing argument 'task'"),
        (["fitt"], "No such command 'fitt'. Did you mean 'fit'?"),
        (["fit", "task.py:task", "--stepz", "3"], "No such option: --stepz"),
        (["rules", "adamww"], "There is no rule 'adamww'; did you mean 'adamw'?"),
        (["rules", "xyzzy"], "There is no rule 'xyzzy'; there are adabelief"),
        (["check", "torch.optim:SGDD"], "did you mean 'SGD'?"),
        (["check", "torch.optim:SGD", "lr"], "name=value"),
    ],
)
def test_arguments_that_make_no_sense_exit_2(arguments, message, here, capsys):
    code, out, err = call(capsys, *arguments)
    assert code == 2
    assert message in err
    assert not out
    assert "Traceback" not in err
    assert not (here / "run").exists()


def test_debug_shows_the_traceback_wherever_it_stands(here, capsys):
    for arguments in (["--debug", "fit", "task.py:tsk"], ["fit", "task.py:tsk", "--debug"]):
        code, _, err = call(capsys, *arguments)
        assert code == 2
        assert err.startswith("Traceback")
        assert "has no function 'tsk'" in err


def test_a_training_that_fails_exits_1(here, capsys):
    code, out, err = call(capsys, "fit", "task.py:not_finite", "--out", "run")
    assert code == 1
    assert err.startswith("error: Loss or gradient were not finite at steps 0 to 9, 10 in a row (the last loss is nan)")
    assert "1 skipped: not finite" in out
    assert json.loads((here / "run" / "events.jsonl").read_text().splitlines()[-1])["status"] == "failed"


def test_an_interrupt_exits_130(here):
    slow = TASK.replace("    x, y = batch\n", "    x, y = batch\n    print('step', flush=True)\n    time.sleep(0.2)\n")
    (here / "slow.py").write_text("import time\n" + slow)
    command = [sys.executable, "-c", "from steepest.cli import main; main()", "fit", "slow.py:task", "--steps", "40"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(os.environ))
    while process.stdout.readline() != "step\n":
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, "")
    assert "interrupted after " in out


def test_neighbours_of_the_task_file_can_be_imported(here, capsys):
    folder = here / "deep"
    folder.mkdir()
    (folder / "neighbour_of_task.py").write_text("STEPS = 2\n")
    changed = TASK.replace("epochs=4", "steps=STEPS")
    (folder / "train.py").write_text("from neighbour_of_task import STEPS\n" + changed)
    assert "finished 2 steps" in call(capsys, "fit", "deep/train.py:task")[1]


def test_rules_are_listed_and_shown(capsys):
    code, out, _ = call(capsys, "rules")
    assert code == 0
    assert re.search(r"^adamw +AdamW +m v", out, re.MULTILINE)
    for name in ("adamw", "AdamW", "ADAMW"):
        assert "def adamw(p, g, m, v" in call(capsys, "rules", name)[1]


def test_check_tells_whether_laws_are_kept(monkeypatch, capsys):
    from steepest import testing

    report = testing.report
    law = "rate-zero-moves-nothing"
    monkeypatch.setattr(testing, "report", lambda name, **options: report(name, [law], **options))
    monkeypatch.setattr(sys, "path", [*sys.path])
    code, out, _ = call(capsys, "check", "torch.optim:SGD", "lr=0.1")
    assert (code, out) == (0, f"✓ {law}\nSGD(lr=0.1): 1 kept of 1 laws\n")
    law = "bad-rate-is-refused"
    code, out, _ = call(capsys, "check", "torch.optim:SGD", "lr=0.1")
    assert code == 1
    assert out.startswith(f"✗ {law}")


def test_help_needs_no_torch():
    code = (
        "import sys\nfrom steepest.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass\n"
        "sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    for command in ("demo", "fit", "rules", "check", "bench"):
        assert command in done.stdout


def test_the_cost_of_the_loop_can_be_measured(monkeypatch, capsys):
    from steepest.cli import loop_cost

    monkeypatch.setattr(loop_cost, "STEPS", 40)
    monkeypatch.setattr(loop_cost, "TURN", 10)
    code, out, _ = call(capsys, "bench", "loop")
    assert code == 0
    assert re.search(r"^by hand +\d+\.\d us/step +\+0\.0$", out, re.MULTILINE)
    assert re.search(r"^Run +\d+\.\d us/step +[+-]\d+\.\d$", out, re.MULTILINE)
