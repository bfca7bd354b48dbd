"""Families of models and data that programs train; a program may as well bring its own."""

import importlib
from functools import cache
from pathlib import Path

from faults.families.task import Task

NAMES = tuple(
    sorted(
        path.stem for path in Path(__file__).parent.glob("[a-z]*.py") if path.stem not in ("batches", "scores", "task")
    )
)


@cache
def task(name: str) -> Task:
    """Return what the family of that name offers; its data are made once."""
    return importlib.import_module(f"faults.families.{name}").task()
