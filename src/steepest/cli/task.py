"""A task from a file: `task.py:task`."""

import importlib.util
import sys
from dataclasses import fields
from pathlib import Path
from types import ModuleType
from typing import Any

from steepest.fit import Result, fit
from steepest.loop import Task, checks
from steepest.pilot import Plan, plan
from steepest.snapshot import seed_everything
from steepest.spelling import meant


def fit_task(reference: str, budget: dict[str, Any], given: dict[str, Any], *, seed: int, **more: Any) -> Result:
    """Load a task and train it. budget, given: settings that take the place of the task's own."""
    checks.check_seed(seed)
    seed_everything(seed)
    task = load_task(reference)
    settings = {each.name: getattr(task, each.name) for each in fields(task)} | given
    if any(value is not None for value in budget.values()):
        settings |= budget
    return fit(**settings, seed=seed, **more)


def plan_task(reference: str, steps: int | None, *, seed: int) -> Plan:
    """Load a task and return how it would be trained. steps: in place of the task's budget."""
    checks.check_seed(seed)
    seed_everything(seed)
    task = load_task(reference)
    if task.optimizer is not None:
        raise ValueError(f"{reference} brings an optimizer, so there is nothing to plan; leave optimizer= out.")
    own = {"steps": task.steps, "epochs": task.epochs, "time": task.time}
    budget = own if steps is None else {"steps": steps}
    return plan(task.model, task.loss, task.data, **budget, batch_size=task.batch_size, seed=seed)


def load_task(reference: str) -> Task:
    """Return what the function at "FILE.py:FUNCTION" returns; raise a sentence unless it is a Task."""
    file, _, name = reference.rpartition(":")
    if not file or not name:
        raise ValueError(f"A task is named FILE.py:FUNCTION, as in task.py:task; received {reference!r}.")
    path = Path(file)
    if not path.is_file():
        folder = path.parent if path.parent.is_dir() else Path()
        files = sorted(each.name for each in folder.glob("*.py"))
        raise ValueError(f"There is no file {file!r} in {folder.absolute()}; {meant(path.name, files)}")
    if path.suffix != ".py":
        raise ValueError(f"A task is a function in a Python file, FILE.py:FUNCTION; {file!r} does not end in .py.")
    module = _load(path)
    function = getattr(module, name, None)
    if function is None:
        names = [each for each, value in vars(module).items() if callable(value) and not each.startswith("_")]
        raise ValueError(f"{file} has no function {name!r}; {meant(name, names)}")
    if not callable(function):
        raise TypeError(f"{reference} is of type {type(function).__name__}; expected a function that returns a Task.")
    task = function()
    if not isinstance(task, Task):
        raise TypeError(
            f"{reference} returned an object of type {type(task).__name__}; expected a Task: "
            "return steepest.Task(model, loss, data, steps=...)."
        )
    return task


def _load(path: Path) -> ModuleType:
    """Run the file as a module of its own, with its folder on the import path as `python FILE.py` has it."""
    name = f"steepest_task_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(path.absolute().parent))
    sys.modules[name] = module  # so that worker processes find the functions of the file again
    spec.loader.exec_module(module)
    return module
